//! What only Linux does this way.

use std::path::{Path, PathBuf};

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
