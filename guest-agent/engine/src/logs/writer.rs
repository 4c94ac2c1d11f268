//! The log of one container as it is written: one file that grows, older ones beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Format;
use super::pack::{self, numbered, packed};

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

/// What a log is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How entries are written.
    pub format: Format,
    /// Size at which a file is rotated.
    pub max_size: Option<u64>,
    /// Files kept, the current one included.
    pub max_files: u32,
    /// Whether all but the current one are compressed.
    pub compress: bool,
}

/// One file of a log.
#[derive(Debug)]
pub(crate) struct Piece {
    file: File,
    packed: bool,
}

/// A container's log.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    shape: Shape,
    /// Held while files are moved or opened, and not while one is written: who reads must not wait
    /// for a disk that stands still.
    current: Arc<Mutex<Arc<File>>>,
    progress: watch::Sender<Progress>,
}

impl LogFile {
    /// Opens the log at `path`, making it if there is none. It counts as closed until
    /// [`LogFile::set_open`].
    pub fn open(path: &Path, shape: Shape) -> io::Result<Self> {
        pack::sweep(path);
        let file = open_file(path)?;
        let length = without_torn_entry(&file, path)?;
        let progress = Progress {
            length,
            ..Progress::default()
        };
        Ok(Self {
            path: path.to_owned(),
            shape,
            current: Arc::new(Mutex::new(Arc::new(file))),
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
        let file = Arc::clone(&*self.file());
        let before = self.length();
        if let Err(error) = (&*file).write_all(entries) {
            // Half an entry would spoil the next one.
            if let Err(error) = file.set_len(before) {
                tracing::error!(%error, path = %self.path.display(), "the log keeps a torn entry");
            }
            return Err(error);
        }
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

    /// How entries are written.
    pub(crate) fn format(&self) -> Format {
        self.shape.format
    }

    /// Bytes that the next entries may have before the file counts as full; the last one of them
    /// may be longer.
    pub(crate) fn room(&self) -> usize {
        let Some(limit) = self.shape.max_size else {
            return usize::MAX;
        };
        let left = match limit.saturating_sub(self.length()) {
            // They come after a rotation.
            0 => limit,
            left => left,
        };
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Rotates if the current file is full. Called between batches.
    pub(crate) fn rotate_if_full(&self) -> io::Result<()> {
        if self
            .shape
            .max_size
            .is_none_or(|limit| self.length() < limit)
        {
            return Ok(());
        }
        let mut file = self.file();
        for number in (1..self.shape.max_files).rev() {
            let moved = [
                (
                    numbered(&self.path, number - 1),
                    numbered(&self.path, number),
                ),
                (packed(&self.path, number - 1), packed(&self.path, number)),
            ];
            for (from, to) in moved {
                match std::fs::rename(&from, &to) {
                    Ok(()) => {}
                    // What was there is of another time, in whichever form.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        remove_if_there(&to)?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if self.shape.max_files < 2 {
            std::fs::remove_file(&self.path)?;
        }
        *file = Arc::new(open_file(&self.path)?);
        drop(file);
        self.progress.send_modify(|progress| {
            progress.generation += 1;
            progress.length = 0;
        });
        if self.shape.compress && self.shape.max_files > 1 {
            self.pack_last();
        }
        Ok(())
    }

    /// Compresses what was rotated away just now, beside the writer.
    fn pack_last(&self) {
        let (path, max_files) = (self.path.clone(), self.shape.max_files);
        let generation = self.progress.borrow().generation;
        let current = Arc::clone(&self.current);
        let packing = std::thread::Builder::new()
            .name("log-pack".into())
            .spawn(move || {
                let packed = pack::pack(&path, generation, max_files, |place| {
                    let _current = current.lock().unwrap_or_else(PoisonError::into_inner);
                    place()
                });
                match packed {
                    // Rotated away again, or removed with its container.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => tracing::warn!(%error, "a log stays uncompressed"),
                    Ok(()) => {}
                }
            });
        if let Err(error) = packing {
            tracing::warn!(%error, "a log stays uncompressed");
        }
    }

    /// The files from the oldest to the current one, opened, and where they stand.
    pub(crate) fn snapshot(&self) -> io::Result<(Vec<Piece>, Progress)> {
        // Under the lock no rotation happens between two opens.
        let _current = self.file();
        let mut pieces = Vec::new();
        for number in (0..self.shape.max_files.max(1)).rev() {
            pieces.extend(self.piece(number)?);
        }
        Ok((pieces, *self.progress.borrow()))
    }

    /// Opens the file of `generation`, or the oldest later one that is kept.
    pub(crate) fn reopen(&self, generation: u64) -> io::Result<(Piece, u64)> {
        let _current = self.file();
        let newest = self.progress.borrow().generation;
        let back = u32::try_from(newest.saturating_sub(generation)).unwrap_or(u32::MAX);
        for number in (0..=back.min(self.shape.max_files.saturating_sub(1))).rev() {
            if let Some(piece) = self.piece(number)? {
                return Ok((piece, newest - u64::from(number)));
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn piece(&self, number: u32) -> io::Result<Option<Piece>> {
        for (path, packed) in [
            (numbered(&self.path, number), false),
            (packed(&self.path, number), true),
        ] {
            match File::open(path) {
                Ok(file) => return Ok(Some(Piece { file, packed })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What is in a piece, uncompressed.
    pub(crate) fn plain<'a>(&self, piece: &'a mut Piece) -> io::Result<&'a File> {
        if piece.packed {
            piece.file = pack::unpacked(&piece.file, &self.path)?;
            piece.packed = false;
        }
        Ok(&piece.file)
    }

    /// Tells when the log has got further.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn file(&self) -> MutexGuard<'_, Arc<File>> {
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

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}
