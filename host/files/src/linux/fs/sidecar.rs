//! Marks of inodes that cannot carry an extended attribute: symbolic links, and every file of a file
//! system without user attributes.
//!
//! A table in memory, bounded, and a file of appended lines (`device inode born mark`) that outlives the
//! process. A lost line costs an owner of a link, not data, so lines are not synced one by one but when
//! the guest asks for a sync. The key has the inode's birth time, so a reused number inherits nothing.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, fsync, openat, renameat};
use rustix::io::Errno;

use super::owner::GuestStat;
use super::sys::{HostStat, Result};

/// Most marks kept; about 25 MB.
pub const MAX_MARKS: usize = 262_144;

/// What [`Sidecar::set`] answers when there are so many, to be told from a full disk.
pub const SIDE_FULL: Errno = Errno::NOBUFS;

/// Most bytes ever read of the file: a full table takes less than half of this.
const MAX_FILE: u64 = 64 << 20;

const NAME: &std::ffi::CStr = c"attributes";
const NEXT: &std::ffi::CStr = c"attributes.new";

type Key = (u64, u64, u64);

fn key(host: &HostStat) -> Key {
    (host.dev, host.ino, host.born)
}

/// The table and its file.
#[derive(Debug)]
pub struct Sidecar {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    marks: HashMap<Key, GuestStat>,
    directory: OwnedFd,
    log: File,
    lines: usize,
}

impl Sidecar {
    /// Reads what an earlier process left in `directory`, which is ours alone.
    pub fn open(directory: OwnedFd) -> Result<Self> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let log = File::from(openat(&directory, NAME, flags, Mode::RUSR | Mode::WUSR)?);
        let (marks, lines) = read_marks(&log);
        let mut state = State {
            marks,
            directory,
            log,
            lines,
        };
        state.compact_if_due()?;
        Ok(Self {
            state: Mutex::new(state),
        })
    }

    /// The mark of an inode.
    pub fn get(&self, host: &HostStat) -> Option<GuestStat> {
        self.lock().marks.get(&key(host)).copied()
    }

    /// Whether there is any mark at all: most processes never have one, and then nothing need be asked.
    pub fn is_empty(&self) -> bool {
        self.lock().marks.is_empty()
    }

    /// Marks an inode, or removes its mark.
    pub fn set(&self, host: &HostStat, mark: Option<GuestStat>) -> Result<()> {
        let mut state = self.lock();
        let key = key(host);
        let line = match mark {
            Some(mark) => {
                if state.marks.len() >= MAX_MARKS && !state.marks.contains_key(&key) {
                    return Err(SIDE_FULL);
                }
                state.marks.insert(key, mark);
                format!("{} {} {} {}\n", key.0, key.1, key.2, mark.encode())
            }
            None if state.marks.remove(&key).is_none() => return Ok(()),
            None => format!("{} {} {} -\n", key.0, key.1, key.2),
        };
        state
            .log
            .write_all(line.as_bytes())
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        state.lines += 1;
        state.compact_if_due()
    }

    /// Makes every mark durable.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fdatasync(&self.lock().log)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Rewrites the file where more than half of it is history: a new file, synced, then renamed.
    fn compact_if_due(&mut self) -> Result<()> {
        if self.lines <= 2 * self.marks.len() + 4096 {
            return Ok(());
        }
        let mut text = String::with_capacity(self.marks.len() * 64);
        for (key, mark) in &self.marks {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} {} {} {}", key.0, key.1, key.2, mark.encode());
        }
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let next = openat(
            &self.directory,
            NEXT,
            flags | OFlags::APPEND,
            Mode::RUSR | Mode::WUSR,
        )?;
        let mut next = File::from(next);
        next.write_all(text.as_bytes())
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        fsync(&next)?;
        renameat(&self.directory, NEXT, &self.directory, NAME)?;
        fsync(&self.directory)?;
        self.log = next;
        self.lines = self.marks.len();
        Ok(())
    }
}

fn read_marks(log: &File) -> (HashMap<Key, GuestStat>, usize) {
    let mut marks = HashMap::new();
    let mut lines = 0;
    let mut reader = BufReader::new(log.take(MAX_FILE));
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return (marks, lines),
            Ok(_) => {}
        }
        lines += 1;
        // A line torn by a crash is no mark.
        match parse(&line) {
            Some((key, Some(mark))) if marks.len() < MAX_MARKS => {
                marks.insert(key, mark);
            }
            Some((key, None)) => {
                marks.remove(&key);
            }
            _ => {}
        }
    }
}

fn parse(line: &[u8]) -> Option<(Key, Option<GuestStat>)> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let mut parts = text.splitn(4, ' ');
    let key = (
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    match parts.next()? {
        "-" => Some((key, None)),
        mark => Some((key, Some(GuestStat::decode(mark.as_bytes())?))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sys;
    use super::*;

    fn open(dir: &std::path::Path) -> Sidecar {
        Sidecar::open(File::open(dir).expect("directory").into()).expect("own directory")
    }

    #[test]
    fn marks_outlive_the_process_and_a_torn_line() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut host = sys::stat(File::open(dir.path()).expect("open")).expect("stat");
        let mark = GuestStat {
            uid: 999,
            gid: 998,
            mode: 0o120_777,
            host_permissions: 0o777,
        };
        open(dir.path()).set(&host, Some(mark)).expect("written");
        let path = dir.path().join("attributes");
        let mut text = std::fs::read(&path).expect("file");
        text.extend_from_slice(b"12 34 5");
        std::fs::write(&path, text).expect("torn");
        let again = open(dir.path());
        assert_eq!(again.get(&host), Some(mark));
        host.born += 1;
        assert_eq!(again.get(&host), None, "another inode of the same number");
    }

    #[test]
    fn the_file_stays_in_proportion_to_the_table() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let host = sys::stat(File::open(dir.path()).expect("open")).expect("stat");
        let side = open(dir.path());
        for uid in 0..20_000 {
            let mark = GuestStat {
                uid,
                gid: 0,
                mode: 0o120_777,
                host_permissions: 0o777,
            };
            side.set(&host, Some(mark)).expect("written");
        }
        let length = std::fs::metadata(dir.path().join("attributes"))
            .expect("file")
            .len();
        assert!(length < 8192 * 64, "{length}");
        assert_eq!(open(dir.path()).get(&host).map(|m| m.uid), Some(19_999));
    }
}
