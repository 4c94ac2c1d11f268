//! Bytes from async tasks to threads that block, and back.
//!
//! Layers are unpacked, hashed and indexed on threads; they come from and go to the network on
//! tasks. A bounded channel of chunks joins the two, so neither runs ahead of the other.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Chunks in flight; with the usual chunk of up to 64 KiB that is half a megabyte.
const DEPTH: usize = 8;

/// A bounded channel of bytes whose reader blocks.
pub fn to_thread() -> (mpsc::Sender<io::Result<Bytes>>, ThreadReader) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    (
        sender,
        ThreadReader {
            receiver,
            current: Bytes::new(),
        },
    )
}

/// A bounded channel of bytes whose writer blocks.
pub fn from_thread() -> (ThreadWriter, mpsc::Receiver<Bytes>) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    (
        ThreadWriter {
            sender,
            buffer: Vec::with_capacity(CHUNK),
        },
        receiver,
    )
}

/// The reading end. The end of the stream is a dropped sender; a stream that broke must send its
/// error first.
#[derive(Debug)]
pub struct ThreadReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for ThreadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

const CHUNK: usize = 64 << 10;

/// The writing end. Writing fails once the receiver is gone. Must be flushed.
#[derive(Debug)]
pub struct ThreadWriter {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Write for ThreadWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender
            .blocking_send(full.into())
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
