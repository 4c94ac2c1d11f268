//! What the agent tells its successor: values in sealed memory, held by init.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use lighter_init::Supervisor;
use lighter_protocol::MAX_FRAME;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The accepted hello.
pub const BOOT: &str = "boot";
/// The shutdown under way.
pub const SHUTDOWN: &str = "shutdown";

/// Puts a value into init's store; it is never on a disk.
pub fn put<T: Serialize>(supervisor: &Supervisor, name: &str, value: &T) -> io::Result<()> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(&serde_json::to_vec(value)?)?;
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK,
    )?;
    supervisor.put(name, file.as_fd()).map_err(io::Error::other)
}

/// Reads a value out of a descriptor from init's store.
pub fn take<T: DeserializeOwned>(stored: OwnedFd) -> io::Result<T> {
    let file = File::from(stored);
    let length = file.metadata()?.len();
    // Twice: in JSON, text may take more room than it took on the wire.
    if length > 2 * u64::from(MAX_FRAME) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    // By offset: the position is shared with every descriptor of this file.
    file.read_exact_at(&mut bytes, 0)?;
    Ok(serde_json::from_slice(&bytes)?)
}
