//! What only Linux does this way.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Where sockets go when the login has no runtime folder.
#[must_use]
pub fn default_run_dir(superuser: bool, base: &directories::BaseDirs) -> PathBuf {
    if superuser {
        return PathBuf::from("/run/lighter");
    }
    match base.runtime_dir() {
        Some(dir) => dir.join("lighter"),
        None => base
            .state_dir()
            .map_or_else(|| base.home_dir().join(".local/state"), Path::to_path_buf)
            .join("lighter/run"),
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
