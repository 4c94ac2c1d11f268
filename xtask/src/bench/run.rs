//! A warm `docker run --rm --network none busybox true`, by the same client.

use anyhow::{Context, Result};
use lighter_tests::Reference;

use super::Row;
use super::flush::Flush;
use super::peer::{self, Image};
use super::samples::Samples;
use super::sides::{Sides, Tools, give_busybox};

const RUN: [&str; 6] = ["run", "--rm", "--network", "none", "busybox", "true"];
/// In the network that a container is in of itself.
const RUN_BRIDGE: [&str; 4] = ["run", "--rm", "busybox", "true"];
/// Of a call that does nothing: what the client itself costs.
const NOTHING: [&str; 1] = ["version"];
const BARE: &str = "dockerd 28.5 on bare Linux";
const WHAT: &str =
    "docker run --rm busybox true, with --network none but for the rows of the bridge";

/// Beside the peer, beside dockerd without any virtual machine, and beside the peer with flushes of 5 ms.
///
/// # Errors
///
/// When a side does not come up or a run fails.
pub fn run(pairs: usize, as_built: bool) -> Result<Vec<Row>> {
    let (tools, image) = (Tools::ensure(as_built)?, Image::ensure()?);
    let mut rows = own_flushes(&tools, &image, pairs)?;
    let sides = Sides::start(&tools, &image, &Flush::of_5_ms()?)?;
    let (ours, peer) = (sides.ours.socket(), sides.peer.socket());
    let [a, b] = in_turn(&tools, [(&ours, &RUN[..]), (&peer, &RUN)], pairs)?;
    rows.push(row("run/flush5ms", a, b, peer::NAME, None));
    Ok(rows)
}

fn own_flushes(tools: &Tools, image: &Image, pairs: usize) -> Result<Vec<Row>> {
    let sides = Sides::start(tools, image, &Flush::own())?;
    let (ours, peer) = (sides.ours.socket(), sides.peer.socket());
    let bare = Reference::with(tools.folder(), tools.docker_path())
        .context("dockerd does not start on this machine itself")?;
    give_busybox(tools, &ours, &[&bare.socket()])?;
    let bare_socket = bare.socket();
    let calls: [(&str, &[&str]); 7] = [
        (&ours, &RUN),
        (&peer, &RUN),
        (&bare_socket, &RUN),
        (&ours, &RUN_BRIDGE),
        (&peer, &RUN_BRIDGE),
        (&bare_socket, &RUN_BRIDGE),
        (&ours, &NOTHING),
    ];
    let [a, b, c, d, e, f, nothing] = in_turn(tools, calls, pairs)?;
    let floor = Some(Samples::new(nothing).median());
    Ok(vec![
        row("run", a.clone(), b, peer::NAME, floor),
        row("run/bare", a, c, BARE, floor),
        row("run/bridge", d.clone(), e, peer::NAME, floor),
        row("run/bridge-bare", d, f, BARE, floor),
    ])
}

/// Makes each call once a round; the first round warms all and is not counted.
fn in_turn<const N: usize>(
    tools: &Tools,
    calls: [(&str, &[&str]); N],
    rounds: usize,
) -> Result<[Vec<f64>; N]> {
    let mut taken = [const { Vec::new() }; N];
    for round in 0..=rounds {
        for ((socket, args), taken) in calls.iter().zip(&mut taken) {
            let time = tools.timed(socket, args)?;
            if round > 0 {
                taken.push(time);
            }
        }
    }
    Ok(taken)
}

fn row(
    name: &'static str,
    ours: Vec<f64>,
    peer: Vec<f64>,
    peer_name: &'static str,
    floor: Option<f64>,
) -> Row {
    Row {
        name,
        what: WHAT,
        unit: "ms",
        ours: Samples::new(ours),
        peer: Samples::new(peer),
        peer_name,
        floor,
    }
    .said()
}
