//! The guest's memory: one file without a name, mapped, sealed at its size, and lent to the processes of devices.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, madvise};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _, GuestRegionMmap,
};

use super::error::Error;
use super::layout::{HIGH_MEMORY, LOW_END};
use crate::ring::Memory;

/// Makes and maps it. Nothing of it takes room before it is used; in huge pages it is taken in pieces of 2 MiB, if the
/// host gives them (Documentation/admin-guide/mm/transhuge.rst, `shmem_enabled`).
pub fn make(bytes: u64, huge_pages: bool) -> Result<Memory, Error> {
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
    let memory = Memory::from_ranges_with_files(pieces);
    let memory = memory.map_err(|error| Error::Memory(error.to_string()))?;
    if huge_pages {
        for region in memory.iter() {
            ask_for_huge_pages(region)?;
        }
    }
    Ok(memory)
}

/// Says of a region that huge pages are worth their room there.
fn ask_for_huge_pages(region: &GuestRegionMmap) -> Result<(), Error> {
    let length = usize::try_from(region.len()).map_err(|error| Error::Memory(error.to_string()))?;
    // SAFETY: the range is the region's own mapping, of which the advice changes no content.
    let asked = unsafe { madvise(region.as_ptr().cast(), length, Advice::LinuxHugepage) };
    asked.map_err(|error| Error::Memory(format!("the host has no huge pages: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the system says of the mappings of this memory: the line of their flags.
    fn flags(memory: &Memory) -> Vec<String> {
        let starts = memory.iter().map(|region| region.as_ptr().addr());
        let starts: Vec<String> = starts.map(|start| format!("{start:x}-")).collect();
        let all = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut wanted = false;
        let mut found = Vec::new();
        for line in all.lines() {
            if line.contains(" rw-s ") {
                wanted = starts
                    .iter()
                    .any(|start| line.trim_start_matches('0').starts_with(start));
            } else if wanted && let Some(flags) = line.strip_prefix("VmFlags:") {
                found.push(flags.to_owned());
                wanted = false;
            }
        }
        found
    }

    #[test]
    fn huge_pages_are_asked_for_where_they_are_wanted() {
        const BYTES: u64 = LOW_END + (64 << 20);
        for wanted in [true, false] {
            let memory = make(BYTES, wanted).unwrap();
            let flags = flags(&memory);
            assert_eq!(flags.len(), 2, "{flags:?}");
            for flags in flags {
                let asked = flags.split_whitespace().any(|flag| flag == "hg");
                assert_eq!(asked, wanted, "{flags}");
            }
        }
    }
}
