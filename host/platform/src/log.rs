//! The log: a file that stays small, whatever a guest makes our processes say.
//!
//! Called by every process that runs for long. The daemon opens the file; the others are given it as their standard
//! error and append by descriptors of their own, so it is emptied in place and never renamed. A process that opens
//! nothing can write it: nothing here goes by name but [`BoundedLog::open`].

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::path::Path;

use crate::sys;

/// Largest log that is kept; a longer one begins anew.
const LARGEST: u64 = 4 << 20;
/// The line that stands for what is gone.
const EMPTIED: &[u8] = b"(the log was full and begins anew)\n";

/// A file that is appended to and emptied when it is full.
#[derive(Debug)]
pub struct BoundedLog {
    file: File,
    largest: u64,
}

impl BoundedLog {
    /// Opens or makes the log at `path`.
    ///
    /// # Errors
    /// What the system answers.
    pub fn open(path: &Path) -> io::Result<Self> {
        sys::open_log(path).map(Self::of)
    }

    /// The log that this process was given as its standard error.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn inherited() -> io::Result<Self> {
        sys::standard_error().map(Self::of)
    }

    fn of(file: File) -> Self {
        Self {
            file,
            largest: LARGEST,
        }
    }
}

impl Write for BoundedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The length, by a call that takes no name. What has none, a terminal, is never full.
        let length = self.file.seek(SeekFrom::End(0)).unwrap_or_default();
        if length > self.largest {
            self.file.set_len(0)?;
            // One that was not opened for appending has its place at the old end.
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(EMPTIED)?;
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_begins_anew_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let mut log = BoundedLog::open(&path).unwrap();
        log.largest = 100;
        for n in 0..50 {
            writeln!(log, "line {n} of a guest that says too much").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() < 300, "{}", text.len());
        assert!(text.starts_with("(the log was full"), "{text}");
        assert!(text.ends_with("line 49 of a guest that says too much\n"));
    }
}
