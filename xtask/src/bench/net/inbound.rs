//! From the host to a published port: ours, beside dockerd's proxy in a machine behind QEMU's user network.
//!
//! ```text
//!   client ─┬─► lighter's listener ─► vsock ─► a container in our machine
//!           ├─► slirp's hostfwd ─► docker-proxy ─► a container in a machine of the same kernel
//!           └─► docker-proxy ─► a container on the host itself: the floor
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lighter_tests::Reference;
use serde_json::json;

use super::super::Row;
use super::super::flush::Flush;
use super::super::ours::Ours;
use super::super::samples::Samples;
use super::super::sides::Tools;
use super::measures::{self, Measure};
use super::place;
use super::program::{self, NAME, Order, PORT};
use super::proxied::Proxied;
use crate::{image_archive, usage};

/// The place of its rows' names.
const SIDES: [usize; 1] = [2];
const PEER: &str = "slirp's hostfwd and docker-proxy";
/// Its place among the sides.
const PROXIED: usize = 1;
const IMAGE: &str = "lighter-bench/wire";
/// Longest until a container answers.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures what is wanted.
///
/// # Errors
///
/// When a side does not come up, or an order fails.
pub fn rows(tools: &Tools, pairs: usize, only: Option<&str>) -> Result<Vec<Row>> {
    let wanted: Vec<&'static Measure> = measures::ALL
        .iter()
        .filter(|measure| measure.is_wanted(only, &SIDES))
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    place::within(|| {
        let folder = tempfile::tempdir()?;
        let program = program::build(folder.path())?;
        let archive = image(&program, folder.path())?;
        let sides = Sides::start(tools, &program, &archive)?;
        let mut rows = Vec::new();
        for measure in wanted {
            rows.extend(sides.in_turn(measure, pairs)?);
        }
        Ok(rows)
    })
}

/// An image of the program alone.
fn image(program: &Path, folder: &Path) -> Result<PathBuf> {
    let (root, archive) = (folder.join("root"), folder.join("image.tar"));
    std::fs::create_dir(&root)?;
    std::fs::copy(program, root.join(NAME))?;
    let config = json!({ "Entrypoint": [format!("/{NAME}"), "serve", PORT.to_string()] });
    image_archive::write(&root, &format!("{IMAGE}:latest"), &config, &archive)?;
    Ok(archive)
}

struct Sides<'a> {
    ours: Ours<'a>,
    proxied: Proxied,
    native: Reference,
    program: &'a Path,
}

impl<'a> Sides<'a> {
    fn start(tools: &'a Tools, program: &'a Path, archive: &Path) -> Result<Self> {
        let ours = Ours::new(&tools.built, &Flush::own())?;
        ours.lighter(&["up"])?;
        let proxied = Proxied::start(tools, program)?;
        let native = Reference::with(tools.folder(), tools.docker_path())
            .context("dockerd does not start on this machine itself")?;
        let sides = Self {
            ours,
            proxied,
            native,
            program,
        };
        let archive = archive.display().to_string();
        let published = format!("{PORT}:{PORT}");
        for (at, socket) in [
            sides.ours.socket(),
            sides.proxied.socket(),
            sides.native.socket(),
        ]
        .iter()
        .enumerate()
        {
            tools.docker(socket, &["load", "-q", "-i", &archive])?;
            tools.docker(socket, &["run", "-d", "-p", &published, IMAGE])?;
            sides.wait(at)?;
        }
        Ok(sides)
    }

    /// Until its container answers: it has no event for that.
    fn wait(&self, side: usize) -> Result<()> {
        let limit = Instant::now() + LIMIT;
        while let Err(error) = self.order(side, Order::Echo(1)) {
            if Instant::now() > limit {
                bail!("side {side} does not answer: {error:#}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn order(&self, side: usize, order: Order) -> Result<program::Answer> {
        let to = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match side {
            0 => program::run(std::process::Command::new(self.program), order, to(PORT)),
            1 => {
                let command = std::process::Command::new(self.program);
                program::run(command, order, to(self.proxied.port()))
            }
            _ => program::run(self.native.beside(self.program), order, to(PORT)),
        }
    }

    /// The processes whose work it is; the floor's are not asked for.
    fn processes(&self, side: usize) -> Result<Vec<u32>> {
        match side {
            0 => self.ours.processes(),
            1 => Ok(vec![self.proxied.process()]),
            _ => Ok(Vec::new()),
        }
    }

    /// The first round warms all and is not counted, but of what is done once. A peer that cannot do it is said and left
    /// out.
    fn in_turn(&self, measure: &Measure, pairs: usize) -> Result<Vec<Row>> {
        let rounds = if measure.once { 1..=1 } else { 0..=pairs };
        // The floor of what takes a minute is nothing to wait for.
        let sides = if measure.once { 0..2 } else { 0..3 };
        let mut taken = vec![[const { Vec::new() }; 3]; measure.values.len()];
        for round in rounds {
            for side in sides.clone() {
                let processes = self.processes(side)?;
                let before = usage::seconds(&processes)?;
                let answer = match self.order(side, measure.order) {
                    Err(error) if side == PROXIED => {
                        eprintln!("without an answer: {PEER}: {error:#}");
                        continue;
                    }
                    answer => answer?,
                };
                let used = usage::seconds(&processes)? - before;
                if round > 0 {
                    for (value, taken) in measure.values.iter().zip(&mut taken) {
                        taken[side].push((value.of)(&answer, used));
                    }
                }
            }
        }
        let rows = measure.values.iter().zip(taken);
        let rows = rows.map(|(value, [ours, peer, floor])| {
            let floor = Samples::new(floor).median();
            let row = Row {
                name: value.names[SIDES[0]],
                what: value.what,
                unit: value.unit,
                ours: Samples::new(ours),
                peer: Samples::new(peer),
                peer_name: PEER,
                floor: (floor > 0.0).then_some(floor),
            };
            row.said()
        });
        Ok(rows.collect())
    }
}
