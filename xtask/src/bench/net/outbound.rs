//! From a guest to the host: three cards of one machine in turn.

use std::path::Path;

use anyhow::{Context, Result};

use super::super::Row;
use super::super::ours::Built;
use super::super::samples::Samples;
use super::cards::{self, Cards, NAMES};
use super::guest::{Guest, Root};
use super::measures::{self, Measure};
use super::place::{self, address};
use super::program::{self, Answer, Order, Server};
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
        let mut machines = Machines {
            built,
            root_of_passt: &root_of_passt,
            program: &program,
            running: None,
        };
        let mut rows = Vec::new();
        for measure in wanted {
            rows.extend(in_turn(&mut machines, measure, pairs)?);
        }
        Ok(rows)
    })
}

/// One machine after another, each with all cards.
struct Machines<'a> {
    built: &'a Built,
    root_of_passt: &'a Path,
    program: &'a Path,
    running: Option<(Guest, Cards)>,
}

impl Machines<'_> {
    /// The one that runs, or a new one.
    fn running(&mut self) -> Result<&mut (Guest, Cards)> {
        if let Some(running) = self.running.take() {
            return Ok(self.running.insert(running));
        }
        let cards = Cards::start(self.built.lighter(), self.root_of_passt)?;
        let root = Root {
            folder: None,
            script: cards.script(),
        };
        let (kernel, words) = (self.built.kernel(), cards.arguments());
        let guest = Guest::start(&kernel, self.program, &root, &words)?;
        Ok(self.running.insert((guest, cards)))
    }

    /// Has the guest do it over this card: its answer, and the processor time that it took. After a failure the machine
    /// may be busy with it for long, and is given up.
    fn measure(&mut self, order: Order, card: usize) -> Result<(Answer, f64)> {
        let measured = self.try_measure(order, card);
        if measured.is_err() {
            self.running = None;
        }
        measured
    }

    fn try_measure(&mut self, order: Order, card: usize) -> Result<(Answer, f64)> {
        let (guest, cards) = self.running()?;
        let mut processes = cards.processes(card);
        processes.push(guest.process());
        let before = usage::seconds(&processes)?;
        let answer = guest.order(order, address(card)).context(NAMES[card])?;
        Ok((answer, usage::seconds(&processes)? - before))
    }
}

/// The first round warms all and is not counted, but of what is done once. A peer that cannot do it is said and left out.
fn in_turn(machines: &mut Machines<'_>, measure: &Measure, pairs: usize) -> Result<Vec<Row>> {
    let rounds = if measure.once { 1..=1 } else { 0..=pairs };
    let mut taken = vec![[const { Vec::new() }; NAMES.len()]; measure.values.len()];
    for round in rounds {
        for card in 0..NAMES.len() {
            let (answer, used) = match machines.measure(measure.order, card) {
                Ok(measured) => measured,
                Err(error) if card > 0 => {
                    eprintln!("without an answer: {error:#}");
                    continue;
                }
                Err(error) => return Err(error),
            };
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
