//! Many containers: side by side, in a list, and what they cost in memory.

use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::super::Row;
use super::api::Api;
use super::sides::{Daemon, Sides};
use super::starts::life;
use super::{What, in_turn, rows};
use crate::bench::sides::milliseconds;

/// Lives at a time.
const TOGETHER: usize = 100;
/// Containers in the list.
const LISTED: usize = 1_000;
/// Containers that run at once.
const THOUSAND: usize = 1_000;
/// Containers that run while memory is measured.
const RUNNING: usize = 200;
/// Clients at a time, where only the result counts.
const HANDS: usize = 8;

/// All at once.
///
/// # Errors
///
/// When a side does not do it.
pub fn parallel(sides: &Sides, pairs: usize) -> Result<Vec<Row>> {
    let what = What {
        names: ["engine/parallel", "engine/parallel/podman"],
        what: "100 times create, start, wait and remove, all at once",
        unit: "ms",
        floor: None,
    };
    in_turn(sides, pairs, &what, |daemon| {
        let start = Instant::now();
        by_hands(TOGETHER, TOGETHER, |_| life(&mut Api::open(&daemon.socket)))?;
        Ok(milliseconds(start))
    })
}

/// The list of many.
///
/// # Errors
///
/// When a side does not make or list them.
pub fn list(sides: &Sides, pairs: usize) -> Result<Vec<Row>> {
    let mut made = Vec::new();
    for daemon in sides.all() {
        made.push(make(daemon, LISTED, |api| api.create(&["true"]))?);
    }
    let rows = in_turn(
        sides,
        pairs,
        &What {
            names: ["engine/list", "engine/list/podman"],
            what: "GET /containers/json?all=1 with 1,000 created containers",
            unit: "ms",
            floor: None,
        },
        |daemon| {
            let mut api = Api::open(&daemon.socket);
            let start = Instant::now();
            let answer = api.call("GET", "/containers/json?all=1", None)?;
            let time = milliseconds(start);
            let all: Vec<serde_json::Value> = serde_json::from_slice(&answer)?;
            ensure!(all.len() == LISTED, "{} are listed", all.len());
            Ok(time)
        },
    )?;
    for (daemon, ids) in sides.all().into_iter().zip(&made) {
        remove(daemon, ids)?;
    }
    Ok(rows)
}

/// So many that run at once, from the first request to the last that is gone; once, for the peers take minutes.
///
/// # Errors
///
/// When a side does not run or remove them.
pub fn thousand(sides: &Sides, _pairs: usize) -> Result<Vec<Row>> {
    let what = What {
        names: ["engine/thousand", "engine/thousand/podman"],
        what: "1,000 containers that run at once, by eight clients: create, start; when all run, kill and remove",
        unit: "ms",
        floor: None,
    };
    let daemons = sides.all();
    let mut taken = Vec::new();
    for daemon in &daemons {
        let start = Instant::now();
        let ids = make(daemon, THOUSAND, |api| api.run(&["sleep", "100000"]))?;
        end(daemon, &ids)?;
        taken.push(vec![milliseconds(start)]);
    }
    Ok(rows(&what, &daemons, taken))
}

/// Memory with nothing, and with containers that run. To be asked first: what a daemon once had it
/// may keep.
///
/// # Errors
///
/// When a side does not run them, or /proc does not tell.
pub fn memory(sides: &Sides, pairs: usize) -> Result<Vec<Row>> {
    let mut rows = in_turn(
        sides,
        pairs,
        &What {
            names: ["engine/memory0", "engine/memory0/podman"],
            what: "Pss of the daemons without a container: init and agent; dockerd and containerd; podman",
            unit: "MiB",
            floor: None,
        },
        Daemon::memory,
    )?;
    let mut made = Vec::new();
    for daemon in sides.all() {
        made.push(make(daemon, RUNNING, |api| api.run(&["sleep", "100000"]))?);
    }
    rows.extend(in_turn(
        sides,
        pairs,
        &What {
            names: ["engine/memory200", "engine/memory200/podman"],
            what: "the same with 200 containers that run, and with what each has beside it: a shim, a conmon",
            unit: "MiB",
            floor: None,
        },
        Daemon::memory,
    )?);
    for (daemon, ids) in sides.all().into_iter().zip(&made) {
        end(daemon, ids)?;
    }
    Ok(rows)
}

/// So many containers, by some clients at a time.
fn make(
    daemon: &Daemon,
    count: usize,
    one: impl Fn(&mut Api) -> Result<String> + Sync,
) -> Result<Vec<String>> {
    let ids = Mutex::new(Vec::new());
    by_hands(HANDS, count, |_| {
        let id = one(&mut Api::open(&daemon.socket)).context(daemon.name)?;
        if let Ok(mut ids) = ids.lock() {
            ids.push(id);
        }
        Ok(())
    })?;
    Ok(ids.into_inner().unwrap_or_default())
}

fn remove(daemon: &Daemon, ids: &[String]) -> Result<()> {
    by_hands(HANDS, ids.len(), |number| {
        Api::open(&daemon.socket).remove(&ids[number])
    })
}

/// Removes containers that run.
fn end(daemon: &Daemon, ids: &[String]) -> Result<()> {
    // A first process is deaf to SIGTERM, and podman waits ten seconds for each before it removes it.
    by_hands(HANDS, ids.len(), |number| {
        Api::open(&daemon.socket).kill(&ids[number])
    })?;
    remove(daemon, ids)
}

/// Does something `count` times, by `hands` threads.
pub fn by_hands(
    hands: usize,
    count: usize,
    work: impl Fn(usize) -> Result<()> + Sync,
) -> Result<()> {
    let work = &work;
    std::thread::scope(|scope| {
        let hand =
            |first: usize| scope.spawn(move || (first..count).step_by(hands).try_for_each(work));
        let all: Vec<_> = (0..hands).map(hand).collect();
        let ended = all.into_iter().map(|hand| match hand.join() {
            Ok(done) => done,
            Err(_) => Err(anyhow::anyhow!("a client stopped; what it met is above")),
        });
        ended.collect::<Result<Vec<()>>>().map(drop)
    })
}
