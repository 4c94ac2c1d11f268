//! A log of what was done to a disk, for tests of what a loss of power leaves on it.
//!
//! In the form of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst), as QEMU's
//! `blklogwrites` writes it: a sector about the log, then for each entry a sector about it, with its data behind.
//!
//! Called by [`super::file`] for every change of a disk that has a log; that of a user's machine has none. Changes are
//! done one at a time then, each with its entry, by the pool's threads. So the log's order is the disk's, and before a
//! flush's entry stands exactly what was done before the flush began: what is done while it lasts would be for good in
//! the log and not on the disk.
//!
//! Nothing may be told to the guest before its entry is whole, and nothing at all when an entry could not be written.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::{Mutex, PoisonError};

use rustix::io::{Errno, ReadWriteFlags};

use super::file::{Done, NoRoom};
use super::request::SECTOR;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// Flags of an entry. A write, zeroes included, has none.
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
/// Most that is copied at a time.
const PIECE: usize = 256 << 10;

/// What is done to a disk; places and lengths are in bytes, and whole sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Write { offset: u64, length: u64 },
    Zero { offset: u64, length: u64 },
    Discard { offset: u64, length: u64 },
    Flush,
}

impl Change {
    /// Where it is, its length, and its flags.
    const fn parts(self) -> (u64, u64, u64) {
        match self {
            Self::Write { offset, length } | Self::Zero { offset, length } => (offset, length, 0),
            Self::Discard { offset, length } => (offset, length, DISCARD),
            Self::Flush => (0, 0, FLUSH),
        }
    }
}

/// The log.
#[derive(Debug)]
pub struct Log(Mutex<Written>);

/// What is in it.
#[derive(Debug)]
struct Written {
    file: File,
    /// Where the next entry begins.
    end: u64,
    entries: u64,
    piece: Box<[u8]>,
    /// An entry is missing: from then on nothing is said to be on the disk.
    broken: bool,
}

impl Log {
    /// Begins a log in an empty file.
    ///
    /// # Errors
    /// When the file is not empty, or cannot be written.
    pub fn new(file: File) -> io::Result<Self> {
        // What was never written has to read as zeroes: that is where a log ends.
        if file.metadata()?.len() != 0 {
            let kind = io::ErrorKind::AlreadyExists;
            return Err(io::Error::new(kind, "the file for the log is not empty"));
        }
        let written = Written {
            file,
            end: SECTOR,
            entries: 0,
            piece: vec![0; PIECE].into(),
            broken: false,
        };
        written.count()?;
        Ok(Self(Mutex::new(written)))
    }

    /// Does a change of `disk` by `how`, with nothing else between it and its entry. What was not done has none.
    ///
    /// # Errors
    /// What `how` says. That an entry cannot be written is a request that failed.
    pub fn record(
        &self,
        change: Change,
        disk: &File,
        how: impl FnOnce() -> Result<Done, NoRoom>,
    ) -> Result<Done, NoRoom> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.broken {
            return Ok(Done::FAILED);
        }
        let done = how()?;
        if done == Done::OK
            && let Err(error) = written.append(change, disk)
        {
            tracing::error!(%error, "the disk's log cannot be written: nothing more is written to the disk");
            written.broken = true;
            return Ok(Done::FAILED);
        }
        Ok(done)
    }
}

impl Written {
    fn append(&mut self, change: Change, disk: &File) -> io::Result<()> {
        let (offset, length, flags) = change.parts();
        // An entry of nothing at the first sector would read as the log's end.
        if length == 0 && change != Change::Flush {
            return Ok(());
        }
        let data = self.end + SECTOR;
        let behind = match change {
            Change::Write { .. } | Change::Zero { .. } => data.checked_add(length),
            Change::Discard { .. } | Change::Flush => Some(data),
        };
        let behind = behind.ok_or(io::ErrorKind::FileTooLarge)?;
        match change {
            // As the disk has it: the guest's memory may have changed since.
            Change::Write { .. } => self.copy(disk, offset, length, data)?,
            Change::Zero { .. } => self.file.set_len(behind)?,
            Change::Discard { .. } | Change::Flush => {}
        }
        // Behind its data: whoever reads an entry has it whole, also when this process is killed here.
        let head = sector([offset / SECTOR, length / SECTOR, flags, 0]);
        put(&self.file, &head, self.end)?;
        self.end = behind;
        self.entries += 1;
        self.count()
    }

    /// Copies from the disk to a place in the log.
    fn copy(&mut self, disk: &File, offset: u64, length: u64, data: u64) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let most = usize::try_from(length - done).unwrap_or(PIECE).min(PIECE);
            let mut piece = [IoSliceMut::new(&mut self.piece[..most])];
            let flags = ReadWriteFlags::empty();
            match rustix::io::preadv2(disk, &mut piece, offset + done, flags) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    put(&self.file, &self.piece[..read], data + done)?;
                    done += read as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes how many entries there are.
    fn count(&self) -> io::Result<()> {
        put(
            &self.file,
            &sector([MAGIC, VERSION, self.entries, SECTOR]),
            0,
        )
    }
}

/// These numbers at the beginning of a sector. The sector's size in the first of the log is one of 32 bits, with
/// zeroes behind it.
fn sector(numbers: [u64; 4]) -> [u8; SECTOR as usize] {
    let mut bytes = [0; SECTOR as usize];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// Writes all of it, by the calls that the pool's threads may make.
fn put(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwritev(file, &[IoSlice::new(bytes)], at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
