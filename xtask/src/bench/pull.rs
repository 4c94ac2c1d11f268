//! From `docker run` of an image that is not there to a started container: five layers of 100 MB, compressed,
//! from a registry on this machine.

use anyhow::{Context, Result};
use lighter_tests::Registry;
use lighter_tests::registry::Entry;

use super::flush::{Flush, scratch};
use super::peer::{self, Image};
use super::samples::Samples;
use super::sides::{Sides, Tools};
use super::{Row, pull_image};
use crate::packages::{self, package};

const NAME: &str = "bench:1";

/// The machine's own flushes, then flushes of 5 ms.
///
/// # Errors
///
/// When a side does not come up or cannot pull.
pub fn pull(pairs: usize, as_built: bool) -> Result<Vec<Row>> {
    packages::ensure(&[package("skopeo"), package("busybox-static")])?;
    let (tools, image) = (Tools::ensure(as_built)?, Image::ensure()?);
    let registry = Registry::with(tools.folder(), &Entry::Open).context("no registry")?;
    let folder = scratch()?;
    eprintln!(
        "making an image of 500 MB and pushing it to {}",
        registry.host()
    );
    let archive = folder.path().join("image.tar");
    pull_image::write(&archive, pull_image::LAYERS)?;
    registry.push(&archive, NAME);
    std::fs::remove_file(&archive)?;
    let own = measure("pull", &tools, &image, &registry, &Flush::own(), pairs)?;
    let late = measure(
        "pull/flush5ms",
        &tools,
        &image,
        &registry,
        &Flush::of_5_ms()?,
        pairs,
    )?;
    Ok(vec![own, late])
}

fn measure(
    name: &'static str,
    tools: &Tools,
    image: &Image,
    registry: &Registry,
    flush: &Flush,
    pairs: usize,
) -> Result<Row> {
    let sides = Sides::start(tools, image, flush)?;
    let ours = format!("{}/{NAME}", registry.host());
    // The host as the peer's guest sees it.
    let peer = ours.replace("localhost", peer::HOST);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        a.push(once(tools, &sides.ours.socket(), &ours)?);
        b.push(once(tools, &sides.peer.socket(), &peer)?);
    }
    let row = Row {
        name,
        what: "docker run -d of a 5-layer, 500 MB image that has to be pulled",
        unit: "ms",
        ours: Samples::new(a),
        peer: Samples::new(b),
        peer_name: peer::NAME,
        floor: None,
    };
    Ok(row.said())
}

/// Pulls and starts, then removes both again.
fn once(tools: &Tools, socket: &str, image: &str) -> Result<f64> {
    let run = [
        "run",
        "-d",
        "--name",
        "pulled",
        "--network",
        "none",
        image,
        "sleep",
        "1000",
    ];
    let time = tools.timed(socket, &run)?;
    tools.docker(socket, &["rm", "-f", "pulled"])?;
    tools.docker(socket, &["rmi", image])?;
    Ok(time)
}
