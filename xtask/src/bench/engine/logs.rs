//! How fast a container's output becomes its log, and how fast that is read.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

use super::super::Row;
use super::api::{self, Api};
use super::sides::Sides;
use super::{What, in_turn};
use crate::bench::sides::milliseconds;

/// Lines of 64 bytes, 64 MiB of them: as ordinary as a log can be.
const WRITE: &str =
    "yes 'a line of sixty-four bytes, as programs write them all day lon' | head -c 67108864";
const BYTES: usize = 67_108_864;

/// From the program to the log.
///
/// # Errors
///
/// When a side fails.
pub fn write(sides: &Sides, pairs: usize) -> Result<Vec<Row>> {
    in_turn(
        sides,
        pairs,
        &What {
            names: ["engine/log-write", "engine/log-write/podman"],
            what: "from start to end of a container that writes 64 MiB in lines (json-file; podman's own format); \
                   floor: the same into a pipe that is read",
            unit: "ms",
            floor: Some(unlogged()?),
        },
        |daemon| {
            let mut api = Api::open(&daemon.socket);
            let id = api.create(&["sh", "-c", WRITE])?;
            let start = Instant::now();
            api.call("POST", &format!("/containers/{id}/start"), None)?;
            api.wait(&id)?;
            let time = milliseconds(start);
            api.remove(&id)?;
            Ok(time)
        },
    )
}

/// From the log to a client.
///
/// # Errors
///
/// When a side fails or gives less than was written.
pub fn read(sides: &Sides, pairs: usize) -> Result<Vec<Row>> {
    let mut made = Vec::new();
    for daemon in sides.all() {
        let mut api = Api::open(&daemon.socket);
        let id = api.run(&["sh", "-c", WRITE])?;
        api.wait(&id)?;
        made.push((daemon.name, id));
    }
    let rows = in_turn(
        sides,
        pairs,
        &What {
            names: ["engine/log-read", "engine/log-read/podman"],
            what: "GET logs of 64 MiB in lines, whole",
            unit: "ms",
            floor: None,
        },
        |daemon| {
            let found = made.iter().find(|(name, _)| *name == daemon.name);
            let id = found.map(|(_, id)| id.as_str()).unwrap_or_default();
            let mut count = 0;
            let start = Instant::now();
            let head = format!("GET /containers/{id}/logs?stdout=1&stderr=1");
            api::stream_to(&daemon.socket, &head, &mut std::io::empty(), |block| {
                count += block.len();
            })?;
            let time = milliseconds(start);
            ensure!(count > BYTES, "{} has logged {count} bytes", daemon.name);
            Ok(time)
        },
    )?;
    for (daemon, (_, id)) in sides.all().into_iter().zip(&made) {
        Api::open(&daemon.socket).remove(id)?;
    }
    Ok(rows)
}

/// What the writer alone takes.
fn unlogged() -> Result<f64> {
    let script = WRITE
        .replace("yes", "busybox yes")
        .replace("head", "busybox head");
    let start = Instant::now();
    let done = Command::new("sh")
        .args(["-c", &format!("{script} | cat > /dev/null")])
        .stdin(Stdio::null())
        .status()?;
    ensure!(done.success(), "busybox writes nothing");
    Ok(milliseconds(start))
}
