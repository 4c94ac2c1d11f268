//! The few words spoken with QEMU's control socket.
//!
//! QEMU greets with its version. After that we only listen: when a write failed because the host's
//! disk is full, QEMU has paused the machine, and we let it try again every second until there is
//! room.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use lighter_platform::sys::threads;
use serde::Deserialize;

use super::find::Version;
use crate::sys::roles;

/// The longest line read; QEMU's are below 1 KiB.
const MAX_LINE: u64 = 64 << 10;
/// How long a paused machine waits before it tries its write again.
const RETRY: Duration = Duration::from_secs(1);

/// Whether writes to the disk image fail for want of room, as far as QEMU has told.
#[derive(Clone, Debug, Default)]
pub struct DiskFull(Arc<Mutex<Option<Instant>>>);

impl DiskFull {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// A write that was let try again and failed was told about within moments; one that was not
    /// told about went through.
    pub fn now(&self) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < RETRY * 3)
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Greeting>,
    event: Option<String>,
    data: Option<EventData>,
}

#[derive(Deserialize)]
struct Greeting {
    version: Versions,
}

#[derive(Deserialize)]
struct Versions {
    qemu: Numbers,
}

#[derive(Deserialize)]
struct Numbers {
    major: u32,
    minor: u32,
    micro: u32,
}

#[derive(Default, Deserialize)]
struct EventData {
    /// The error was a want of room.
    #[serde(default)]
    nospace: bool,
    /// What QEMU did: `stop` means that it has paused the machine.
    #[serde(default)]
    action: String,
}

/// Listens until QEMU ends, on a thread of its own; the version is sent once.
pub fn follow(
    socket: UnixStream,
    version: mpsc::Sender<Version>,
    disk_full: DiskFull,
) -> std::io::Result<()> {
    let work = move || drop(listen(socket, &version, &disk_full));
    threads::spawn("qmp", roles::QMP, work).map(drop)
}

fn listen(
    mut socket: UnixStream,
    version: &mpsc::Sender<Version>,
    disk_full: &DiskFull,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(socket.try_clone()?);
    let mut told: Option<Instant> = None;
    loop {
        let mut text = Vec::new();
        let mut limited = std::io::Read::take(&mut lines, MAX_LINE);
        if limited.read_until(b'\n', &mut text)? == 0 {
            return Ok(());
        }
        // Answers to our commands have neither of the fields.
        let Ok(line) = serde_json::from_slice::<Line>(&text) else {
            continue;
        };
        if let Some(greeting) = line.greeting {
            let Numbers {
                major,
                minor,
                micro,
            } = greeting.version.qemu;
            // Nobody waits for it any more if the start was given up.
            _ = version.send(Version {
                major,
                minor,
                micro,
            });
            socket.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
        }
        if line.event.as_deref() == Some("BLOCK_IO_ERROR") {
            let EventData { nospace, action } = line.data.unwrap_or_default();
            // Said once, and not every second for as long as it lasts.
            if told.is_none_or(|at| at.elapsed() > RETRY * 3) {
                tracing::warn!(
                    full = nospace,
                    action,
                    "the disk image could not be read or written"
                );
            }
            told = Some(Instant::now());
            if nospace {
                disk_full.note();
            }
            if action == "stop" {
                std::thread::sleep(RETRY);
                socket.write_all(b"{\"execute\":\"cont\"}\n")?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is answered to one error of the disk, and whether the host's disk counts as full then.
    fn after(data: &str) -> (String, bool) {
        let (ours, mut qemus) = UnixStream::pair().unwrap();
        let event = format!("{{\"event\":\"BLOCK_IO_ERROR\",\"data\":{data}}}\n");
        qemus.write_all(event.as_bytes()).unwrap();
        qemus.shutdown(std::net::Shutdown::Write).unwrap();
        let disk_full = DiskFull::default();
        listen(ours, &mpsc::channel().0, &disk_full).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut qemus, &mut answer).unwrap();
        (answer, disk_full.now())
    }

    #[test]
    fn only_a_want_of_room_counts_as_a_full_disk_and_only_a_paused_machine_goes_on() {
        let cont = "{\"execute\":\"cont\"}\n";
        let written = |action: &str, nospace: bool| {
            after(&format!(
                "{{\"device\":\"\",\"operation\":\"write\",\"action\":\"{action}\",\"nospace\":{nospace},\
                 \"reason\":\"\"}}"
            ))
        };
        assert_eq!(written("stop", true), (cont.to_owned(), true));
        assert_eq!(written("stop", false), (cont.to_owned(), false));
        assert_eq!(written("report", false), (String::new(), false));
        assert_eq!(after("{}"), (String::new(), false));
    }
}
