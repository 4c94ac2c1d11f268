//! From the command to an engine that answers, with nothing running and the disk made.

use std::time::Instant;

use anyhow::Result;

use super::Row;
use super::flush::Flush;
use super::ours::Ours;
use super::peer::{self, Image};
use super::samples::Samples;
use super::sides::{Tools, milliseconds};

/// The machine's own flushes, then flushes of 5 ms.
///
/// # Errors
///
/// When either side does not come up.
pub fn boot(pairs: usize, as_built: bool) -> Result<Vec<Row>> {
    let (tools, image) = (Tools::ensure(as_built)?, Image::ensure()?);
    Ok(vec![
        measure("boot", &tools, &image, &Flush::own(), pairs)?,
        measure("boot/flush5ms", &tools, &image, &Flush::of_5_ms()?, pairs)?,
    ])
}

fn measure(
    name: &'static str,
    tools: &Tools,
    image: &Image,
    flush: &Flush,
    pairs: usize,
) -> Result<Row> {
    let ours = Ours::new(&tools.built, flush)?;
    ours.lighter(&["up"])?; // makes the disk and unpacks the kernel, once
    ours.lighter(&["down"])?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        let start = Instant::now();
        ours.lighter(&["up"])?;
        tools.docker(&ours.socket(), &["version"])?;
        a.push(milliseconds(start));
        ours.lighter(&["down"])?;
        let disk = image.disk()?;
        let start = Instant::now();
        let peer = image.start_on(disk, &tools.docker_path(), flush)?;
        b.push(milliseconds(start));
        drop(peer);
    }
    let row = Row {
        name,
        what: "command to engine ready",
        unit: "ms",
        ours: Samples::new(a),
        peer: Samples::new(b),
        peer_name: peer::NAME,
        floor: None,
    };
    Ok(row.said())
}
