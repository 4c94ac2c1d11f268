//! What is measured of each side.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::machine::{Machine, Side};
use super::{Files, Result, row, usage};

/// Ports of the tests' init (`tests/guest/init.rs`).
const ECHO: u32 = 10;
const ORDERS: u32 = 15;
const SOURCE: u32 = 17;
const SINK: u32 = 21;

/// How long nothing happens before it is looked what that costs, and while it is.
const SETTLES: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(10);
/// What goes each way over one stream, in bytes.
const STREAM: usize = 64 << 20;
/// Bytes there and back.
const ECHOES: usize = 300;

const MILLI: f64 = 1e3;
const MICRO: f64 = 1e6;
const MIB: f64 = 1048576.0;
const MEGABYTE: f64 = 1e6;

/// Starts a machine.
pub fn warm_up(files: &Files, side: Side) -> Result<Machine> {
    let machine = Machine::start(side, &files.kernel, &files.guest, &files.disk)?;
    drop(machine.connect(ORDERS)?);
    Ok(machine)
}

/// From asking for a machine until its init listens on all its ports.
pub fn boot(files: &Files, side: Side) -> Result<Machine> {
    // Whoever booted before has come to rest.
    std::thread::sleep(SETTLES);
    let others = usage::guests()?;
    let machine = Machine::start(side, &files.kernel, &files.guest, &files.disk)?;
    drop(machine.connect(ORDERS)?);
    row("boot", side, machine.began.elapsed().as_secs_f64() * MILLI);
    row("boot-exits", side, usage::exits_beside(&others)?);
    Ok(machine)
}

/// What a machine costs while nothing happens. `without` is what this process had before the first: what one of ours that
/// ended in it leaves to the next is not free, and is no cost of a monitor that is a process of its own.
pub fn idle(files: &Files, side: Side, without: f64) -> Result<()> {
    let own = std::process::id();
    let before = usage::resident(own)?;
    let machine = Machine::start(side, &files.kernel, &files.guest, &files.disk)?;
    drop(machine.connect(ORDERS)?);
    std::thread::sleep(SETTLES);
    let others: Vec<u32> = machine.vm.observe().vm_pid.into_iter().collect();
    let baseline = if others.is_empty() { without } else { before };
    let mut resident = usage::resident(own)? - baseline;
    let mut used = -usage::processor(own)?;
    for other in &others {
        resident += usage::resident(*other)?;
        used -= usage::processor(*other)?;
    }
    row("memory", side, resident / MIB);
    let left = usage::exits()?;
    std::thread::sleep(IDLE);
    let left = usage::exits()? - left;
    row("idle-exits", side, left / IDLE.as_secs_f64());
    used += usage::processor(own)?;
    for other in &others {
        used += usage::processor(*other)?;
    }
    row("idle", side, used / IDLE.as_secs_f64() * MILLI);
    Ok(())
}

/// Streams and the disk, by the tests' guest.
pub fn guest(files: &Files, side: Side) -> Result<()> {
    let machine = Machine::start(side, &files.kernel, &files.guest, &files.disk)?;
    // The last of its listeners.
    drop(machine.connect(ORDERS)?);
    let bytes = vec![0x5a; 128 << 10];
    let mut buffer = vec![0; 128 << 10];

    let mut stream = machine.connect(SINK)?;
    let left = usage::exits()?;
    let start = Instant::now();
    for _ in 0..STREAM / bytes.len() {
        stream.write_all(&bytes)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut buffer[..8])?;
    row(
        "vsock-in",
        side,
        STREAM as f64 / MEGABYTE / start.elapsed().as_secs_f64(),
    );
    let left = usage::exits()? - left;
    row("vsock-in-exits", side, left / (STREAM as f64 / MEGABYTE));

    let mut stream = machine.connect(SOURCE)?;
    let left = usage::exits()?;
    let start = Instant::now();
    for _ in 0..STREAM / buffer.len() {
        // An end before all is there is an error of this.
        stream.read_exact(&mut buffer)?;
    }
    row(
        "vsock-out",
        side,
        STREAM as f64 / MEGABYTE / start.elapsed().as_secs_f64(),
    );
    let left = usage::exits()? - left;
    row("vsock-out-exits", side, left / (STREAM as f64 / MEGABYTE));
    drop(stream);

    let mut stream = machine.connect(ECHO)?;
    let mut taken = Vec::new();
    let left = usage::exits()?;
    for _ in 0..ECHOES {
        let start = Instant::now();
        stream.write_all(&[1])?;
        stream.read_exact(&mut buffer[..1])?;
        taken.push(start.elapsed());
    }
    let left = usage::exits()? - left;
    row("echo-exits", side, left / ECHOES as f64);
    taken.sort_unstable();
    row(
        "vsock-latency",
        side,
        taken[ECHOES / 2].as_secs_f64() * MICRO,
    );

    for (name, order) in [("disk-write", b'W'), ("disk-read", b'R')] {
        let mut stream = machine.connect(ORDERS)?;
        stream.write_all(&[order])?;
        let mut answer = [0; 16];
        stream.read_exact(&mut answer)?;
        let [amount, nanos] = [&answer[..8], &answer[8..]]
            .map(|half| u64::from_le_bytes(half.try_into().unwrap_or_default()) as f64);
        row(name, side, amount / MEGABYTE / (nanos / 1e9));
    }
    Ok(())
}
