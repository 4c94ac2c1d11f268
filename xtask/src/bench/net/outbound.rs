//! From a guest to the host: three cards of one machine in turn.

use anyhow::{Context, Result};

use super::super::Row;
use super::super::ours::Built;
use super::super::samples::Samples;
use super::cards::{self, Cards, NAMES};
use super::guest::{Guest, Root};
use super::measures::{self, Measure};
use super::place::{self, address};
use super::program::{self, Server};
use crate::packages::{self, package};
use crate::usage;

/// The places of their rows' names.
const SIDES: [usize; 2] = [0, 1];

/// Measures what is wanted.
///
/// # Errors
///
/// When the machine or a card does not come up, or an order fails.
pub fn rows(built: &Built, pairs: usize, only: Option<&str>) -> Result<Vec<Row>> {
    let wanted: Vec<&'static Measure> = measures::ALL
        .iter()
        .filter(|measure| measure.is_wanted(only, &SIDES))
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    packages::ensure(&[package("busybox-static"), package("iproute2")])?;
    let root_of_passt = cards::passt()?;
    place::within(|| {
        let folder = tempfile::tempdir()?;
        let program = program::build(folder.path())?;
        let _server = Server::start(&program)?;
        let cards = Cards::start(built.lighter(), &root_of_passt)?;
        let root = Root {
            folder: None,
            script: cards.script(),
        };
        let mut guest = Guest::start(&built.kernel(), &program, &root, &cards.arguments())?;
        let mut rows = Vec::new();
        for measure in wanted {
            rows.extend(in_turn(&mut guest, &cards, measure, pairs)?);
        }
        Ok(rows)
    })
}

/// The first round warms all and is not counted, but of what is done once.
fn in_turn(guest: &mut Guest, cards: &Cards, measure: &Measure, pairs: usize) -> Result<Vec<Row>> {
    let rounds = if measure.once { 1..=1 } else { 0..=pairs };
    let mut taken = vec![[const { Vec::new() }; NAMES.len()]; measure.values.len()];
    for round in rounds {
        for (card, name) in NAMES.iter().enumerate() {
            let mut processes = cards.processes(card);
            processes.push(guest.process());
            let before = usage::seconds(&processes)?;
            let answer = guest.order(measure.order, address(card)).context(*name)?;
            let used = usage::seconds(&processes)? - before;
            if round > 0 {
                for (value, taken) in measure.values.iter().zip(&mut taken) {
                    taken[card].push((value.of)(&answer, used));
                }
            }
        }
    }
    let mut rows = Vec::new();
    for (value, [ours, peers @ ..]) in measure.values.iter().zip(taken) {
        for (at, peer) in peers.into_iter().enumerate() {
            let row = Row {
                name: value.names[at],
                what: value.what,
                unit: value.unit,
                ours: Samples::new(ours.clone()),
                peer: Samples::new(peer),
                peer_name: NAMES[at + 1],
                floor: None,
            };
            rows.push(row.said());
        }
    }
    Ok(rows)
}
