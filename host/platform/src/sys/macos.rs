//! What only macOS does this way.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Where sockets go: beside the user's other application state, on a short path.
#[must_use]
pub fn default_run_dir(superuser: bool, base: &directories::BaseDirs) -> PathBuf {
    if superuser {
        return PathBuf::from("/var/run/lighter");
    }
    base.home_dir().join(".lighter/run")
}

/// Whether a socket listens: there is no way to ask, and an accept on one that does not fails.
pub(super) fn listens(_socket: &OwnedFd) -> io::Result<bool> {
    Ok(true)
}

/// What registers a program with the user's session: nothing is written for launchd yet.
pub const SERVICE_MANAGER: Option<&str> = None;

/// Descriptors of the standard library close by themselves at exec; there is no call for all.
pub(super) fn keep_standard_streams_only() {}

/// Where programs put temporary files, beside what the environment says.
pub const TEMPORARY_FOLDERS: &[&str] = &["/tmp", "/private/tmp", "/private/var/folders"];

/// The host's memory in bytes.
#[must_use]
pub fn total_memory_bytes() -> u64 {
    let mut bytes: u64 = 0;
    let mut length = size_of::<u64>();
    // SAFETY: `sysctlbyname` writes at most `length` bytes to the second argument, which is a
    // u64 of exactly that size; the name is a C string; nothing is set (null, 0).
    let result = unsafe {
        libc::sysctlbyname(
            c"hw.memsize".as_ptr(),
            (&raw mut bytes).cast(),
            &raw mut length,
            std::ptr::null_mut(),
            0,
        )
    };
    if result == 0 { bytes } else { 0 }
}

/// Opens what is to be shared and says where it really is.
///
/// The place is asked of the descriptor and not of the path: what is judged is what was opened,
/// whatever links were changed meanwhile.
///
/// # Errors
/// What the system answers.
pub fn open_share_target(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let file = File::open(path)?;
    let real = rustix::fs::getpath(&file)?;
    let real = PathBuf::from(std::ffi::OsString::from_vec(real.into_bytes()));
    Ok((file.into(), real))
}

/// Another process, to see its end.
#[derive(Debug)]
pub struct ProcessWatch(Pid);

impl ProcessWatch {
    /// Watches a process that runs; none if it has gone.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(pid.try_into().ok()?)?;
        test_kill_process(pid).ok().map(|()| Self(pid))
    }

    /// Blocks until it has gone; false if it has not within `limit`.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while test_kill_process(self.0).is_ok() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Ends it at once; one that has gone is no error.
    ///
    /// # Errors
    /// What the system answers where it is somebody else's.
    pub fn kill(&self) -> io::Result<()> {
        match kill_process(self.0, Signal::KILL) {
            Err(Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }
}
