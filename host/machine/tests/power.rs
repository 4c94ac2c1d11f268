//! What the guest was told is on its disk is there, wherever the power is lost, and what it wrote behind a flush is not
//! there without what it wrote before.
//!
//! The machine writes a log of what it does to its disk ([`lighter_machine::Disk::log`]); the disks that a loss of power
//! may leave are made of it and looked at here.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod support;

use std::fs::File;
use std::path::Path;

use lighter_machine::{ExitReason, Machine};
use lighter_tests::disk_log::{Losses, Place, Recorder};
use lighter_tests::random::Random;
use support::{
    Pattern, port,
    process::{config, connect, exited},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[test]
#[ignore = "started by the other tests, with their socket as its standard input"]
fn the_machine_process_itself() {
    _ = lighter_machine::process_main();
}

/// As in `tests/guest/init.rs`.
const BLOCK: usize = 4096;
const BLOCKS: usize = 4;
const KEPT: usize = 7;
const JOURNAL: usize = (1 + BLOCKS * KEPT) * BLOCK;
/// Journals that are written at the same time, so that there are writes beside every flush.
const JOURNALS: usize = 3;
/// Sampled, in a machine as small as in the other tests.
const FLUSHES: usize = 50;

/// What a journal's writer was told.
struct Told {
    seed: u64,
    /// Where the log ended when each record had been acknowledged, from the first on.
    records: Vec<Place>,
}

/// Has the guest write a journal of so many records, one after the other.
async fn write(machine: &Machine, log: &Recorder, number: usize, seed: u64, count: u64) -> Told {
    let mut stream = connect(machine, port::JOURNAL).await;
    let head = [(number as u64).to_le_bytes(), seed.to_le_bytes()].concat();
    stream.write_all(&head).await.unwrap();
    let mut records = Vec::new();
    for record in 1..=count {
        stream.write_all(b"+").await.unwrap();
        assert_eq!(stream.read_u64_le().await.unwrap(), record);
        records.push(log.end());
    }
    Told { seed, records }
}

/// The journal has every record that had been acknowledged by then, and whatever it says that it has is whole.
fn check(journal: &[u8], told: &Told, place: Place, what: &str) {
    let last = u64::from_le_bytes(journal[..8].try_into().unwrap());
    let acknowledged = told.records.iter().filter(|at| **at <= place).count() as u64;
    assert!(
        (acknowledged..=told.records.len() as u64).contains(&last),
        "{what}: {acknowledged} records were acknowledged, {last} are there"
    );
    // The one after the last may have been begun, over the first of those that are kept.
    let whole = (last + 2).saturating_sub(KEPT as u64).max(1)..=last;
    let mut expected = [0; BLOCK];
    for (record, block) in whole.flat_map(|record| (0..BLOCKS).map(move |block| (record, block))) {
        match record % 4 {
            0 => expected.fill(0),
            _ => Pattern(told.seed ^ record << 8 ^ block as u64).fill(&mut expected),
        }
        let at = (1 + block * KEPT + record as usize % KEPT) * BLOCK;
        assert!(
            journal[at..at + BLOCK] == expected,
            "{what}: block {block} of record {record} is not what was written, and {last} is there"
        );
    }
}

/// An empty disk as large as the journals.
fn empty(path: &Path) {
    let disk = File::create(path).unwrap();
    disk.set_len((JOURNALS * JOURNAL).next_multiple_of(1 << 20) as u64)
        .unwrap();
}

#[tokio::test]
async fn power_lost_at_any_moment_keeps_what_was_flushed() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut config = config(kernel, dir.path());
    let (path, log) = (config.spec.disks[0].path.clone(), at("disk.log"));
    empty(&path);
    empty(&at("base"));
    config.spec.disks[0].log = Some(log.clone());
    let machine = Machine::launch(config).await.unwrap();
    let log = Recorder::open(&log);

    let (seed, count) = (lighter_tests::env::seed(), support::count(30, 400));
    let each = [0, 1, 2].map(|n| write(&machine, &log, n, seed ^ (n as u64) << 60, count));
    let [first, second, third] = each;
    let told: [Told; JOURNALS] = tokio::join!(first, second, third).into();
    machine.kill().await.unwrap();
    assert_eq!(exited(&machine).await, ExitReason::Killed);

    let log = log.read();
    let flushes = log.flushes().len();
    let (entries, discards) = (&log.entries, log.entries.iter().filter(|e| e.discards));
    println!(
        "{} entries, {flushes} flushes, {} discards",
        entries.len(),
        discards.count()
    );
    assert!(flushes >= FLUSHES, "{flushes} flushes");
    let how = Losses {
        base: &at("base"),
        disk: &at("lost"),
        flushes: support::count(FLUSHES * 2, usize::MAX),
        torn: 3,
    };
    let mut looked = 0;
    log.losses(&how, &mut Random::from(seed), |loss| {
        looked += 1;
        let disk = std::fs::read(how.disk).unwrap();
        for (journal, told) in disk.chunks(JOURNAL).zip(&told) {
            check(journal, told, loss.place, &loss.what);
        }
    });
    println!("{looked} disks were looked at");
    // Nothing was written that is not in the log.
    let behind = &log.entries[log.flushes().last().map_or(0, |flush| flush + 1)..];
    let base = File::options().write(true).open(how.base).unwrap();
    for entry in behind {
        log.apply(entry, entry.sectors(), &base).unwrap();
    }
    let (base, disk) = (std::fs::read(how.base), std::fs::read(path));
    assert!(base.unwrap() == disk.unwrap(), "the log is not the disk");
}
