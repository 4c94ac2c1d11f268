//! The end of the machine: nothing runs, everything is on the disk, then the reset.

use std::io;
use std::process::{ExitCode, exit};
use std::thread;
use std::time::{Duration, Instant};

use lighter_init::End;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};

use crate::boot::DATA;
use crate::console::say;

/// How long killed processes may take to go: one that waits for a dead share never does.
const PATIENCE: Duration = Duration::from_secs(3);

/// Ends the machine. Containers have been stopped by the agent; what still runs is killed.
pub fn machine(end: End, native: bool) -> ExitCode {
    if native {
        // The kernel kills the rest of the namespace with its first process.
        rustix::fs::sync();
        return ExitCode::SUCCESS;
    }
    kill_everyone();
    rustix::fs::sync();
    // Marks the file system clean where nothing holds it open for writing any more. If something
    // does, the journal is replayed at the next boot, as after a power cut; nothing is lost.
    if let Err(error) = mount_remount(DATA, MountFlags::RDONLY, "")
        && error != Errno::INVAL
    {
        say(format_args!(
            "the data disk is left to its journal: {error}"
        ));
    }
    let _ = unmount(DATA, UnmountFlags::DETACH);
    rustix::fs::sync();
    let command = match end {
        End::Restart => RebootCommand::Restart,
        End::PowerOff => RebootCommand::PowerOff,
    };
    let error = match reboot(command) {
        Ok(()) => io::Error::other("the machine goes on"),
        Err(error) => error.into(),
    };
    say(format_args!("the end failed: {error}"));
    // Returning is the last way out: the kernel panics and, told so by its command line, resets.
    exit(1)
}

fn kill_everyone() {
    // SAFETY: `kill` takes two integers; -1 means every process but the caller.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => thread::sleep(Duration::from_millis(2)),
            // Nobody is left.
            Err(_) => return,
        }
    }
    say(format_args!("some processes do not end"));
}
