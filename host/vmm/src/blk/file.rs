//! Doing what a request wants, with the file and the guest's memory.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP};
use vm_memory::{Bytes as _, GuestMemoryBackend as _, VolatileSlice};

use super::log::{Change, Log};
use super::request::{Part, Request, SECTOR, What};
use super::{MAX_DATA, MAX_RANGE, MAX_RANGES};
use crate::ring::Memory;
use crate::said::Said;

/// Sector, number of sectors, flags. Virtio 1.2, 5.2.6.
const RANGE: u64 = 16;
/// A discard has no flags; for zeroes, this one lets them be a hole.
const UNMAP: u32 = 1;
/// What the guest reads as the disk's name.
const NAME: &[u8; 20] = b"lighter\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Bytes of a request from which on it is given away: copying gibibytes, the device would hear of a reset too late.
pub const LONG: u64 = 4 << 20;

/// The outcome for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Virtio's word for it.
    pub status: u8,
    /// Bytes written into the guest's memory, without the status.
    pub written: u32,
}

impl Done {
    const fn status(status: u32) -> Self {
        Self {
            status: status as u8,
            written: 0,
        }
    }
    /// It was done.
    pub const OK: Self = Self::status(VIRTIO_BLK_S_OK);
    /// The guest sees an I/O error.
    pub const FAILED: Self = Self::status(VIRTIO_BLK_S_IOERR);
    const UNSUPPORTED: Self = Self::status(VIRTIO_BLK_S_UNSUPP);
}

/// The host has no room for it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The file.
#[derive(Debug)]
pub struct Disk {
    file: File,
    /// In bytes; whole sectors.
    length: u64,
    read_only: bool,
    /// A flush failed once: what was lost is not known, and the kernel says so only once. From then on nothing is
    /// said to be on the disk.
    lost: AtomicBool,
    flushing: Mutex<()>,
    /// Of what is done to it, for tests.
    log: Option<Log>,
    said: Lines,
}

/// Lines of the log.
#[derive(Debug, Default)]
struct Lines {
    sync: Said,
    read: Said,
    write: Said,
    range: Said,
}

impl Disk {
    /// A disk of this many bytes.
    pub fn new(file: File, length: u64, read_only: bool) -> Self {
        Self {
            file,
            length,
            read_only,
            lost: AtomicBool::new(false),
            flushing: Mutex::new(()),
            log: None,
            said: Lines::default(),
        }
    }

    /// The same with a log, if there is one.
    pub fn logged(self, log: Option<Log>) -> Self {
        Self { log, ..self }
    }

    /// Does what takes no waiting: reads from the page cache, writes to it. Nothing when it would wait, or take long.
    pub fn try_now(&self, request: &Request, memory: &Memory) -> Option<Done> {
        match request.what {
            What::Read | What::Write if request.length > MAX_DATA => Some(Done::FAILED),
            What::Read | What::Write if request.length > LONG => None,
            What::Read => self.read(request, memory, libc::RWF_NOWAIT),
            // It may wait for a flush.
            What::Write if self.log.is_some() => None,
            What::Write => self.write(request, memory).ok(),
            What::Name => Some(name(request, memory)),
            What::Unknown => Some(Done::UNSUPPORTED),
            What::Flush | What::Discard | What::Zero => None,
        }
    }

    /// Does it, however long that takes.
    ///
    /// # Errors
    /// When the host's disk is full.
    pub fn do_it(&self, request: &Request, memory: &Memory) -> Result<Done, NoRoom> {
        match request.what {
            What::Read | What::Write if request.length > MAX_DATA => Ok(Done::FAILED),
            What::Read => Ok(self.read(request, memory, 0).unwrap_or(Done::FAILED)),
            What::Write => self.write(request, memory),
            What::Flush => self.change(Change::Flush, || Ok(self.flush())),
            What::Discard | What::Zero => self.ranges(request, memory),
            What::Name => Ok(name(request, memory)),
            What::Unknown => Ok(Done::UNSUPPORTED),
        }
    }

    /// Does this by `how`; where there is a log, with its entry.
    fn change(
        &self,
        change: Change,
        how: impl FnOnce() -> Result<Done, NoRoom>,
    ) -> Result<Done, NoRoom> {
        match &self.log {
            Some(log) => log.record(change, &self.file, how),
            None => how(),
        }
    }

    fn flush(&self) -> Done {
        // The system tells of what is lost once: whoever asks at the same time has to hear of it here.
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.file.sync_data() {
            self.lost.store(true, Ordering::Release);
            if self.said.sync.first() {
                tracing::error!(%error, "the disk's file cannot be synced: nothing more is written to it");
            }
        }
        if self.lost.load(Ordering::Acquire) {
            return Done::FAILED;
        }
        Done::OK
    }

    /// Where a request is in the file, if it is wholly there.
    fn place(&self, offset: Option<u64>, length: u64) -> Option<u64> {
        let offset = offset?;
        let end = offset.checked_add(length)?;
        (end <= self.length && length.is_multiple_of(SECTOR)).then_some(offset)
    }

    /// Nothing when with these flags it would wait.
    fn read(&self, request: &Request, memory: &Memory, flags: i32) -> Option<Done> {
        let Some(offset) = self.place(request.offset, request.length) else {
            return Some(Done::FAILED);
        };
        let Some(vectors) = Vectors::of(&request.data, memory) else {
            return Some(Done::FAILED);
        };
        match vectors.transfer(Side::Read(flags), &self.file, offset) {
            Ok(()) => Some(Done {
                written: u32::try_from(request.length).unwrap_or(u32::MAX),
                ..Done::OK
            }),
            // An old file system may not know the flag.
            Err(Errno::AGAIN | Errno::OPNOTSUPP) if flags != 0 => None,
            Err(error) => {
                if self.said.read.first() {
                    tracing::warn!(%error, offset, "the disk's file cannot be read");
                }
                Some(Done::FAILED)
            }
        }
    }

    fn write(&self, request: &Request, memory: &Memory) -> Result<Done, NoRoom> {
        if self.read_only || self.lost.load(Ordering::Acquire) {
            return Ok(Done::FAILED);
        }
        let place = self.place(request.offset, request.length);
        let (Some(offset), Some(vectors)) = (place, Vectors::of(&request.data, memory)) else {
            return Ok(Done::FAILED);
        };
        let length = request.length;
        self.change(Change::Write { offset, length }, || {
            match vectors.transfer(Side::Write, &self.file, offset) {
                Ok(()) => Ok(Done::OK),
                Err(Errno::NOSPC | Errno::DQUOT) => Err(NoRoom),
                Err(error) => {
                    if self.said.write.first() {
                        tracing::warn!(%error, offset, "the disk's file cannot be written");
                    }
                    Ok(Done::FAILED)
                }
            }
        })
    }

    fn ranges(&self, request: &Request, memory: &Memory) -> Result<Done, NoRoom> {
        if self.read_only || self.lost.load(Ordering::Acquire) {
            return Ok(Done::FAILED);
        }
        let count = request.length / RANGE;
        let Some(bytes) = flat(&request.data, memory, u64::from(MAX_RANGES) * RANGE) else {
            return Ok(Done::FAILED);
        };
        if !request.length.is_multiple_of(RANGE) || count == 0 {
            return Ok(Done::FAILED);
        }
        for range in bytes.chunks_exact(RANGE as usize) {
            let done = self.range(request.what, range)?;
            if done != Done::OK {
                return Ok(done);
            }
        }
        Ok(Done::OK)
    }

    fn range(&self, what: What, range: &[u8]) -> Result<Done, NoRoom> {
        let number = |at: usize| {
            let bytes = range
                .get(at..at + 4)
                .and_then(|b| <[u8; 4]>::try_from(b).ok());
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let sector = u64::from(number(0)) | u64::from(number(4)) << 32;
        let (sectors, flags) = (number(8), number(12));
        let length = u64::from(sectors) * SECTOR;
        let Some(offset) = self.place(sector.checked_mul(SECTOR), length) else {
            return Ok(Done::FAILED);
        };
        if sectors > MAX_RANGE {
            return Ok(Done::FAILED);
        }
        if flags & !UNMAP != 0 || what == What::Discard && flags != 0 {
            return Ok(Done::UNSUPPORTED);
        }
        if length == 0 {
            return Ok(Done::OK);
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        // Zeroes that may not be a hole keep their room.
        let keep = what == What::Zero && flags & UNMAP == 0;
        let kind = if keep { zero } else { hole };
        let change = match what {
            What::Discard => Change::Discard { offset, length },
            _ => Change::Zero { offset, length },
        };
        self.change(change, || {
            match rustix::fs::fallocate(self.file.as_fd(), kind, offset, length) {
                Ok(()) => Ok(Done::OK),
                Err(error) => self.not_emptied(what, error, (offset, length)),
            }
        })
    }

    /// What comes of a range that the system did not empty.
    fn not_emptied(&self, what: What, error: Errno, range: (u64, u64)) -> Result<Done, NoRoom> {
        match error {
            // A discard is a wish, and waits for no room: it may be what makes some.
            Errno::OPNOTSUPP | Errno::NOSPC | Errno::DQUOT if what == What::Discard => Ok(Done::OK),
            Errno::NOSPC | Errno::DQUOT => Err(NoRoom),
            // A file system without holes cannot give zeroes this way.
            Errno::OPNOTSUPP => Ok(Done::UNSUPPORTED),
            error => {
                if self.said.range.first() {
                    let (offset, length) = range;
                    tracing::warn!(%error, offset, length, "a range of the disk's file cannot be emptied");
                }
                Ok(Done::FAILED)
            }
        }
    }
}

fn name(request: &Request, memory: &Memory) -> Done {
    let Some(part) = request.data.first() else {
        return Done::FAILED;
    };
    let n = NAME.len().min(part.length as usize);
    match memory.write_slice(&NAME[..n], part.address) {
        Ok(()) => Done {
            written: n as u32,
            ..Done::OK
        },
        Err(_) => Done::FAILED,
    }
}

/// The bytes of these parts, which together are at most so many.
fn flat(parts: &[Part], memory: &Memory, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in parts {
        let from = bytes.len();
        let end = from as u64 + u64::from(part.length);
        if end > most {
            return None;
        }
        bytes.resize(usize::try_from(end).ok()?, 0);
        memory.read_slice(&mut bytes[from..], part.address).ok()?;
    }
    Some(bytes)
}

/// The way of a transfer, as the guest sees it.
#[derive(Clone, Copy)]
enum Side {
    /// With flags of preadv2(2).
    Read(i32),
    Write,
}

/// Pieces of the guest's memory for one system call.
struct Vectors<'m> {
    slices: Vec<VolatileSlice<'m>>,
}

impl<'m> Vectors<'m> {
    /// Nothing when a part is not in one region of the guest's memory.
    fn of(parts: &[Part], memory: &'m Memory) -> Option<Self> {
        let slice = |part: &Part| memory.get_slice(part.address, part.length as usize).ok();
        let slices = parts.iter().map(slice).collect::<Option<_>>()?;
        Some(Self { slices })
    }

    /// Reads or writes all of it, in as many calls as that takes.
    fn transfer(&self, side: Side, file: &File, offset: u64) -> Result<(), Errno> {
        let guards: Vec<_> = self
            .slices
            .iter()
            .map(VolatileSlice::ptr_guard_mut)
            .collect();
        let mut vectors: Vec<libc::iovec> = guards
            .iter()
            .map(|guard| libc::iovec {
                iov_base: guard.as_ptr().cast(),
                iov_len: guard.len(),
            })
            .collect();
        let (mut left, mut at) = (&mut vectors[..], offset);
        while let Some(first) = left.first() {
            if first.iov_len == 0 {
                left = &mut left[1..];
                continue;
            }
            let (pointer, count) = (left.as_ptr(), left.len() as i32);
            let position = i64::try_from(at).map_err(|_| Errno::INVAL)?;
            // SAFETY: each vector is a piece of the guest's memory, which stays mapped while its guard lives; the
            // guest may change it meanwhile, and nothing here looks at it.
            let n = unsafe {
                match side {
                    Side::Read(flags) => {
                        libc::preadv2(file.as_raw_fd(), pointer, count, position, flags)
                    }
                    Side::Write => libc::pwritev(file.as_raw_fd(), pointer, count, position),
                }
            };
            match usize::try_from(n) {
                Ok(0) => return Err(Errno::IO),
                Ok(n) => {
                    at += n as u64;
                    left = skip(left, n);
                }
                Err(_) => match Errno::from_io_error(&io::Error::last_os_error()) {
                    Some(Errno::INTR) => {}
                    error => return Err(error.unwrap_or(Errno::IO)),
                },
            }
        }
        Ok(())
    }
}

/// What is left of these vectors after so many bytes.
fn skip(mut vectors: &mut [libc::iovec], mut bytes: usize) -> &mut [libc::iovec] {
    while bytes > 0 {
        let Some(first) = vectors.first_mut() else {
            break;
        };
        let n = bytes.min(first.iov_len);
        first.iov_base = first.iov_base.wrapping_byte_add(n);
        first.iov_len -= n;
        bytes -= n;
        if first.iov_len == 0 {
            vectors = &mut vectors[1..];
        }
    }
    vectors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_emptied_for_room_waits_for_none() {
        let disk = Disk::new(tempfile::tempfile().unwrap(), SECTOR, false);
        for error in [Errno::NOSPC, Errno::DQUOT, Errno::OPNOTSUPP] {
            let answered = disk.not_emptied(What::Discard, error, (0, SECTOR));
            assert_eq!(answered, Ok(Done::OK), "{error}");
        }
        for error in [Errno::NOSPC, Errno::DQUOT] {
            let answered = disk.not_emptied(What::Zero, error, (0, SECTOR));
            assert_eq!(answered, Err(NoRoom), "{error}");
        }
        let answered = disk.not_emptied(What::Zero, Errno::OPNOTSUPP, (0, SECTOR));
        assert_eq!(answered, Ok(Done::UNSUPPORTED));
        let answered = disk.not_emptied(What::Discard, Errno::IO, (0, SECTOR));
        assert_eq!(answered, Ok(Done::FAILED));
    }
}
