//! What only macOS does this way.

use std::path::PathBuf;

/// Where sockets go: beside the user's other application state, on a short path.
#[must_use]
pub fn default_run_dir(superuser: bool, base: &directories::BaseDirs) -> PathBuf {
    if superuser {
        return PathBuf::from("/var/run/lighter");
    }
    base.home_dir().join(".lighter/run")
}

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
