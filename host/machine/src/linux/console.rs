//! The guest's console: the end of what it printed, in a file of bounded size and in memory.
//!
//! The file never grows beyond its limit however much the guest prints: when it is full it is
//! written anew with its newer half.

use std::{
    fs::File,
    io::Read,
    os::{
        fd::OwnedFd,
        unix::{fs::FileExt, net::UnixStream},
    },
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use lighter_platform::sys::threads;
use lighter_platform::text::without_controls;

use super::roles;

/// How much of the end goes into an error.
const TAIL: usize = 8 << 10;

/// The console's end, shared with the thread that reads it.
#[derive(Clone, Debug)]
pub struct Console(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    file: File,
    limit: usize,
    /// Everything in the file.
    kept: Vec<u8>,
}

impl Log {
    fn write(&mut self, bytes: &[u8]) {
        // What is lost here is a line of a log; the machine goes on.
        if self.kept.len() + bytes.len() <= self.limit {
            _ = self.file.write_at(bytes, self.kept.len() as u64);
            self.kept.extend_from_slice(bytes);
            return;
        }
        let keep = self.limit / 2;
        let from_new = bytes.len().min(keep);
        let from_old = (keep - from_new).min(self.kept.len());
        self.kept.drain(..self.kept.len() - from_old);
        self.kept
            .extend_from_slice(&bytes[bytes.len() - from_new..]);
        _ = self.file.set_len(0);
        _ = self.file.write_at(&self.kept, 0);
    }
}

impl Console {
    /// Takes an empty file open for writing.
    pub fn new(file: OwnedFd, limit: u32) -> Self {
        let log = Log {
            file: File::from(file),
            limit: limit as usize,
            kept: Vec::new(),
        };
        Self(Arc::new(Mutex::new(log)))
    }

    /// Reads a console until its end, on a thread of its own.
    pub fn follow(&self, mut from: UnixStream) -> std::io::Result<JoinHandle<()>> {
        let console = self.clone();
        threads::spawn("console", roles::CONSOLE, move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                console.write(&bytes[..n]);
            }
        })
    }

    /// Adds to its end.
    pub fn write(&self, bytes: &[u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes);
    }

    /// The last lines, fit to be shown on a terminal: the guest chose the bytes.
    pub fn tail(&self) -> String {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = &log.kept[log.kept.len().saturating_sub(TAIL)..];
        printable(end)
    }
}

/// Keeps text and line ends, without what could steer a terminal.
pub fn printable(bytes: &[u8]) -> String {
    without_controls(&String::from_utf8_lossy(bytes))
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(limit: u32) -> (Console, File) {
        let file = tempfile::tempfile().unwrap();
        let copy = file.try_clone().unwrap();
        (Console::new(file.into(), limit), copy)
    }

    #[test]
    fn flood_leaves_a_bounded_file_with_its_end() {
        let (console, file) = console(4096);
        for line in 0..10_000 {
            console.write(format!("line {line}\n").as_bytes());
            assert!(file.metadata().unwrap().len() <= 4096);
        }
        assert!(console.tail().ends_with("line 9998\nline 9999"));
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.len() > 1024 && bytes.ends_with(b"line 9999\n"));
    }

    #[test]
    fn one_write_larger_than_the_limit_keeps_its_end() {
        let (console, file) = console(4096);
        let mut big = vec![b'x'; 1 << 20];
        big.extend_from_slice(b"the end");
        console.write(&big);
        assert!(file.metadata().unwrap().len() <= 4096 && console.tail().ends_with("xthe end"));
    }

    #[test]
    fn tail_cannot_steer_a_terminal() {
        let (console, _file) = console(4096);
        console.write(b"a\x1b[2Jb\r\nc\x07\xff\n\n");
        assert_eq!(console.tail(), "ab\nc\u{fffd}");
    }
}
