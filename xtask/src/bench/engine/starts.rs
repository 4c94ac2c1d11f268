//! One container at a time: by a client, over the API, and a process in one that runs.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::Row;
use super::super::samples::Samples;
use super::api::{Api, stream};
use super::floor::Floor;
use super::sides::{Daemon, Sides};
use super::{What, among, in_turn};
use crate::bench::sides::milliseconds;

/// Lives in one sample: one alone is too short to be measured well.
const LIVES: u32 = 5;

/// Over the API, without a client.
///
/// # Errors
///
/// When a side does not do it.
pub fn api(sides: &Sides, pairs: usize) -> Result<Vec<Row>> {
    let what = What {
        names: ["engine/api", "engine/api/podman"],
        what: "create, start, wait and remove over the API",
        unit: "ms",
        floor: Some(floor(pairs)?),
    };
    in_turn(sides, pairs, &what, |daemon| lives(daemon, "none"))
}

/// Over the API, in the network that a container is in of itself.
///
/// # Errors
///
/// When a side does not do it.
pub fn api_bridge(sides: &Sides, pairs: usize) -> Result<Vec<Row>> {
    let what = What {
        names: ["engine/api-bridge", ""],
        what: "the same in the network `bridge`",
        unit: "ms",
        floor: None,
    };
    among(&sides.dockers(), pairs, &what, |daemon| {
        lives(daemon, "bridge")
    })
}

/// From the command line, in that network.
///
/// # Errors
///
/// When a side does not do it.
pub fn run_bridge(sides: &Sides, pairs: usize) -> Result<Vec<Row>> {
    let what = What {
        names: ["engine/run-bridge", ""],
        what: "run --rm busybox true by its client",
        unit: "ms",
        floor: None,
    };
    among(&sides.dockers(), pairs, &what, |daemon| {
        daemon.run_by_client("bridge")
    })
}

/// From the command line.
///
/// # Errors
///
/// When a side does not do it.
pub fn run(sides: &Sides, pairs: usize) -> Result<Vec<Row>> {
    let what = What {
        names: ["engine/run", "engine/run/podman"],
        what: "run --rm --network none busybox true by its client (podman's asks no daemon)",
        unit: "ms",
        floor: Some(floor(pairs)?),
    };
    in_turn(sides, pairs, &what, |daemon| daemon.run_by_client("none"))
}

fn floor(pairs: usize) -> Result<f64> {
    let samples = Floor::start()?.samples(pairs, LIVES)?;
    Ok(Samples::new(samples).median())
}

/// The mean of some lives one after the other.
fn lives(daemon: &Daemon, network: &str) -> Result<f64> {
    let mut api = Api::open(&daemon.socket);
    let start = Instant::now();
    for _ in 0..LIVES {
        life_in(&mut api, network)?;
    }
    Ok(milliseconds(start) / f64::from(LIVES))
}

/// Everything that becomes of a container whose program ends at once.
pub fn life(api: &mut Api) -> Result<()> {
    life_in(api, "none")
}

fn life_in(api: &mut Api, network: &str) -> Result<()> {
    let id = api.run_in(network, &["true"])?;
    api.wait(&id)?;
    api.remove(&id)
}

/// A process in a container that runs.
///
/// # Errors
///
/// When a side does not do it.
pub fn exec(sides: &Sides, pairs: usize) -> Result<Vec<Row>> {
    let mut ids = Vec::new();
    for daemon in sides.all() {
        ids.push((
            daemon.name,
            Api::open(&daemon.socket).run(&["sleep", "100000"])?,
        ));
    }
    let id_of = |daemon: &Daemon| {
        let found = ids.iter().find(|(name, _)| *name == daemon.name);
        found.map(|(_, id)| id.as_str()).unwrap_or_default()
    };
    let rows = in_turn(
        sides,
        pairs,
        &What {
            names: ["engine/exec", "engine/exec/podman"],
            what: "exec of true: create, start with its output read to the end, inspect",
            unit: "ms",
            floor: None,
        },
        |daemon| {
            let mut api = Api::open(&daemon.socket);
            let start = Instant::now();
            for _ in 0..LIVES {
                one_exec(&mut api, daemon, id_of(daemon))?;
            }
            Ok(milliseconds(start) / f64::from(LIVES))
        },
    )?;
    for daemon in sides.all() {
        Api::open(&daemon.socket).remove(id_of(daemon))?;
    }
    Ok(rows)
}

fn one_exec(api: &mut Api, daemon: &Daemon, container: &str) -> Result<()> {
    let body = json!({"Cmd": ["true"], "AttachStdout": true, "AttachStderr": true});
    let made = api.json(
        "POST",
        &format!("/containers/{container}/exec"),
        Some(&body),
    )?;
    let id = made["Id"].as_str().unwrap_or_default();
    let start = "{\"Detach\":false,\"Tty\":false}";
    let head = format!(
        "POST /exec/{id}/start\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        start.len()
    );
    stream(&daemon.socket, &head, &mut start.as_bytes())?;
    let ended = api.json("GET", &format!("/exec/{id}/json"), None)?;
    ensure!(ended["ExitCode"] == 0, "an exec ended so: {ended}");
    Ok(())
}
