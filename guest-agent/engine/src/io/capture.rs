//! One output of a process, read so that a killed engine neither loses nor doubles a byte of log.
//!
//! ```text
//!   source ──splice──► scratch ──tee──► bench ──read──► clients, and lines for the log
//!                         │
//!                         └──splice to /dev/null, once its lines are in the log
//! ```
//!
//! Bytes move from the source to the scratch pipe inside the kernel, and the scratch pipe is in
//! PID 1's store: at every moment a byte is in the source, in the scratch pipe or in the log.
//! Appending to the log and letting go of the bytes are two steps; [`BatchFile`] tells the next
//! engine which of them was done. What is not yet a whole line stays in the scratch pipe.
//!
//! The lines of a container that does not wait for its log go to a [`Buffer`] instead.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::io::Errno;
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice, tee,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::batch::{Batch, BatchFile};
use super::poll::{Watched, watch};
use crate::clock::Timestamp;
use crate::logs::{Buffer, LogFile, MAX_LINE, StreamKind};

/// Capacity of scratch pipes. Counted in pages, each of which may hold as little as one byte of
/// a program that writes byte by byte; see [`Capture::step`].
const SCRATCH: usize = 256 * 1024;
/// More than the kernel keeps of a terminal's output: 64 KiB on the way and a page to be read.
const TERMINAL: usize = 128 * 1024;

/// What captures of all containers share: they work one at a time and never wait while they do.
#[derive(Debug)]
pub(crate) struct Bench {
    look: OwnedFd,
    fill: OwnedFd,
    null: OwnedFd,
    bytes: Vec<u8>,
    entries: Vec<u8>,
}

impl Bench {
    pub(crate) fn new() -> io::Result<Self> {
        let (look, fill) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&fill, SCRATCH)?;
        let null = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/null")?
            .into();
        Ok(Self {
            look,
            fill,
            null,
            bytes: Vec::new(),
            entries: Vec::new(),
        })
    }
}

/// The log of a container, as its captures write it.
#[derive(Debug)]
pub(crate) struct LogSink {
    pub(crate) file: Arc<LogFile>,
    pub(crate) batches: BatchFile,
    /// Where lines wait, if the container does not wait for its log.
    pub(crate) buffer: Option<Arc<Buffer>>,
    /// Added to each entry.
    pub(crate) attrs: Arc<str>,
    /// Whether the last entries could not be written.
    pub(crate) failing: AtomicBool,
}

impl LogSink {
    /// A run begins, or goes on.
    pub(crate) fn open(&self) {
        match &self.buffer {
            Some(buffer) => buffer.open(),
            None => self.file.set_open(true),
        }
    }

    /// The run is over, and all its output was passed on.
    pub(crate) fn close(&self) {
        match &self.buffer {
            Some(buffer) => buffer.close(),
            None => self.file.set_open(false),
        }
    }
}

/// What a step of a capture found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bytes; perhaps there are more.
    Data(Bytes),
    /// Nothing for now.
    Blocked,
    /// The end: every writer has closed.
    End,
}

/// The reading end of an output, watched by the runtime.
pub(crate) type Source = AsyncFd<Watched<OwnedFd>>;

/// One output of a process.
#[derive(Debug)]
pub(crate) struct Capture {
    kind: StreamKind,
    source: Arc<Source>,
    scratch: Option<OwnedFd>,
    /// Bytes in the scratch pipe.
    held: usize,
    /// Bytes of those that clients have had already.
    seen: usize,
    ended: bool,
}

impl Capture {
    /// Takes the reading end of a pipe or a terminal's master.
    pub(crate) fn new(kind: StreamKind, source: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&source, true)?;
        let source = Arc::new(watch(source, Interest::READABLE)?);
        Ok(Self {
            kind,
            source,
            scratch: None,
            held: 0,
            seen: 0,
            ended: false,
        })
    }

    /// Which output this is.
    pub(crate) fn kind(&self) -> StreamKind {
        self.kind
    }

    /// Whether the end was seen.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Gives up on it after an error.
    pub(crate) fn abandon(&mut self) {
        self.ended = true;
    }

    /// Whether the scratch pipe is still to be made.
    pub(crate) fn wants_scratch(&self) -> bool {
        self.scratch.is_none()
    }

    /// Makes a scratch pipe: one descriptor for both of its ends.
    pub(crate) fn new_scratch() -> io::Result<OwnedFd> {
        let (reading, _writing) = pipe_with(PipeFlags::CLOEXEC)?;
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&reading)
        );
        let both = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)?;
        fcntl_setpipe_size(&both, SCRATCH)?;
        rustix::io::ioctl_fionbio(&both, true)?;
        Ok(both.into())
    }

    /// Hands in the scratch pipe, once it is in the store.
    pub(crate) fn set_scratch(&mut self, scratch: OwnedFd) -> io::Result<()> {
        self.held = fionread(scratch.as_fd())?;
        self.seen = self.held;
        self.scratch = Some(scratch);
        Ok(())
    }

    /// Undoes or finishes what an engine that was killed had begun with this output.
    pub(crate) fn settle(&mut self, log: &LogSink, bench: &mut Bench) -> io::Result<()> {
        let pending = log.batches.pending()?;
        let Some(batch) = pending.filter(|batch| batch.stream == self.kind) else {
            return Ok(());
        };
        let held = self.held as u64;
        if held >= batch.held {
            // Not let go yet: what reached the log is written again from the scratch pipe.
            log.file.cut(batch.log_length)?;
        } else {
            let rest = batch.drain.saturating_sub(batch.held - held);
            self.drain(usize::try_from(rest).unwrap_or(0), bench)?;
            self.seen = self.held;
        }
        log.batches.end()
    }

    /// Logs the lines that were taken from the source and not written.
    pub(crate) fn log_whole_lines(&mut self, log: &LogSink, bench: &mut Bench) -> io::Result<()> {
        self.look(bench)?;
        self.record(log, bench, false)
    }

    /// Logs what is left although no line feed followed: there will be no more.
    pub(crate) fn finish(&mut self, log: &LogSink, bench: &mut Bench) -> io::Result<()> {
        if self.held == 0 {
            return Ok(());
        }
        self.look(bench)?;
        self.record(log, bench, true)
    }

    /// More bytes than this cannot be waiting to be read.
    pub(crate) fn capacity(&self) -> usize {
        fcntl_getpipe_size(self.fd()).unwrap_or(0).max(TERMINAL)
    }

    /// Tells when there may be something to read. The guard it gives has to be taken before a
    /// step and cleared after one that found nothing: readiness that came in between is a new
    /// one and stays.
    pub(crate) fn source(&self) -> Arc<Source> {
        Arc::clone(&self.source)
    }

    /// Reads what is there. With a log, whole lines are in it when this returns.
    pub(crate) fn step(&mut self, log: Option<&LogSink>, bench: &mut Bench) -> io::Result<Step> {
        let Some(log) = log else {
            return self.step_unlogged(bench);
        };
        let Some(scratch) = self.scratch.as_ref() else {
            return Err(io::Error::other("a logged output has no scratch pipe"));
        };
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let mut full = self.held >= MAX_LINE;
        let mut moved = splice(self.fd(), None, scratch, None, SCRATCH, flags);
        if moved == Err(Errno::AGAIN) {
            if self.held == 0 || fionread(self.fd())? == 0 {
                return Ok(Step::Blocked);
            }
            // It may have come between the two looks. If not, a program that writes byte by byte has used up the
            // pages of the scratch pipe without ending a line.
            moved = splice(self.fd(), None, scratch, None, SCRATCH, flags);
            full |= moved == Err(Errno::AGAIN);
        }
        match moved {
            Ok(0) => self.ended = true,
            // The other side of a terminal is gone.
            Err(Errno::IO) => self.ended = true,
            Ok(count) => self.held += count,
            Err(Errno::AGAIN) => {}
            Err(Errno::INTR) => return Ok(Step::Data(Bytes::new())),
            Err(errno) => return Err(errno.into()),
        }
        self.look(bench)?;
        let fresh = Bytes::copy_from_slice(&bench.bytes[self.seen..]);
        self.seen = self.held;
        self.record(log, bench, full || self.ended)?;
        Ok(if self.ended && fresh.is_empty() {
            Step::End
        } else {
            Step::Data(fresh)
        })
    }

    fn step_unlogged(&mut self, bench: &mut Bench) -> io::Result<Step> {
        bench.bytes.resize(MAX_LINE * 4, 0);
        match rustix::io::read(self.fd(), &mut bench.bytes[..]) {
            Ok(0) | Err(Errno::IO) => {
                self.ended = true;
                Ok(Step::End)
            }
            Ok(count) => Ok(Step::Data(Bytes::copy_from_slice(&bench.bytes[..count]))),
            Err(Errno::AGAIN) => Ok(Step::Blocked),
            Err(Errno::INTR) => Ok(Step::Data(Bytes::new())),
            Err(errno) => Err(errno.into()),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.source.get_ref().0.as_fd()
    }

    /// Copies the scratch pipe's content to the bench without taking it out.
    fn look(&self, bench: &mut Bench) -> io::Result<()> {
        bench.bytes.resize(self.held, 0);
        let Some(scratch) = self.scratch.as_ref().filter(|_| self.held > 0) else {
            return Ok(());
        };
        let copied = tee(scratch, &bench.fill, self.held, SpliceFlags::NONBLOCK)?;
        let mut filled = 0;
        while filled < copied {
            filled += rustix::io::read(&bench.look, &mut bench.bytes[filled..copied])?;
        }
        if copied == self.held {
            return Ok(());
        }
        Err(io::Error::other("a scratch pipe holds less than it should"))
    }

    /// Writes the lines on the bench to the log and lets go of their bytes, a file at a time: each
    /// is full by the size it has and not by how fast its lines came.
    fn record(&mut self, log: &LogSink, bench: &mut Bench, force: bool) -> io::Result<()> {
        if let Some(buffer) = &log.buffer {
            return self.hand_on(buffer, log, bench, force);
        }
        let format = log.file.format();
        let stamp = format.stamp(Timestamp::now());
        let mut done = 0;
        loop {
            bench.entries.clear();
            let room = log.file.room();
            let entries = &mut bench.entries;
            let taken = lines(&bench.bytes[done..], force, |line| {
                format.encode(entries, line, self.kind, &stamp, &log.attrs);
                entries.len() < room
            });
            if taken == 0 {
                return Ok(());
            }
            self.write(log, bench, taken)?;
            done += taken;
        }
    }

    /// Gives the lines on the bench to those that wait for the log, and lets go of their bytes. An
    /// engine that is killed loses them: it was asked for that.
    fn hand_on(
        &mut self,
        buffer: &Arc<Buffer>,
        log: &LogSink,
        bench: &Bench,
        force: bool,
    ) -> io::Result<()> {
        let taken = buffer.add(self.kind, &log.attrs, |add| {
            lines(&bench.bytes, force, |line| {
                add(line);
                true
            })
        });
        if taken > 0 {
            self.drain(taken, bench)?;
            self.seen = self.held;
        }
        Ok(())
    }

    /// Writes the entries on the bench, which stand for so many bytes of the scratch pipe.
    fn write(&mut self, log: &LogSink, bench: &Bench, taken: usize) -> io::Result<()> {
        if let Err(error) = log.file.rotate_if_full() {
            tracing::warn!(%error, "a log cannot be rotated");
        }
        log.batches.begin(&Batch {
            stream: self.kind,
            log_length: log.file.length(),
            held: self.held as u64,
            drain: taken as u64,
        })?;
        // A full disk must not stop the container: clients still get its output.
        match log.file.append(&bench.entries) {
            Ok(()) => log.failing.store(false, Ordering::Relaxed),
            // Said once, and not for every line.
            Err(error) if !log.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "output is missing from a log");
            }
            Err(_) => {}
        }
        self.drain(taken, bench)?;
        self.seen = self.held;
        log.batches.end()
    }

    fn drain(&mut self, count: usize, bench: &Bench) -> io::Result<()> {
        let Some(scratch) = self.scratch.as_ref() else {
            return Ok(());
        };
        let mut left = count.min(self.held);
        while left > 0 {
            let moved = splice(
                scratch,
                None,
                &bench.null,
                None,
                left,
                SpliceFlags::NONBLOCK,
            )?;
            if moved == 0 {
                return Err(io::Error::other("a scratch pipe holds less than it should"));
            }
            left -= moved;
            self.held -= moved;
        }
        Ok(())
    }
}

/// Cuts `bytes` into log lines, as long as `line` wants more of them, and returns how many bytes
/// they cover; with `force` that may be all.
fn lines(bytes: &[u8], force: bool, mut line: impl FnMut(&[u8]) -> bool) -> usize {
    let mut start = 0;
    while start < bytes.len() {
        let rest = &bytes[start..];
        let window = &rest[..rest.len().min(MAX_LINE)];
        let end = match window.iter().position(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if window.len() == MAX_LINE => whole_characters(window),
            None if force => window.len(),
            None => break,
        };
        start += end;
        if !line(&rest[..end]) {
            break;
        }
    }
    start
}

/// Length of `window` without a UTF-8 sequence that is cut off at its end.
fn whole_characters(window: &[u8]) -> usize {
    let tail = &window[window.len().saturating_sub(4)..];
    let Some(back) = tail.iter().rev().position(|byte| byte & 0xc0 != 0x80) else {
        return window.len();
    };
    let lead = tail[tail.len() - 1 - back];
    let length = match lead {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    if length > back + 1 {
        window.len() - back - 1
    } else {
        window.len()
    }
}

fn fionread(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let count = rustix::io::ioctl_fionread(fd)?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
