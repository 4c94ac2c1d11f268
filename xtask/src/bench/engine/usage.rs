//! What asking for the usage of many containers costs, in a machine of ours: our engine beside dockerd in it, since
//! the counters are those of control groups 2, which this system may not have.
//!
//! Both are asked by a program in the machine, on their own sockets there (`tests/inner/inner.rs`).

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use lighter_tests::{Inner, inner};
use serde_json::json;

use super::super::Row;
use super::super::flush::Flush;
use super::super::ours::{Built, Ours};
use super::super::samples::Samples;
use super::api::{self, Api};
use super::busybox;
use super::many::by_hands;
use crate::bench::flush::scratch;
use crate::{inner_image, packages, paths};

/// The rows here.
pub const NAMES: &str = "stats stats-stream";
/// Containers that run, on each side: with dockerd each has a shim beside it.
const RUNNING: usize = 200;
/// Clients at a time, where only the result counts.
const HANDS: usize = 4;
const MEMORY: &str = "8GiB";
/// How long streams are read.
const SECONDS: &str = "10";

/// An engine, as seen from inside the machine.
struct Side {
    /// Its socket there.
    socket: &'static str,
    /// Its programs.
    programs: &'static str,
}

const SIDES: [Side; 2] = [
    Side {
        socket: "/ours.sock",
        programs: "lighter-agent,lighter-init",
    },
    Side {
        socket: inner::SOCKET,
        programs: "dockerd,containerd,containerd-shim-runc-v2",
    },
];

/// Measures both rows.
///
/// # Errors
///
/// When a side does not come up, does not run the containers or does not tell of them.
pub fn rows(pairs: usize, as_built: bool) -> Result<Vec<Row>> {
    let clients = packages::unpacked(&paths::cache(), "sid", crate::test::CLIENTS)?;
    let docker = clients.join("usr/bin/docker");
    let image = inner_image::archive(&paths::cache(), &clients)?;
    let built = Built::new(as_built)?;
    let ours = Ours::with_memory(&built, &Flush::own(), MEMORY)?;
    ours.lighter(&["up"])?;
    let dockerd = Inner::start(&ours.socket_path(), &docker, &image);
    let folder = scratch()?;
    let archive = folder.path().join("busybox.tar");
    busybox::write(&archive)?;
    for socket in [ours.socket_path(), dockerd.socket_path()] {
        api::load(&socket, &archive)?;
        by_hands(HANDS, RUNNING, |number| sleeper(&socket, number))?;
    }
    let ask = |words: &[&str]| from_inside(&docker, &ours.socket(), words);
    let count = RUNNING.to_string();
    let mut times = [Vec::new(), Vec::new()];
    let mut used = [Vec::new(), Vec::new()];
    for round in 0..=pairs {
        for (at, side) in SIDES.iter().enumerate() {
            let microseconds = ask(&["once", side.socket, &count])?;
            let told = ask(&["readers", side.socket, &count, SECONDS, side.programs])?;
            let ([time], [used_for_them, readings]) = (&microseconds[..], &told[..]) else {
                bail!("{microseconds:?} and {told:?} are no times and a number");
            };
            ensure!(*readings > 0.0, "no stream goes on");
            // The first round warms both.
            if round > 0 {
                times[at].push(time / 1000.0);
                used[at].push(used_for_them / readings);
            }
        }
    }
    Ok(vec![
        row(
            "engine/stats",
            "one reading of each of 200 containers",
            times,
        ),
        row(
            "engine/stats-stream",
            "processor time of the engine for each reading that 200 clients of a stream get in 10 s",
            used,
        ),
    ])
}

fn row(name: &'static str, what: &'static str, [ours, peer]: [Vec<f64>; 2]) -> Row {
    let row = Row {
        name,
        what,
        unit: "ms",
        ours: Samples::new(ours),
        peer: Samples::new(peer),
        peer_name: "dockerd 28.5 in the same machine",
        floor: None,
    };
    row.said()
}

/// A container by the name that the program in the machine asks for.
fn sleeper(socket: &Path, number: usize) -> Result<()> {
    let mut api = Api::open(socket);
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "100000"], "HostConfig": {"NetworkMode": "none"},
    });
    let path = format!("/containers/create?name=s{number}");
    let made = api.json("POST", &path, Some(&body))?;
    let id = made["Id"].as_str().context("no id")?;
    api.call("POST", &format!("/containers/{id}/start"), None)?;
    Ok(())
}

/// Runs the program in a container that sees both sockets and all processes; the numbers it printed.
fn from_inside(docker: &Path, socket: &str, words: &[&str]) -> Result<Vec<f64>> {
    let out = Command::new(docker)
        .args([
            "-H",
            socket,
            "run",
            "--rm",
            "--network",
            "none",
            "--pid",
            "host",
        ])
        .args([
            "-v",
            "/var/run/docker.sock:/ours.sock",
            "-v",
            inner::SOCKETS,
        ])
        .arg(inner::IMAGE)
        .args(words)
        .env("DOCKER_CONFIG", "/nonexistent")
        .output()
        .context("the client")?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.success(), "{words:?} inside the machine: {said}");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let numbers = text.split_whitespace().map(str::parse);
    numbers
        .collect::<Result<_, _>>()
        .with_context(|| text.clone())
}
