//! What an engine was about to do with a piece of output, written where it survives the engine.
//!
//! A log entry is appended and the bytes it came from are let go in two steps. Between them the
//! engine may be killed; the next one reads here whether the first step has to be undone.
//! The file lives in the run directory: pipes do not survive the machine either.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::logs::StreamKind;

/// One piece of output on its way into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Where it came from.
    pub(crate) stream: StreamKind,
    /// Length of the log before.
    pub(crate) log_length: u64,
    /// Bytes in the scratch pipe before.
    pub(crate) held: u64,
    /// Bytes of them that are let go afterwards.
    pub(crate) drain: u64,
}

/// The file of one container.
#[derive(Debug)]
pub(crate) struct BatchFile(File);

const SIZE: usize = 32;

impl BatchFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        options.open(path).map(Self)
    }

    /// Says what is about to be done.
    pub(crate) fn begin(&self, batch: &Batch) -> io::Result<()> {
        let tag: u64 = match batch.stream {
            StreamKind::Stdout => 1,
            StreamKind::Stderr => 2,
        };
        let mut bytes = [0; SIZE];
        for (place, number) in [tag, batch.log_length, batch.held, batch.drain]
            .into_iter()
            .enumerate()
        {
            bytes[place * 8..place * 8 + 8].copy_from_slice(&number.to_le_bytes());
        }
        self.0.write_all_at(&bytes, 0)
    }

    /// Says that it is done.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.0.write_all_at(&0u64.to_le_bytes(), 0)
    }

    /// What an earlier engine had begun and not ended.
    pub(crate) fn pending(&self) -> io::Result<Option<Batch>> {
        let mut bytes = [0; SIZE];
        match self.0.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let number = |place: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[place * 8..place * 8 + 8]);
            u64::from_le_bytes(word)
        };
        let stream = match number(0) {
            1 => StreamKind::Stdout,
            2 => StreamKind::Stderr,
            _ => return Ok(None),
        };
        Ok(Some(Batch {
            stream,
            log_length: number(1),
            held: number(2),
            drain: number(3),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begun_batch_is_pending_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("batch");
        let file = BatchFile::open(&path).unwrap();
        assert_eq!(file.pending().unwrap(), None);
        let batch = Batch {
            stream: StreamKind::Stderr,
            log_length: 7,
            held: 5,
            drain: 3,
        };
        file.begin(&batch).unwrap();
        assert_eq!(
            BatchFile::open(&path).unwrap().pending().unwrap(),
            Some(batch)
        );
        file.end().unwrap();
        assert_eq!(BatchFile::open(&path).unwrap().pending().unwrap(), None);
    }
}
