//! What only Linux does this way.

mod datagrams;
mod ports;
mod resolution;
mod routes;
pub mod sandbox;
pub mod threads;

pub use datagrams::Datagrams;
pub use ports::{first_unprivileged_port, port_owner};
pub use resolution::ResolutionWatch;
pub use routes::{RouteWatch, routes};

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Where sockets go when the login has no runtime folder.
#[must_use]
pub fn default_run_dir(superuser: bool, base: &directories::BaseDirs) -> PathBuf {
    if superuser {
        return PathBuf::from("/run/lighter");
    }
    if let Some(dir) = login_dir() {
        return dir.join("lighter");
    }
    match base.runtime_dir() {
        Some(dir) => dir.join("lighter"),
        None => base
            .state_dir()
            .map_or_else(|| base.home_dir().join(".local/state"), Path::to_path_buf)
            .join("lighter/run"),
    }
}

/// The folder that logind makes for a user who is logged in somewhere, also where this process was
/// started without its name in the environment (cron, su): both must find the same daemon.
fn login_dir() -> Option<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let dir = PathBuf::from(format!("/run/user/{uid}"));
    let found = std::fs::symlink_metadata(&dir).ok()?;
    (found.is_dir() && std::os::unix::fs::MetadataExt::uid(&found) == uid).then_some(dir)
}

/// Whether a socket listens.
pub(super) fn listens(socket: &OwnedFd) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_acceptconn(socket)?)
}

/// What registers a program with the user's session.
pub const SERVICE_MANAGER: Option<&str> = Some("systemd");

/// Marks every descriptor but the standard streams to be closed by the next exec.
///
/// Async-signal-safe: one system call. A kernel without it (before 5.11) leaves them open.
pub(super) fn keep_standard_streams_only() {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC closes nothing now and touches no memory.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
}

/// Where programs put temporary files, beside what the environment says.
pub const TEMPORARY_FOLDERS: &[&str] = &["/tmp", "/var/tmp"];

/// The host's memory in bytes.
#[must_use]
pub fn total_memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram as u64)
}

/// Opens what is to be shared, without a right to read it, and says where it really is.
///
/// The place is asked of the descriptor and not of the path: what is judged is what was opened,
/// whatever links were changed meanwhile.
///
/// # Errors
/// What the system answers.
pub fn open_share_target(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Ok((fd, real))
}

/// Another process, to see its end.
#[derive(Debug)]
pub struct ProcessWatch(OwnedFd);

impl ProcessWatch {
    /// Watches a process that runs; none if it has gone.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(pid.try_into().ok()?)?;
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// Blocks until it has gone, and its memory with it; false if it has not within `limit`.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let limit = limit.try_into().ok();
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        // A signal cuts the wait short; whoever is signalled wants to be done.
        poll(&mut polled, limit.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Ends it at once; one that has gone is no error.
    ///
    /// # Errors
    /// What the system answers where it is somebody else's.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.0, Signal::KILL) {
            Err(Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }
}
