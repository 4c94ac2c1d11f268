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
const PAUSE: Duration = Duration::from_millis(2);

/// Ends the machine. Containers have been stopped by the agent; what still runs is killed.
pub fn machine(end: End, native: bool) -> ExitCode {
    if native {
        // The kernel kills the rest of the namespace with its first process.
        rustix::fs::sync();
        return ExitCode::SUCCESS;
    }
    kill_everyone();
    rustix::fs::sync();
    close_disk();
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

/// Marks the file system clean, once nothing holds it open for writing any more. If something
/// goes on doing so, the journal is replayed at the next boot, as after a power cut.
fn close_disk() {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match mount_remount(DATA, MountFlags::RDONLY, "") {
            // EINVAL: there was no disk.
            Ok(()) | Err(Errno::INVAL) => return,
            // What was killed is still on its way out.
            Err(Errno::BUSY) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(error) => {
                say(format_args!(
                    "the data disk is left to its journal: {error}"
                ));
                return;
            }
        }
    }
}

fn kill_everyone() {
    // SAFETY: `kill` takes two integers; -1 means every process but the caller.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => thread::sleep(PAUSE),
            // Nobody is left.
            Err(_) => return,
        }
    }
    say(format_args!("some processes do not end"));
}
