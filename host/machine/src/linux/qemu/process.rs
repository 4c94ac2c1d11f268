//! QEMU as a child process: started with exactly the descriptors it is to have.

use std::{
    io::Read,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
};

use rustix::{
    io::{Errno, FdFlags},
    process::{PidfdFlags, Signal},
};

use crate::{Error, sys::console::printable};

/// How much of QEMU's own words is kept.
const MAX_WORDS: usize = 4 << 10;

/// Starts the program. It is killed when the calling thread ends: the kernel ties the death signal
/// to the thread, so this is called on one that lives as long as the machine.
pub fn spawn(program: &Path, args: &[String], fds: &[RawFd]) -> Result<(Child, OwnedFd), Error> {
    let inherited = fds.to_vec();
    let parent = rustix::process::getpid();
    let mut command = Command::new(program);
    command.args(args).env_clear().current_dir("/");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let before_exec = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            // The parent died before the line above: nobody would ever end this process.
            return Err(Errno::SRCH.into());
        }
        for fd in &inherited {
            // SAFETY: the parent keeps these descriptors open until the spawn has returned.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(*fd) };
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes only plain system calls; it does not
    // allocate, lock or panic.
    unsafe { command.pre_exec(before_exec) };
    let failed =
        |e: &dyn std::fmt::Display| Error::system(format!("start `{}`", program.display()), e);
    let mut child = command.spawn().map_err(|e| failed(&e))?;
    let pid = rustix::process::Pid::from_child(&child);
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok((child, pidfd)),
        Err(e) => {
            _ = child.kill();
            _ = child.wait();
            Err(failed(&e))
        }
    }
}

/// The numbers of descriptors.
pub fn numbers(fds: &[OwnedFd]) -> Vec<RawFd> {
    fds.iter().map(AsRawFd::as_raw_fd).collect()
}

/// Reads what QEMU says until it ends; the end of it is kept.
pub fn words(mut from: ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        kept.extend_from_slice(&bytes[..n]);
        let excess = kept.len().saturating_sub(MAX_WORDS);
        kept.drain(..excess);
    }
    printable(&kept)
}

/// How it ended, in words.
pub fn describe(status: ExitStatus, words: &str) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(0), _) => "the guest restarted without saying goodbye".to_owned(),
        (Some(code), _) => format!("QEMU exited with code {code}"),
        (None, Some(signal)) => format!("QEMU was killed by signal {signal}"),
        (None, None) => "QEMU ended".to_owned(),
    };
    if words.is_empty() {
        how
    } else {
        format!("{how}: {words}")
    }
}
