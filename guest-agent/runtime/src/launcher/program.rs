//! The program that enters containers, out of their reach (CVE-2019-5736).
//!
//! A process in the container can reach the running program as `/proc/PID/exe`. It is therefore
//! executed from a read-only mount, or else from a sealed copy in memory.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};

use crate::StartError;

/// Opens the program at `path` for execution by descriptor.
pub(super) fn open(path: &Path) -> Result<OwnedFd, StartError> {
    let fail = |errno| StartError::kernel("program", errno, format!("open {}", path.display()));
    let file =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let mount = rustix::fs::fstatvfs(&file).map_err(fail)?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(file);
    }
    sealed_copy(
        file.as_fd()
            .try_clone_to_owned()
            .map_err(|error| io_fail(path, &error))?,
    )
    .map_err(|error| io_fail(path, &error))
}

fn io_fail(path: &Path, error: &std::io::Error) -> StartError {
    let errno = rustix::io::Errno::from_io_error(error).unwrap_or(rustix::io::Errno::IO);
    StartError::kernel("program", errno, format!("copy {}", path.display()))
}

fn sealed_copy(file: OwnedFd) -> std::io::Result<OwnedFd> {
    let mut bytes = vec![];
    std::fs::File::from(file).read_to_end(&mut bytes)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("lighter-enter", flags)?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let count = rustix::io::write(&memory, rest)?;
        rest = &rest[count..];
    }
    // The sealed file keeps mode 0777: a container's user other than root executes it as init.
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory)
}
