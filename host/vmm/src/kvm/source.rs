//! Files whose bytes go into the guest's memory: the kernel and its initial file system.
//!
//! Called by [`super::boot`]. Reading into a mapping makes each of its pages twice, with zeros and with what was read, and
//! comes by a fault to each; written to the file behind the mapping a page is made once. For a kernel of 14 MiB that is
//! half of the time. Mapping the kernel's own file in its place would be no better: of its 3,578 pages it changes 2,371
//! while it boots (`docs/decisions/0011-the-kernel-is-copied.md`).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use rustix::fs::{SeekFrom as At, seek, sendfile};
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{
    GuestMemoryBackend as _, GuestMemoryRegion as _, ReadVolatile, VolatileMemoryError,
    VolatileSlice,
};

use crate::ring::Memory;

/// A file to be read into this memory.
pub struct Source<'a> {
    file: &'a File,
    memory: &'a Memory,
}

impl<'a> Source<'a> {
    /// Reads from where the file stands.
    pub fn new(file: &'a File, memory: &'a Memory) -> Self {
        Self { file, memory }
    }

    /// The file behind this address of the mapping, and where in it.
    fn behind(&self, address: usize) -> Option<(&File, u64)> {
        self.memory.iter().find_map(|region| {
            let within = u64::try_from(address.checked_sub(region.as_ptr().addr())?).ok()?;
            let place = region.file_offset().filter(|_| within < region.len())?;
            Some((place.file(), place.start().checked_add(within)?))
        })
    }
}

impl Read for Source<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl ReadVolatile for Source<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        slice: &mut VolatileSlice<B>,
    ) -> Result<usize, VolatileMemoryError> {
        let address = slice.ptr_guard_mut().as_ptr().addr();
        let Some((behind, offset)) = self.behind(address) else {
            return self.file.read_volatile(slice);
        };
        let sent = seek(behind, At::Start(offset))
            .and_then(|_| sendfile(behind, self.file, None, slice.len()));
        sent.map_err(|error| VolatileMemoryError::IOError(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use vm_memory::{Bytes as _, GuestAddress};

    use super::*;
    use crate::kvm::layout::{HIGH_MEMORY, LOW_END};
    use crate::kvm::memory;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn bytes_come_where_they_are_wanted_in_either_region() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        let memory = memory::make(LOW_END + (1 << 20), false).unwrap();
        let file = file(&bytes);
        for at in [0x1003, HIGH_MEMORY + 5] {
            let mut source = Source::new(&file, &memory);
            source.seek(SeekFrom::Start(100)).unwrap();
            memory
                .read_exact_volatile_from(GuestAddress(at), &mut source, 5_000)
                .unwrap();
            let mut found = vec![0; 5_002];
            memory.read_slice(&mut found, GuestAddress(at - 1)).unwrap();
            assert_eq!((found[0], found[5_001]), (0, 0));
            assert_eq!(found[1..5_001], bytes[100..5_100]);
            assert_eq!(source.stream_position().unwrap(), 5_100);
        }
    }

    #[test]
    fn a_file_that_ends_too_soon_is_an_error() {
        let memory = memory::make(1 << 20, false).unwrap();
        let file = file(&[1; 100]);
        let mut source = Source::new(&file, &memory);
        source.rewind().unwrap();
        memory
            .read_exact_volatile_from(GuestAddress(0), &mut source, 101)
            .unwrap_err();
    }
}
