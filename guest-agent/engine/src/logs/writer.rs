//! The log of one container as it is written: one file that grows, older ones beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// How far the log has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// Counts rotations.
    pub(crate) generation: u64,
    /// Bytes in the current file.
    pub(crate) length: u64,
    /// Whether a run may still add to it.
    pub(crate) open: bool,
}

/// A container's log.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    max_size: Option<u64>,
    max_files: u32,
    current: Mutex<File>,
    progress: watch::Sender<Progress>,
}

impl LogFile {
    /// Opens the log at `path`, making it if there is none. It counts as closed until
    /// [`LogFile::set_open`].
    pub fn open(path: &Path, max_size: Option<u64>, max_files: u32) -> io::Result<Self> {
        let file = open_file(path)?;
        let length = without_torn_entry(&file, path)?;
        let progress = Progress {
            length,
            ..Progress::default()
        };
        Ok(Self {
            path: path.to_owned(),
            max_size,
            max_files,
            current: Mutex::new(file),
            progress: watch::channel(progress).0,
        })
    }

    /// Bytes in the current file.
    pub(crate) fn length(&self) -> u64 {
        self.progress.borrow().length
    }

    /// Says whether a run may add to the log; followers end when it says no.
    pub fn set_open(&self, open: bool) {
        self.progress.send_modify(|progress| progress.open = open);
    }

    /// Appends whole entries. On an error nothing of them is kept.
    pub(crate) fn append(&self, entries: &[u8]) -> io::Result<()> {
        let file = self.file();
        let before = self.length();
        if let Err(error) = (&*file).write_all(entries) {
            // Half an entry would spoil the next one.
            if let Err(error) = file.set_len(before) {
                tracing::error!(%error, path = %self.path.display(), "the log keeps a torn entry");
            }
            return Err(error);
        }
        drop(file);
        self.progress
            .send_modify(|progress| progress.length += entries.len() as u64);
        Ok(())
    }

    /// Cuts what an engine that was killed had appended and not acknowledged.
    pub(crate) fn cut(&self, length: u64) -> io::Result<()> {
        if self.length() > length {
            self.file().set_len(length)?;
            self.progress
                .send_modify(|progress| progress.length = length);
        }
        Ok(())
    }

    /// Rotates if the current file is full. Called between batches.
    pub(crate) fn rotate_if_full(&self) -> io::Result<()> {
        if self.max_size.is_none_or(|limit| self.length() < limit) {
            return Ok(());
        }
        let mut file = self.file();
        for number in (1..self.max_files).rev() {
            let from = numbered(&self.path, number - 1);
            match std::fs::rename(&from, numbered(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.max_files < 2 {
            std::fs::remove_file(&self.path)?;
        }
        *file = open_file(&self.path)?;
        drop(file);
        self.progress.send_modify(|progress| {
            progress.generation += 1;
            progress.length = 0;
        });
        Ok(())
    }

    /// The files from the oldest to the current one, opened, and where they stand.
    pub(crate) fn snapshot(&self) -> io::Result<(Vec<File>, Progress)> {
        // Under the lock no rotation happens between two opens.
        let _current = self.file();
        let mut files = Vec::new();
        for number in (0..self.max_files.max(1)).rev() {
            match File::open(numbered(&self.path, number)) {
                Ok(file) => files.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok((files, *self.progress.borrow()))
    }

    /// Opens the file of `generation`, or the oldest later one that is kept.
    pub(crate) fn reopen(&self, generation: u64) -> io::Result<(File, u64)> {
        let _current = self.file();
        let newest = self.progress.borrow().generation;
        let back = u32::try_from(newest.saturating_sub(generation)).unwrap_or(u32::MAX);
        for number in (0..=back.min(self.max_files.saturating_sub(1))).rev() {
            if let Ok(file) = File::open(numbered(&self.path, number)) {
                return Ok((file, newest - u64::from(number)));
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Tells when the log has got further.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn file(&self) -> MutexGuard<'_, File> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts off an entry whose end is missing: the machine went down while it was written. What is
/// written next would be lost together with it.
fn without_torn_entry(file: &File, path: &Path) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let reading = File::open(path)?;
    let mut block = vec![0; 16 * 1024];
    let mut end = length;
    while end > 0 {
        let size = block.len().min(usize::try_from(end).unwrap_or(usize::MAX));
        let start = end - size as u64;
        reading.read_exact_at(&mut block[..size], start)?;
        if let Some(last) = block[..size].iter().rposition(|byte| *byte == b'\n') {
            end = start + last as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(end)
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// `x-json.log`, `x-json.log.1`, ….
fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
