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
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::path::Path;

    const SHAPE: crate::logs::Shape = crate::logs::Shape {
        format: crate::logs::Format::Json,
        max_size: None,
        max_files: 1,
        compress: false,
    };

    struct Fixture {
        dir: tempfile::TempDir,
        write: Option<std::fs::File>,
        source: OwnedFd,
        scratch: OwnedFd,
        bench: Bench,
    }

    impl Fixture {
        fn new() -> Self {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            Self {
                dir: tempfile::tempdir().unwrap(),
                write: Some(write.into()),
                source: read,
                scratch: Capture::new_scratch().unwrap(),
                bench: Bench::new().unwrap(),
            }
        }

        /// An engine that opens everything afresh, as after a kill.
        fn engine(&self) -> (Capture, LogSink) {
            self.engine_with(SHAPE)
        }

        fn engine_with(&self, shape: crate::logs::Shape) -> (Capture, LogSink) {
            let file = LogFile::open(&self.path("log"), shape).unwrap();
            let batches = BatchFile::open(&self.path("batch")).unwrap();
            let log = LogSink {
                file: Arc::new(file),
                batches,
                buffer: None,
                attrs: "".into(),
                failing: AtomicBool::new(false),
            };
            let source = self.source.try_clone().unwrap();
            let mut capture = Capture::new(StreamKind::Stdout, source).unwrap();
            capture
                .set_scratch(self.scratch.try_clone().unwrap())
                .unwrap();
            (capture, log)
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.dir.path().join(name)
        }

        fn put(&mut self, bytes: &[u8]) {
            self.write.as_mut().unwrap().write_all(bytes).unwrap();
        }

        fn logged(&self) -> Vec<String> {
            logged(&self.path("log"))
        }
    }

    fn logged(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let entry = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines()
            .map(|line| entry(line)["log"].as_str().unwrap().to_owned())
            .collect()
    }

    fn run(capture: &mut Capture, log: &LogSink, bench: &mut Bench) -> (Vec<u8>, bool) {
        let mut got = Vec::new();
        loop {
            match capture.step(Some(log), bench).unwrap() {
                Step::Data(bytes) => got.extend_from_slice(&bytes),
                Step::Blocked => return (got, false),
                Step::End => return (got, true),
            }
        }
    }

    #[tokio::test]
    async fn clients_get_bytes_at_once_and_the_log_gets_lines() {
        let mut all = Fixture::new();
        let (mut capture, log) = all.engine();
        all.put(b"one\ntw");
        assert_eq!(
            run(&mut capture, &log, &mut all.bench),
            (b"one\ntw".to_vec(), false)
        );
        assert_eq!(all.logged(), ["one\n"]);
        all.put(b"o\nrest");
        assert_eq!(
            run(&mut capture, &log, &mut all.bench),
            (b"o\nrest".to_vec(), false)
        );
        all.write = None;
        assert_eq!(run(&mut capture, &log, &mut all.bench), (Vec::new(), true));
        assert_eq!(all.logged(), ["one\n", "two\n", "rest"]);
    }

    #[tokio::test]
    async fn files_are_full_by_their_size_however_fast_lines_come() {
        let mut all = Fixture::new();
        // Each entry has some 70 bytes: two begin below the limit.
        let (mut capture, log) = all.engine_with(crate::logs::Shape {
            max_size: Some(100),
            max_files: 3,
            ..SHAPE
        });
        all.put(b"1\n2\n3\n4\n5\n6\n7\n8\n9\nrest");
        run(&mut capture, &log, &mut all.bench);
        assert_eq!(all.logged(), ["9\n"]);
        assert_eq!(logged(&all.path("log.1")), ["7\n", "8\n"]);
        assert_eq!(logged(&all.path("log.2")), ["5\n", "6\n"]);
        assert!(!all.path("log.3").exists());
        all.write = None;
        run(&mut capture, &log, &mut all.bench);
        assert_eq!(all.logged(), ["9\n", "rest"]);
    }

    #[tokio::test]
    async fn a_container_that_does_not_wait_is_read_while_its_log_stands_still() {
        let mut all = Fixture::new();
        // A log that takes what fits into a pipe, as nobody reads it.
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, all.path("log"), mode).unwrap();
        let mut options = std::fs::OpenOptions::new();
        let mut reader = options
            .read(true)
            .write(true)
            .open(all.path("log"))
            .unwrap();
        let (mut capture, mut log) = all.engine();
        let buffer = Buffer::new(Arc::clone(&log.file), 100_000);
        log.buffer = Some(Arc::clone(&buffer));
        log.open();
        let mut total = 0;
        for number in 0..2000 {
            let line = format!("{number} {}\n", "x".repeat(1000));
            all.put(line.as_bytes());
            total += run(&mut capture, &log, &mut all.bench).0.len();
        }
        all.put(b"part");
        total += run(&mut capture, &log, &mut all.bench).0.len();
        assert!(total > 2_000_000, "clients get everything");
        assert_eq!(capture.held, 4, "what is no line yet is kept");
        log.close();
        let mut closed = log.file.watch();
        let reading = std::thread::spawn(move || {
            let (mut text, mut bytes) = (Vec::new(), vec![0; 1 << 16]);
            while !text.ends_with(b"the end\n") {
                let count = io::Read::read(&mut reader, &mut bytes).unwrap();
                text.extend_from_slice(&bytes[..count]);
            }
            text
        });
        closed.wait_for(|now| !now.open).await.unwrap();
        std::fs::write(all.path("log"), b"the end\n").unwrap();
        let text = String::from_utf8(reading.join().unwrap()).unwrap();
        let entries: Vec<_> = text.lines().filter(|line| *line != "the end").collect();
        for (number, line) in entries.iter().take(50).enumerate() {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            let wanted = format!("{number} ");
            assert!(entry["log"].as_str().unwrap().starts_with(&wanted));
        }
        assert!((50..1000).contains(&entries.len()), "{}", entries.len());
    }

    #[tokio::test]
    async fn long_lines_are_cut_between_characters() {
        let mut all = Fixture::new();
        let (mut capture, log) = all.engine();
        let text = format!("{}€{}\n", "x".repeat(MAX_LINE - 1), "y".repeat(MAX_LINE));
        all.put(text.as_bytes());
        run(&mut capture, &log, &mut all.bench);
        let entries = all.logged();
        assert_eq!(entries.concat(), text);
        assert_eq!(entries[0].len(), MAX_LINE - 1);
        assert_eq!(entries[1].len(), MAX_LINE);
    }

    #[tokio::test]
    async fn the_end_of_a_line_that_comes_while_it_is_looked_for_ends_it() {
        const LINES: usize = 20_000;
        let mut all = Fixture::new();
        let (mut capture, log) = all.engine();
        let mut write = all.write.take().unwrap();
        let writer = std::thread::spawn(move || {
            for _ in 0..LINES {
                write.write_all(b"begun").unwrap();
                std::thread::yield_now();
                write.write_all(b"\n").unwrap();
            }
        });
        while !run(&mut capture, &log, &mut all.bench).1 {}
        writer.join().unwrap();
        let entries = all.logged();
        let torn = entries.iter().filter(|entry| *entry != "begun\n");
        assert_eq!((torn.count(), entries.len()), (0, LINES));
    }

    #[tokio::test]
    async fn a_program_that_writes_bytes_without_lines_never_stalls() {
        let mut all = Fixture::new();
        let (mut capture, log) = all.engine();
        for _ in 0..500 {
            all.put(b".");
            assert_eq!(run(&mut capture, &log, &mut all.bench).0, b".");
        }
        all.write = None;
        run(&mut capture, &log, &mut all.bench);
        assert_eq!(all.logged().concat(), ".".repeat(500));
    }

    #[tokio::test]
    async fn an_engine_killed_before_letting_go_does_not_double_a_line() {
        let mut all = Fixture::new();
        let (mut capture, log) = all.engine();
        all.put(b"first\nsecond\npart");
        // What `step` does, up to the append.
        splice(
            capture.fd(),
            None,
            &all.scratch,
            None,
            SCRATCH,
            SpliceFlags::NONBLOCK,
        )
        .unwrap();
        capture.held = fionread(all.scratch.as_fd()).unwrap();
        let batch = Batch {
            stream: StreamKind::Stdout,
            log_length: 0,
            held: 17,
            drain: 13,
        };
        log.batches.begin(&batch).unwrap();
        log.file
            .append(b"{\"log\":\"first\\n\",\"stream\":\"stdout\",\"ti")
            .unwrap();
        drop((capture, log));
        let (mut capture, log) = all.engine();
        capture.settle(&log, &mut all.bench).unwrap();
        capture.log_whole_lines(&log, &mut all.bench).unwrap();
        all.put(b" of it\n");
        run(&mut capture, &log, &mut all.bench);
        assert_eq!(all.logged(), ["first\n", "second\n", "part of it\n"]);
    }

    #[tokio::test]
    async fn an_engine_killed_after_letting_go_does_not_lose_a_line() {
        let mut all = Fixture::new();
        let (mut capture, log) = all.engine();
        all.put(b"first\nse");
        run(&mut capture, &log, &mut all.bench);
        // Killed between the last two steps of `record`.
        let batch = Batch {
            stream: StreamKind::Stdout,
            log_length: 0,
            held: 8,
            drain: 6,
        };
        log.batches.begin(&batch).unwrap();
        drop((capture, log));
        let (mut capture, log) = all.engine();
        capture.settle(&log, &mut all.bench).unwrap();
        capture.log_whole_lines(&log, &mut all.bench).unwrap();
        all.put(b"cond\n");
        run(&mut capture, &log, &mut all.bench);
        assert_eq!(all.logged(), ["first\n", "second\n"]);
    }

    #[tokio::test]
    async fn output_that_comes_between_an_empty_read_and_its_clearing_is_not_missed() {
        let mut all = Fixture::new();
        let (mut capture, log) = all.engine();
        let source = capture.source();
        all.put(b"one\n");
        let mut guard = source.readable().await.unwrap();
        assert_eq!(
            run(&mut capture, &log, &mut all.bench),
            (b"one\n".to_vec(), false)
        );
        all.put(b"two\n");
        // The runtime looks for events once in a while, here before the guard is cleared.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        guard.clear_ready();
        let again = tokio::time::timeout(std::time::Duration::from_secs(10), source.readable());
        assert!(again.await.is_ok(), "the output waits for ever");
    }

    #[test]
    fn cut_characters_are_left_for_the_next_piece() {
        for (text, whole) in [("abc", 3), ("ab€", 5), ("é", 2)] {
            let bytes = text.as_bytes();
            assert_eq!(whole_characters(bytes), whole);
        }
        assert_eq!(whole_characters(&"ab€".as_bytes()[..4]), 2);
        assert_eq!(whole_characters(&"ab🚢".as_bytes()[..5]), 2);
        assert_eq!(whole_characters(b"\x80\x80\x80\x80\x80"), 5);
    }
}
