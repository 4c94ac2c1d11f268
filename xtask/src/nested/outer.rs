//! The outer machine itself: one QEMU, from its kernel's first instruction to its last.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::outcome;
use crate::usage;

/// Longest the whole machine may run; on two quiet processors it takes a sixth of that.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// Its memory in MiB: the archive, what is unpacked of it, and the disks and machines of the tests.
const MEMORY: &str = "6144";

/// Runs the outer machine to its end and returns what came over its second serial line.
pub fn run(kernel: &Path, initramfs: &Path, log: &Path) -> Result<Vec<outcome::Line>> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none"])
        // Every number here is one that Debian's kernel and its kvm-amd work with under TCG.
        .args(["-accel", "tcg,thread=multi"])
        .args(["-cpu", "EPYC,+svm,+npt", "-machine", "q35"])
        .args(["-smp", "2", "-m", MEMORY, "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
        .arg("-serial")
        .arg(format!("file:{}", log.display()))
        .arg("-chardev")
        .arg(format!("socket,id=tests,fd={}", theirs.as_raw_fd()))
        .args(["-serial", "chardev:tests"])
        .stdin(Stdio::null())
        .stderr(File::create(log.with_extension("qemu"))?);
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?;
    let mut child = qemu
        .spawn()
        .context("qemu-system-x86_64 could not be started")?;
    drop(theirs);
    let pid = child.id();
    let (ended, over) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if over.recv_timeout(LIMIT).is_err() {
            eprintln!("nested: the outer machine is still running after {LIMIT:?}: it is ended");
            // Fails only if it has just ended by itself.
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    });
    // Until somebody waits for it, what a process used can be read.
    let lines = outcome::read(ours, || usage::seconds(&[pid]));
    child.wait()?;
    let _ = ended.send(());
    let _ = guard.join();
    lines
}
