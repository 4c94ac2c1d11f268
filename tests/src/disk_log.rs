//! Everything that was done to a machine's disk, in its order, and the disk as a loss of power may leave it.
//!
//! The log is one that a machine makes whose specification has it (`Disk::log` of `lighter-machine`; `LIGHTER_DISK_LOG`
//! of a whole Lighter): QEMU's `blklogwrites` writes it, or the disk of our own monitor (`host/vmm/src/blk/log.rs`), in
//! the form of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst): a sector about the
//! log, then entries, each a sector of its own with the data behind it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use crate::random::Random;

/// Bytes of a sector; of the log's too.
const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
/// Most that is copied at a time.
const PIECE: u64 = 1 << 20;

/// A place in the log, in bytes.
pub type Place = u64;

/// A log that is still written.
#[derive(Debug)]
pub struct Recorder(File);

impl Recorder {
    /// The log at `path`, of a machine that runs.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        Self(File::open(path).expect("a machine with a log"))
    }

    /// Where the log ends now: whatever the machine was told to be on the disk is before it.
    ///
    /// # Panics
    ///
    /// When the system does not say.
    #[must_use]
    pub fn end(&self) -> Place {
        self.0.metadata().expect("the log's length").len()
    }

    /// All that was recorded until now.
    ///
    /// # Panics
    ///
    /// When it is no log.
    #[must_use]
    pub fn read(&self) -> DiskLog {
        DiskLog::of(self.0.try_clone().expect("the log"))
    }
}

/// One thing that was done to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    data: Place,
    /// Where on the disk, in bytes.
    pub to: u64,
    /// How much of the disk, in bytes.
    pub length: u64,
    /// Whether everything before it is on the disk for good.
    pub flushes: bool,
    /// Whether what was there is not wanted any more.
    pub discards: bool,
}

impl Entry {
    /// Where it ends in the log.
    #[must_use]
    pub fn end(&self) -> Place {
        self.data + if self.discards { 0 } else { self.length }
    }

    /// Sectors it writes.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.length / SECTOR
    }
}

/// What was recorded.
#[derive(Debug)]
pub struct DiskLog {
    file: File,
    /// In order.
    pub entries: Vec<Entry>,
    /// How many of them the log itself says that there are; QEMU says so with a flush.
    pub counted: u64,
}

/// A disk as a loss of power may leave it.
#[derive(Debug, Clone)]
pub struct Loss {
    /// The power may have gone here, and the disk has what was acknowledged until then.
    pub place: Place,
    /// What was lost, for messages.
    pub what: String,
}

/// How the power is to be lost.
#[derive(Debug, Clone, Copy)]
pub struct Losses<'a> {
    /// The disk before everything that was recorded; written to.
    pub base: &'a Path,
    /// Where each disk is put for who checks it.
    pub disk: &'a Path,
    /// After so many flushes at most, evenly; after the last in any case.
    pub flushes: usize,
    /// How often after each with some of what was written behind it.
    pub torn: usize,
}

impl DiskLog {
    /// Reads a log as far as it goes.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn of(file: File) -> Self {
        let [magic, version, counted, sector] = numbers(&file, 0);
        assert_eq!(magic, MAGIC, "not a log of writes");
        assert_eq!((version, sector), (VERSION, SECTOR), "another form");
        let length = file.metadata().expect("the log's length").len();
        let mut entries: Vec<Entry> = Vec::new();
        let mut at = SECTOR;
        while let Some(entry) = entry(&file, at, length) {
            at = entry.end();
            entries.push(entry);
        }
        Self {
            file,
            entries,
            counted,
        }
    }

    /// The numbers of those entries that are flushes.
    #[must_use]
    pub fn flushes(&self) -> Vec<usize> {
        let all = 0..self.entries.len();
        all.filter(|number| self.entries[*number].flushes).collect()
    }

    /// Does the first `sectors` sectors of an entry to a disk.
    ///
    /// # Errors
    ///
    /// When the disk cannot be written.
    pub fn apply(&self, entry: &Entry, sectors: u64, disk: &File) -> io::Result<()> {
        let length = entry.length.min(sectors * SECTOR);
        if entry.discards {
            // It reads as anything; zeros are the least it can be.
            return empty(disk, entry.to, length);
        }
        let mut done = 0;
        let mut piece = Vec::new();
        while done < length {
            let count = PIECE.min(length - done);
            piece.resize(usize::try_from(count).unwrap_or(0), 0);
            self.file.read_exact_at(&mut piece, entry.data + done)?;
            match piece.iter().all(|byte| *byte == 0) {
                // A disk stays as small as the machine's own.
                true => empty(disk, entry.to + done, count)?,
                false => disk.write_all_at(&piece, entry.to + done)?,
            }
            done += count;
        }
        Ok(())
    }

    /// Hands the disk to `check` as it was after a flush, and again with some of the writes behind that flush, in any
    /// order, one of them not to its end.
    ///
    /// # Panics
    ///
    /// When a disk cannot be read or written.
    pub fn losses(&self, how: &Losses<'_>, random: &mut Random, mut check: impl FnMut(&Loss)) {
        let whole = writable(how.base);
        let mut applied = 0;
        for flush in sample(&self.flushes(), how.flushes) {
            for entry in &self.entries[applied..=flush] {
                let done = self.apply(entry, entry.sectors(), &whole);
                done.expect("the disk takes it");
            }
            applied = flush + 1;
            let behind = self.entries[applied..].iter();
            let behind = behind.take_while(|entry| !entry.flushes).count();
            let behind = &self.entries[applied..applied + behind];
            // The power may go at any moment before the next flush, and what was acknowledged until then is on
            // the disk by this one.
            let place = behind.last().unwrap_or(&self.entries[flush]).end();
            copy(how.base, how.disk).expect("a copy of the disk");
            let what = format!("after flush {flush}");
            check(&Loss { place, what });
            for turn in 0..how.torn {
                if behind.is_empty() {
                    break;
                }
                copy(how.base, how.disk).expect("a copy of the disk");
                self.tear(behind, random, &writable(how.disk));
                let what = format!("after flush {flush}, torn {turn}");
                check(&Loss { place, what });
            }
        }
    }

    /// Does some of these, in any order, one of them not to its end.
    fn tear(&self, behind: &[Entry], random: &mut Random, disk: &File) {
        let mut chosen: Vec<&Entry> = behind.iter().collect();
        chosen.retain(|_| random.below(2) == 0);
        random.shuffle(&mut chosen);
        let torn = chosen.len().saturating_sub(1);
        for (turn, entry) in chosen.into_iter().enumerate() {
            let sectors = match turn == torn {
                true => random.below(entry.sectors() + 1),
                false => entry.sectors(),
            };
            self.apply(entry, sectors, disk).expect("the disk takes it");
        }
    }
}

/// The first four numbers at a place.
fn numbers(file: &File, at: Place) -> [u64; 4] {
    let mut head = [0; 32];
    file.read_exact_at(&mut head, at).expect("the log");
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(head.chunks_exact(8)) {
        *number = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    }
    numbers
}

/// The entry at a place of a log of this length, if it is wholly there.
fn entry(file: &File, at: Place, length: u64) -> Option<Entry> {
    if at + SECTOR > length {
        return None;
    }
    let [sector, sectors, flags, _] = numbers(file, at);
    assert_eq!(flags & !(FLUSH | DISCARD), 0, "no entry is like that");
    // What was never written is a hole.
    let is_there = (sector, sectors, flags) != (0, 0, 0);
    let entry = Entry {
        data: at + SECTOR,
        to: sector * SECTOR,
        length: sectors * SECTOR,
        flushes: flags & FLUSH != 0,
        discards: flags & DISCARD != 0,
    };
    (is_there && entry.end() <= length).then_some(entry)
}

/// So many of the flushes, evenly.
fn sample(flushes: &[usize], most: usize) -> Vec<usize> {
    let step = flushes.len().div_ceil(most).max(1);
    // The last is always one of them.
    let mut sampled: Vec<usize> = flushes.iter().rev().step_by(step).copied().collect();
    sampled.reverse();
    sampled
}

/// Makes zeros of a range of a disk, and gives its room back.
fn empty(disk: &File, at: u64, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(disk, hole, at, length)?)
}

fn writable(disk: &Path) -> File {
    let disk = OpenOptions::new().write(true).open(disk);
    disk.expect("the disk")
}

/// Copies a disk, and leaves its holes out.
///
/// # Errors
///
/// When one cannot be read, or the other cannot be written.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (File::open(from)?, File::create(to)?);
    to.set_len(from.metadata()?.len())?;
    let mut piece = vec![0; 1 << 20];
    let mut end = 0;
    loop {
        let mut at = match rustix::fs::seek(&from, SeekFrom::Data(end)) {
            Ok(data) => data,
            // There is nothing but a hole.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        end = rustix::fs::seek(&from, SeekFrom::Hole(at))?;
        while at < end {
            let count = (end - at).min(PIECE);
            let piece = &mut piece[..usize::try_from(count).unwrap_or(0)];
            from.read_exact_at(piece, at)?;
            to.write_all_at(piece, at)?;
            at += count;
        }
    }
}

#[cfg(test)]
mod tests;
