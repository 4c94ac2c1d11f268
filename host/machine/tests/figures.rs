//! What the machine process of the real `lighter` costs with our own monitor in it.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod support;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lighter_machine::{Backend, Hypervisor as _, Kvm, Machine};
use lighter_tests::env;
use support::{PATIENCE, lighter, port, process, resident};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// KiB that an idle machine may have for itself, without its guest's memory.
const IDLE: u64 = 5 << 10;
/// KiB more for each stream that carries bytes.
const STREAM: u64 = 64;
/// Between two looks at a machine with active streams.
const TICK: Duration = Duration::from_millis(10);
/// Looks at each number of streams, at least.
const LOOKS: u32 = 10;

/// Says why the test is not run.
fn skip(why: &str) {
    env::skip("active_streams_take_64_kib_each_at_most", why);
}

#[tokio::test]
async fn active_streams_take_64_kib_each_at_most() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    if let Err(why) = Kvm.probe() {
        return skip(why.hint().unwrap_or("no virtualisation"));
    }
    let config = match lighter::config(Backend::Kvm, kernel, dir.path()) {
        Ok(config) => config,
        Err(why) => return skip(&why),
    };
    let machine = Machine::launch(config).await.unwrap();
    process::connect(&machine, port::ORDERS).await;
    let pid = machine.status().await.unwrap().pid;
    let idle = match resident::beside_the_guest(pid) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            machine.kill().await.unwrap();
            return skip("the memory of the machine process is for root alone to look at");
        }
        idle => idle.unwrap(),
    };
    eprintln!(
        "idle: {} KiB of its own, {} KiB of its program's",
        idle.own, idle.files
    );
    assert!(idle.own <= IDLE, "idle: {idle:?}");
    for streams in [1, 16, 64] {
        let over = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&over);
        let looked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&looked);
        let watcher = std::thread::spawn(move || watch(pid, &watched, &counted));
        let mut carried = carry(&machine, streams).await;
        // However fast the machine, it was looked at while they carried.
        while carried.is_ok() && !watcher.is_finished() && looked.load(Ordering::Relaxed) < LOOKS {
            carried = carry(&machine, streams).await;
        }
        over.store(true, Ordering::Relaxed);
        let highest = watcher.join().unwrap();
        let looks = looked.load(Ordering::Relaxed);
        carried.unwrap();
        let more = highest.saturating_sub(idle.total());
        eprintln!("{streams} streams: at most {more} KiB more in {looks} looks");
        assert!(
            more <= STREAM * streams,
            "{streams} streams: {more} KiB more than {idle:?}"
        );
    }
    machine.kill().await.unwrap();
}

/// The most that was seen; counts how often somebody looked.
fn watch(pid: u32, over: &AtomicBool, looks: &AtomicU32) -> u64 {
    let mut highest = 0;
    let mut next = Instant::now();
    while !over.load(Ordering::Relaxed) {
        highest = highest.max(resident::beside_the_guest(pid).unwrap().total());
        looks.fetch_add(1, Ordering::Relaxed);
        next += TICK;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    highest
}

/// Has all of them carry bytes both ways at once.
async fn carry(machine: &Machine, streams: u64) -> Result<(), tokio::time::error::Elapsed> {
    const EACH: usize = 1 << 20;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..streams {
        let stream = process::connect(machine, port::ECHO).await;
        let (mut from, mut to) = stream.into_split();
        tasks.spawn(async move {
            to.write_all(&vec![b's'; EACH]).await.unwrap();
            to.shutdown().await.unwrap();
        });
        tasks.spawn(async move {
            let mut bytes = vec![0; 64 << 10];
            for _ in 0..EACH / bytes.len() {
                // An end before all is there is an error of this.
                from.read_exact(&mut bytes).await.unwrap();
            }
        });
    }
    tokio::time::timeout(PATIENCE, tasks.join_all())
        .await
        .map(drop)
}
