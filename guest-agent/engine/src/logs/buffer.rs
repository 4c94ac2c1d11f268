//! Lines on their way into a log whose container must not wait for it: `mode=non-blocking`.
//!
//! Whoever reads the container adds lines and never waits; while there are any, one blocking task
//! appends them. Where the log is slower than the container, the newest line is dropped, as dockerd
//! does. What waits here is lost with an engine that is killed, and nothing else: a line is in the
//! log whole, or not at all, and never twice.
//!
//! One per container, made by `start`, filled by its captures: it outlives a run, so that the lines
//! of the next one come behind those of the last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{LogFile, StreamKind};
use crate::clock::Timestamp;

/// What a line costs beside its text.
const LINE: usize = size_of::<Line>();
/// Text that is encoded and appended at a time.
const BATCH: usize = 64 * 1024;

/// Lines that wait for the log.
#[derive(Debug)]
pub(crate) struct Buffer {
    file: Arc<LogFile>,
    limit: usize,
    state: Mutex<State>,
    written: Notify,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Line>,
    /// What they cost, and those that are being written.
    bytes: usize,
    /// Whether the task is there that writes them.
    writing: bool,
    /// Whether the log is closed once they are written.
    closing: bool,
    /// Lines that had no place since it was last said.
    dropped: u64,
    /// Whether the last ones could not be written.
    failing: bool,
}

#[derive(Debug)]
struct Line {
    stream: StreamKind,
    time: Timestamp,
    text: Box<[u8]>,
    attrs: Arc<str>,
}

impl Line {
    fn cost(&self) -> usize {
        self.text.len() + LINE
    }
}

impl Buffer {
    /// At most `limit` bytes wait; one line always may.
    pub(crate) fn new(file: Arc<LogFile>, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            file,
            limit,
            state: Mutex::default(),
            written: Notify::new(),
        })
    }

    /// Takes the lines that `each` gives it, as far as there is place. Called within the runtime.
    pub(crate) fn add<T>(
        self: &Arc<Self>,
        stream: StreamKind,
        attrs: &Arc<str>,
        each: impl FnOnce(&mut dyn FnMut(&[u8])) -> T,
    ) -> T {
        let time = Timestamp::now();
        let mut state = self.lock();
        let result = each(&mut |text| {
            if state.bytes > 0 && state.bytes + text.len() + LINE > self.limit {
                state.dropped += 1;
                return;
            }
            let line = Line {
                stream,
                time,
                text: text.into(),
                attrs: Arc::clone(attrs),
            };
            state.bytes += line.cost();
            state.lines.push_back(line);
        });
        if !state.lines.is_empty() && !std::mem::replace(&mut state.writing, true) {
            let buffer = Arc::clone(self);
            tokio::task::spawn_blocking(move || buffer.write());
        }
        result
    }

    /// A run begins: the log may grow.
    pub(crate) fn open(&self) {
        let mut state = self.lock();
        state.closing = false;
        self.file.set_open(true);
    }

    /// The run is over: the log is closed once all that waits is in it.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        if state.writing {
            state.closing = true;
        } else {
            self.file.set_open(false);
        }
    }

    /// Waits until nothing waits.
    pub(crate) async fn written(&self) {
        loop {
            let written = self.written.notified();
            tokio::pin!(written);
            // Registered before the look, so that the end is not missed.
            written.as_mut().enable();
            if !self.lock().writing {
                return;
            }
            written.await;
        }
    }

    /// Writes until nothing is left. Blocks as long as the log does.
    fn write(&self) {
        let mut entries = Vec::new();
        while let Some(batch) = self.next() {
            let result = self.append(&batch, &mut entries);
            self.done(&batch, result);
        }
    }

    /// The next lines; they cost their place until they are written. With none the task ends.
    fn next(&self) -> Option<Vec<Line>> {
        let mut state = self.lock();
        let mut cost = 0;
        let fitting = state.lines.iter().take_while(|line| {
            cost += line.cost();
            cost <= BATCH
        });
        let count = fitting.count().max(1).min(state.lines.len());
        if count > 0 {
            return Some(state.lines.drain(..count).collect());
        }
        state.writing = false;
        // What one burst needed is not kept for ever.
        state.lines.shrink_to_fit();
        if std::mem::take(&mut state.closing) {
            self.file.set_open(false);
        }
        self.written.notify_waiters();
        None
    }

    /// Appends lines, a file at a time: each is full by the size it has.
    fn append(&self, batch: &[Line], entries: &mut Vec<u8>) -> std::io::Result<()> {
        let mut rest = batch.iter().peekable();
        while rest.peek().is_some() {
            entries.clear();
            let room = self.file.room();
            for line in rest.by_ref() {
                let format = self.file.format();
                let stamp = format.stamp(line.time);
                format.encode(entries, &line.text, line.stream, &stamp, &line.attrs);
                if entries.len() >= room {
                    break;
                }
            }
            if let Err(error) = self.file.rotate_if_full() {
                tracing::warn!(%error, "a log cannot be rotated");
            }
            self.file.append(entries)?;
        }
        Ok(())
    }

    /// Makes place for others, and says what went wrong: once, and not for every line.
    fn done(&self, batch: &[Line], result: std::io::Result<()>) {
        let mut state = self.lock();
        state.bytes -= batch.iter().map(Line::cost).sum::<usize>();
        match result {
            Ok(()) => state.failing = false,
            Err(error) if !std::mem::replace(&mut state.failing, true) => {
                tracing::warn!(%error, "output is missing from a log");
            }
            Err(_) => {}
        }
        if state.lines.is_empty() && state.dropped > 0 {
            let lines = std::mem::take(&mut state.dropped);
            tracing::info!(lines, "a log was too slow for its container");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::time::Duration;

    use super::super::{Format, Shape};
    use super::*;

    const SHAPE: Shape = Shape {
        format: Format::Local,
        max_size: None,
        max_files: 1,
        compress: false,
    };

    fn add(buffer: &Arc<Buffer>, text: &str) {
        let attrs = Arc::from("");
        buffer.add(StreamKind::Stdout, &attrs, |line| line(text.as_bytes()));
    }

    async fn limited<T>(what: impl Future<Output = T>) -> T {
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, what).await.expect("it ends")
    }

    /// A log that takes 64 KiB and then no more until it is read.
    struct Slow {
        dir: tempfile::TempDir,
        reader: std::fs::File,
    }

    impl Slow {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true);
            let reader = options.custom_flags(libc_nonblock()).open(&path).unwrap();
            Self { dir, reader }
        }

        fn buffer(&self, limit: usize) -> Arc<Buffer> {
            let file = LogFile::open(&self.dir.path().join("log"), SHAPE).unwrap();
            let buffer = Buffer::new(Arc::new(file), limit);
            buffer.open();
            buffer
        }

        /// Everything that is written to it until the log is closed.
        async fn read_all(mut self, buffer: &Arc<Buffer>) -> String {
            let mut progress = buffer.file.watch();
            let mut bytes = vec![0; 1 << 20];
            let mut text = Vec::new();
            let reading = async {
                loop {
                    let open = progress.borrow_and_update().open;
                    match self.reader.read(&mut bytes) {
                        Ok(count) => text.extend_from_slice(&bytes[..count]),
                        Err(_) if !open => return,
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            };
            limited(reading).await;
            String::from_utf8(text).unwrap()
        }
    }

    fn libc_nonblock() -> i32 {
        rustix::fs::OFlags::NONBLOCK.bits() as i32
    }

    /// The texts of entries of the driver `local`.
    fn texts(log: &str) -> Vec<&str> {
        let texts = log.lines().map(|line| line.split_once(' ').unwrap().1);
        texts.collect()
    }

    #[tokio::test]
    async fn lines_reach_the_log_in_their_order_before_it_counts_as_closed() {
        let slow = Slow::new();
        let buffer = slow.buffer(1 << 20);
        let wanted: Vec<String> = (0..5000).map(|number| format!("line {number}")).collect();
        for line in &wanted {
            add(&buffer, &format!("{line}\n"));
        }
        buffer.close();
        assert!(buffer.file.watch().borrow().open, "the log cannot hold all");
        let log = slow.read_all(&buffer).await;
        assert_eq!(texts(&log), wanted);
        limited(buffer.written()).await;
    }

    #[tokio::test]
    async fn a_log_that_stands_still_costs_no_more_than_the_limit_and_the_newest_lines() {
        let slow = Slow::new();
        let limit = 100_000;
        let buffer = slow.buffer(limit);
        let text = "x".repeat(1000);
        for number in 0..20_000 {
            add(&buffer, &format!("{number} {text}\n"));
            assert!(buffer.lock().bytes <= limit);
        }
        buffer.close();
        let log = slow.read_all(&buffer).await;
        let numbers: Vec<usize> = texts(&log)
            .iter()
            .map(|line| {
                let (number, rest) = line.split_once(' ').unwrap();
                assert_eq!(rest, text, "a line is torn");
                number.parse().unwrap()
            })
            .collect();
        // Those that came first are there, and nothing twice.
        assert!(numbers.is_sorted_by(|a, b| a < b));
        assert!(numbers.len() > limit / 2000 && numbers.len() < 1000);
        assert!(numbers[..limit / 2000].iter().copied().eq(0..limit / 2000));
    }

    #[tokio::test]
    async fn one_line_may_always_wait_and_empty_ones_cost_too() {
        let slow = Slow::new();
        let buffer = slow.buffer(1);
        add(&buffer, &"x".repeat(200_000));
        add(&buffer, "dropped\n");
        buffer.close();
        let log = slow.read_all(&buffer).await;
        assert_eq!(texts(&log), ["x".repeat(200_000)]);

        let slow = Slow::new();
        let buffer = slow.buffer(10_000);
        let attrs = Arc::from("");
        buffer.add(StreamKind::Stdout, &attrs, |line| {
            (0..100_000).for_each(|_| line(b"\n"));
        });
        assert!(buffer.lock().lines.len() < 1000);
    }

    #[tokio::test]
    async fn a_run_that_begins_while_the_last_ones_lines_wait_keeps_the_log_open() {
        let slow = Slow::new();
        let buffer = slow.buffer(1 << 20);
        add(&buffer, &format!("{}\n", "x".repeat(200_000)));
        buffer.close();
        buffer.open();
        add(&buffer, "next\n");
        let mut rest = &slow.reader;
        let mut bytes = vec![0; 1 << 20];
        let mut got = 0;
        let reading = async {
            while got < 200_000 || buffer.lock().writing {
                match rest.read(&mut bytes) {
                    Ok(count) => got += count,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        limited(reading).await;
        assert!(buffer.file.watch().borrow().open);
        buffer.close();
        assert!(!buffer.file.watch().borrow().open);
    }

    #[tokio::test]
    async fn files_are_full_by_their_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let shape = Shape {
            max_size: Some(60),
            max_files: 3,
            ..SHAPE
        };
        let buffer = Buffer::new(Arc::new(LogFile::open(&path, shape).unwrap()), 1 << 20);
        buffer.open();
        let attrs = Arc::from("");
        // Each entry has 23 bytes: three begin below the limit.
        buffer.add(StreamKind::Stdout, &attrs, |line| {
            (1..=8).for_each(|number| line(format!("{number}\n").as_bytes()));
        });
        limited(buffer.written()).await;
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(texts(&read("log.2")), ["1", "2", "3"]);
        assert_eq!(texts(&read("log.1")), ["4", "5", "6"]);
        assert_eq!(texts(&read("log")), ["7", "8"]);
    }
}
