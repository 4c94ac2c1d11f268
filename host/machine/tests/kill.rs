//! What the guest was told is on its disk is there after the machine's process was killed, wherever that was.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod support;

use std::path::{Path, PathBuf};

use lighter_machine::{ExitReason, Machine};
use support::{
    port,
    process::{config, connect, exited, kill, launch},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[test]
#[ignore = "started by the other tests, with their socket as its standard input"]
fn the_machine_process_itself() {
    _ = lighter_machine::process_main();
}

/// A machine on the disk that is there.
async fn start(kernel: &Path, dir: &Path) -> Machine {
    launch(|| config(kernel.to_owned(), dir)).await
}

/// Asks the guest for records of its disk; see `tests/guest/init.rs`.
async fn records(
    machine: &Machine,
    what: u8,
    seed: u64,
    count: u64,
) -> lighter_machine::GuestStream {
    let mut stream = connect(machine, port::RECORDS).await;
    let head = [&[what][..], &seed.to_le_bytes(), &count.to_le_bytes()].concat();
    stream.write_all(&head).await.unwrap();
    stream
}

/// Writes until so many records are acknowledged, kills the machine while it writes on, and returns how many were.
async fn write_and_kill(machine: Machine, seed: u64, enough: u64) -> u64 {
    let pid = machine.status().await.unwrap().pid;
    let mut acknowledged = records(&machine, b'w', seed, u64::MAX).await;
    for record in 0..enough {
        assert_eq!(acknowledged.read_u64_le().await.unwrap(), record);
    }
    kill(pid);
    let mut count = enough;
    // What was acknowledged meanwhile counts, too.
    while let Ok(record) = acknowledged.read_u64_le().await {
        assert_eq!(record, count);
        count += 1;
    }
    assert_eq!(exited(&machine).await, ExitReason::Vanished);
    count
}

#[tokio::test]
async fn acknowledged_records_outlive_the_machine_process() {
    let kernel: PathBuf = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let seed = lighter_tests::env::seed();
    let mut written: Option<(u64, u64)> = None;
    for round in 0..support::count(3_u64, 50) {
        let machine = start(&kernel, dir.path()).await;
        if let Some((seed, count)) = written {
            let mut answer = records(&machine, b'r', seed, count).await;
            let found = answer.read_u64_le().await.unwrap();
            assert_eq!(found, count, "of round {}", round - 1);
        }
        let (seed, enough) = (
            seed.wrapping_add(round << 32),
            1 + (seed >> (8 * (round % 8))) % 64,
        );
        let count = write_and_kill(machine, seed, enough).await;
        eprintln!("round {round}: {count} records were acknowledged");
        written = Some((seed, count));
    }
    let machine = start(&kernel, dir.path()).await;
    let (seed, count) = written.unwrap();
    let found = records(&machine, b'r', seed, count)
        .await
        .read_u64_le()
        .await;
    assert_eq!(found.unwrap(), count, "of the last round");
    machine.kill().await.unwrap();
}
