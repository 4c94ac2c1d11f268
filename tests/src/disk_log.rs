//! Every write of a machine's disk in the order in which QEMU finished it, and the disk as it was after
//! any of them.
//!
//! QEMU's `blklogwrites` makes the log, in the form of the kernel's dm-log-writes
//! (Documentation/admin-guide/device-mapper/log-writes.rst): a superblock, then entries, each a sector of
//! its own with the data behind it. The machine may open no file, so `qemu-nbd` writes it.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::run::until;

/// Bytes of a sector; of the log's too.
const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
/// Most that is recorded; the file has holes.
const ROOM: u64 = 64 << 30;
/// Most that is copied at a time.
const PIECE: u64 = 1 << 20;

/// A QEMU that records what it does to the disk.
#[derive(Debug)]
pub struct Recorder {
    /// For `LIGHTER_QEMU`.
    pub qemu: PathBuf,
    writer: Child,
    log: File,
    entries: RefCell<Vec<Entry>>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.writer.kill();
        let _ = self.writer.wait();
    }
}

impl Recorder {
    /// Makes it in `dir`.
    ///
    /// # Panics
    ///
    /// When the folder cannot be written, or there is no `qemu-nbd`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let [qemu, path, socket] =
            ["recording-qemu", "disk.log", "disk.nbd"].map(|name| dir.join(name));
        let log = File::create_new(&path).expect("a file");
        log.set_len(ROOM).expect("its size");
        let log = File::open(&path).expect("the file");
        let mut writer = Command::new("qemu-nbd");
        writer.args(["--persistent", "--format=raw", "--cache=unsafe"]);
        writer
            .args(["--export-name=", "--socket"])
            .args([&socket, &path]);
        writer.stdin(Stdio::null());
        let writer = writer.spawn().expect("qemu-nbd (package qemu-utils)");
        until("qemu-nbd listens", || socket.exists());
        let script = format!(
            r#"#!/bin/sh
# The disk, with a log between it and the machine.
n=$#
while [ "$n" -gt 0 ]; do
    a=$1; shift; n=$((n - 1))
    case $a in
    *'"node-name":"disk0"'*)
        inner=$(printf %s "$a" | sed 's/,"node-name":"disk0"//')
        a='{{"driver":"blklogwrites","node-name":"disk0","file":'$inner',"log":{{"driver":"nbd","server":{{"type":"unix","path":"{}"}}}}}}' ;;
    esac
    set -- "$@" "$a"
done
exec qemu-system-x86_64 "$@"
"#,
            socket.display()
        );
        std::fs::write(&qemu, script).expect("a file");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&qemu, mode).expect("its mode");
        Self {
            qemu,
            writer,
            log,
            entries: RefCell::default(),
        }
    }

    /// Where the log ends now: whatever the machine was told to be on the disk is before it.
    ///
    /// # Panics
    ///
    /// When there is no log.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.parse()
    }

    fn parse(&self) -> u64 {
        let mut entries = self.entries.borrow_mut();
        let mut at = entries.last().map_or(SECTOR, Entry::end);
        while let Some(entry) = self.entry(at) {
            at = entry.end();
            entries.push(entry);
        }
        at
    }

    /// The entry at a place of the log, if it goes so far.
    fn entry(&self, at: u64) -> Option<Entry> {
        let mut head = [0; 32];
        self.log.read_exact_at(&mut head, at).expect("the log");
        let number = |place: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&head[place * 8..place * 8 + 8]);
            u64::from_le_bytes(word)
        };
        let (sector, sectors, flags) = (number(0), number(1), number(2));
        // What was never written is a hole.
        ((sector, sectors, flags) != (0, 0, 0)).then_some(Entry {
            data: at + SECTOR,
            to: sector * SECTOR,
            length: sectors * SECTOR,
            flushes: flags & FLUSH != 0,
            discards: flags & DISCARD != 0,
        })
    }

    /// All that was recorded.
    ///
    /// # Panics
    ///
    /// When it is no log.
    #[must_use]
    pub fn read(&self) -> DiskLog {
        let mut first = [0; 8];
        self.log
            .read_exact_at(&mut first, 0)
            .expect("its first sector");
        assert_eq!(u64::from_le_bytes(first), MAGIC, "not a log of writes");
        self.parse();
        DiskLog {
            file: self.log.try_clone().expect("the log"),
            entries: self.entries.take(),
        }
    }
}

/// One thing that was done to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    data: u64,
    to: u64,
    length: u64,
    /// Whether everything before it is on the disk for good.
    pub flushes: bool,
    discards: bool,
}

impl Entry {
    /// Where it ends in the log.
    #[must_use]
    pub fn end(&self) -> u64 {
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
}

impl DiskLog {
    /// Does the first `sectors` sectors of an entry to a disk.
    ///
    /// # Errors
    ///
    /// When the disk cannot be written.
    pub fn apply(&self, entry: &Entry, sectors: u64, disk: &File) -> io::Result<()> {
        let length = entry.length.min(sectors * SECTOR);
        let mut done = 0;
        let mut piece = Vec::new();
        while done < length {
            let count = PIECE.min(length - done);
            piece.clear();
            piece.resize(usize::try_from(count).unwrap_or(0), 0);
            // What is discarded reads as anything; zeros are the least it can be.
            if !entry.discards {
                self.file.read_exact_at(&mut piece, entry.data + done)?;
            }
            disk.write_all_at(&piece, entry.to + done)?;
            done += count;
        }
        Ok(())
    }
}
