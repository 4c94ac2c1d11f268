//! Images of half a gigabyte: pulled from a registry on the loopback, loaded and saved.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::super::flush::scratch;
use super::super::{Row, pull_image};
use super::api;
use super::sides::{Daemon, Sides};
use super::{What, in_turn};
use crate::bench::sides::milliseconds;

/// Numbers of layers, with the names of their rows.
const PULLS: [(u64, [&str; 2]); 3] = [
    (1, ["engine/pull1", "engine/pull1/podman"]),
    (5, ["engine/pull5", "engine/pull5/podman"]),
    (40, ["engine/pull40", "engine/pull40/podman"]),
];

/// All rows about images.
///
/// # Errors
///
/// When a side does not take an image or give it back.
pub fn rows(sides: &Sides, pairs: usize) -> Result<Vec<Row>> {
    let folder = scratch()?;
    let archive = folder.path().join("image.tar");
    let mut rows = Vec::new();
    for (layers, names) in PULLS {
        pull_image::write(&archive, layers)?;
        rows.extend(pull(sides, pairs, &archive, layers, names)?);
        if layers == pull_image::LAYERS {
            rows.extend(load(sides, pairs, &archive)?);
            rows.extend(save(sides, pairs, &archive)?);
        }
    }
    Ok(rows)
}

fn pull(
    sides: &Sides,
    pairs: usize,
    archive: &Path,
    layers: u64,
    names: [&'static str; 2],
) -> Result<Vec<Row>> {
    let name = format!("bench{layers}");
    sides.registry().push(archive, &format!("{name}:1"));
    let image = format!("{}/{name}", sides.registry().host());
    let input = PathBuf::from(format!("if={}", archive.display()));
    let copy = archive.with_extension("copy");
    let output = PathBuf::from(format!("of={}", copy.display()));
    let what = What {
        names,
        what: "POST /images/create of an image of 500 MB, compressed, with as many layers as the name says; floor: dd of the unpacked archive, flushed",
        unit: "ms",
        floor: Some(timed(
            "dd",
            &[&input, &output, Path::new("bs=1M"), Path::new("conv=fsync")],
        )?),
    };
    std::fs::remove_file(&copy)?;
    in_turn(sides, pairs, &what, |daemon| {
        let head = format!("POST /images/create?fromImage={image}&tag=1\nContent-Length: 0\r\n");
        let start = Instant::now();
        let said = api::stream(&daemon.socket, &head, &mut std::io::empty())?;
        let time = milliseconds(start);
        let said = String::from_utf8_lossy(&said);
        ensure!(
            !said.contains("\"error\""),
            "a pull by {}: {said}",
            daemon.name
        );
        remove(daemon, &format!("{image}:1"))?;
        Ok(time)
    })
}

fn load(sides: &Sides, pairs: usize, archive: &Path) -> Result<Vec<Row>> {
    let what = What {
        names: ["engine/load", "engine/load/podman"],
        what: "POST /images/load of 500 MB in five layers; floor: sha256sum of the archive",
        unit: "ms",
        floor: Some(timed("sha256sum", &[archive])?),
    };
    in_turn(sides, pairs, &what, |daemon| {
        let start = Instant::now();
        api::load(&daemon.socket, archive).context(daemon.name)?;
        let time = milliseconds(start);
        remove(daemon, pull_image::TAG)?;
        Ok(time)
    })
}

fn save(sides: &Sides, pairs: usize, archive: &Path) -> Result<Vec<Row>> {
    for daemon in sides.all() {
        api::load(&daemon.socket, archive).context(daemon.name)?;
    }
    let length = std::fs::metadata(archive)?.len();
    let what = What {
        names: ["engine/save", "engine/save/podman"],
        what: "GET of the same as an archive, read and dropped; floor: cat of the archive",
        unit: "ms",
        floor: Some(timed("cat", &[archive])?),
    };
    let rows = in_turn(sides, pairs, &what, |daemon| {
        let mut count = 0;
        let start = Instant::now();
        let head = format!("GET /images/{}/get", pull_image::TAG);
        api::stream_to(&daemon.socket, &head, &mut std::io::empty(), |block| {
            count += block.len() as u64;
        })?;
        let time = milliseconds(start);
        // Headers and padding differ a little.
        ensure!(
            count > length / 100 * 98,
            "{} saves {count} bytes",
            daemon.name
        );
        Ok(time)
    })?;
    for daemon in sides.all() {
        remove(daemon, pull_image::TAG)?;
    }
    Ok(rows)
}

fn remove(daemon: &Daemon, image: &str) -> Result<()> {
    api::Api::open(&daemon.socket).call("DELETE", &format!("/images/{image}"), None)?;
    Ok(())
}

/// How long a program takes over files, its output dropped.
fn timed(program: &str, files: &[&Path]) -> Result<f64> {
    let start = Instant::now();
    let mut run = Command::new(program);
    let done = run.args(files).stdout(Stdio::null()).status()?;
    ensure!(done.success(), "{program} failed");
    Ok(milliseconds(start))
}
