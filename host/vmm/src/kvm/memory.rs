//! The guest's memory: one file without a name, mapped, sealed at its size, and lent to the processes of devices.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use vm_memory::{FileOffset, GuestAddress};

use super::error::Error;
use super::layout::{HIGH_MEMORY, LOW_END};
use crate::ring::Memory;

/// Makes and maps it. Nothing of it takes room before it is used.
pub fn make(bytes: u64) -> Result<Memory, Error> {
    let wrong = |what: &str| Error::Memory(what.to_owned());
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("lighter-guest", flags)
        .map_err(|error| Error::Memory(error.to_string()))?;
    rustix::fs::ftruncate(&file, bytes).map_err(|error| Error::Memory(error.to_string()))?;
    // A file that shrinks below a mapping kills whoever touches it: nobody it is lent to may do that.
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(|error| Error::Memory(error.to_string()))?;
    let file = Arc::new(File::from(file));
    let low = bytes.min(LOW_END);
    let piece = |start: u64, from: u64, length: u64| {
        let length = usize::try_from(length).map_err(|_| wrong("larger than addresses"))?;
        let place = FileOffset::from_arc(Arc::clone(&file), from);
        Ok::<_, Error>((GuestAddress(start), length, Some(place)))
    };
    let mut pieces = vec![piece(0, 0, low)?];
    if bytes > low {
        pieces.push(piece(HIGH_MEMORY, low, bytes - low)?);
    }
    Memory::from_ranges_with_files(pieces).map_err(|error| Error::Memory(error.to_string()))
}
