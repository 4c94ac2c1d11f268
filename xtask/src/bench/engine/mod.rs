//! The engine itself, without a machine around it: ours run natively beside dockerd on the same kernel, and
//! beside podman where that can be had.
//!
//! ```text
//!   Sides ─┬─ ours: init and agent as they are shipped, in namespaces   ┐  one API socket each,
//!          ├─ Debian sid's dockerd with containerd and runc             ├─ the same image, the
//!          └─ Debian trixie's podman with crun                          ┘  same requests in turn
//! ```
//!
//! Each file measures one kind of thing and returns its rows: `engine/PART` beside dockerd, and
//! `engine/PART/podman`. What needs controllers of control groups 2 is measured in a machine, beside the same
//! dockerd in it ([`usage`]).

mod api;
mod busybox;
pub mod floor;
mod groups;
mod images;
mod logs;
mod many;
mod native;
mod podman;
mod sides;
mod starts;
mod usage;

use anyhow::Result;

use super::Row;
use super::samples::Samples;
use sides::{Daemon, Sides};

/// Some rows that are measured together.
type Part = fn(&Sides, usize) -> Result<Vec<Row>>;

/// Everything in the order in which it is told, by the names of its rows. Memory comes first: what an engine
/// once had it may keep.
const PARTS: [(&str, Part); 12] = [
    ("memory0 memory200", many::memory),
    ("api", starts::api),
    ("run", starts::run),
    ("api-bridge", starts::api_bridge),
    ("run-bridge", starts::run_bridge),
    ("exec", starts::exec),
    ("parallel", many::parallel),
    ("list", many::list),
    ("thousand", many::thousand),
    ("log-write", logs::write),
    ("log-read", logs::read),
    ("pull1 pull5 pull40 load save", images::rows),
];

/// Measures all, or the parts in whose rows' names `only` occurs.
///
/// # Errors
///
/// When a side does not come up or does not do what is measured.
pub fn engine(pairs: usize, as_built: bool, only: Option<&str>) -> Result<Vec<Row>> {
    let wanted = |names: &str| only.is_none_or(|only| names.contains(only));
    let parts: Vec<Part> = PARTS
        .into_iter()
        .filter(|(names, _)| wanted(names))
        .map(|(_, part)| part)
        .collect();
    let mut rows = Vec::new();
    if !parts.is_empty() {
        let sides = Sides::start(as_built)?;
        for part in parts {
            rows.extend(part(&sides, pairs)?);
        }
    }
    // The others have ended by now: this one has a machine.
    if wanted(usage::NAMES) {
        rows.extend(usage::rows(pairs, as_built)?);
    }
    Ok(rows)
}

/// What is measured: how its rows are called, for both peers, and what it is.
struct What {
    names: [&'static str; 2],
    what: &'static str,
    unit: &'static str,
    floor: Option<f64>,
}

/// Does the same on every side in turn, as [`among`] does.
fn in_turn(
    sides: &Sides,
    pairs: usize,
    what: &What,
    work: impl Fn(&Daemon) -> Result<f64>,
) -> Result<Vec<Row>> {
    among(&sides.all(), pairs, what, work)
}

/// Does the same on every one of these in turn, `pairs` times; a first round warms all and is not counted.
fn among(
    daemons: &[&Daemon],
    pairs: usize,
    what: &What,
    work: impl Fn(&Daemon) -> Result<f64>,
) -> Result<Vec<Row>> {
    let mut taken = vec![Vec::new(); daemons.len()];
    for round in 0..=pairs {
        for (daemon, taken) in daemons.iter().zip(&mut taken) {
            let value = work(daemon)?;
            if round > 0 {
                taken.push(value);
            }
        }
    }
    Ok(rows(what, daemons, taken))
}

/// One row for each peer; ours comes first.
fn rows(what: &What, daemons: &[&Daemon], taken: Vec<Vec<f64>>) -> Vec<Row> {
    let mut all = daemons.iter().zip(taken);
    let Some((_, ours)) = all.next() else {
        return Vec::new();
    };
    let rows = all.zip(what.names).map(|((peer, taken), name)| {
        let row = Row {
            name,
            what: what.what,
            unit: what.unit,
            ours: Samples::new(ours.clone()),
            peer: Samples::new(taken),
            peer_name: peer.name,
            floor: what.floor,
        };
        row.said()
    });
    rows.collect()
}
