//! Reading a log back: the last lines, a span of time, and what is still to come.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::writer::{LogFile, Piece, Progress};
use super::{Format, StreamKind};
use crate::clock::Timestamp;

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Only entries from this time on.
    pub since: Option<Timestamp>,
    /// Only entries before this time.
    pub until: Option<Timestamp>,
    /// Only the last so many entries.
    pub tail: Option<u64>,
    /// Go on with what is written until the run ends.
    pub follow: bool,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it came from.
    pub stream: StreamKind,
    /// When.
    pub time: Timestamp,
    /// The text as it was written.
    pub line: Vec<u8>,
    /// Labels and variables.
    pub attrs: BTreeMap<String, String>,
}

const BLOCK: usize = 64 * 1024;

/// Sends the messages `options` asks for into `sink`; ends early when the receiver is gone.
pub async fn read(log: Arc<LogFile>, options: ReadOptions, sink: mpsc::Sender<Message>) {
    let mut progress = log.watch();
    let result = read_all(&log, &options, &sink, &mut progress).await;
    if let Err(error) = result {
        tracing::warn!(%error, "a log cannot be read");
    }
}

async fn read_all(
    log: &LogFile,
    options: &ReadOptions,
    sink: &mpsc::Sender<Message>,
    progress: &mut tokio::sync::watch::Receiver<Progress>,
) -> io::Result<()> {
    let (mut pieces, start) = log.snapshot()?;
    if pieces.is_empty() {
        return Ok(());
    }
    let (first, from) = match options.tail {
        Some(lines) => tail_start(log, &mut pieces, start.length, lines)?,
        None => (0, 0),
    };
    let last = pieces.len() - 1;
    let mut cursor = None;
    for (index, mut piece) in pieces.into_iter().enumerate().skip(first) {
        let file = log.plain(&mut piece)?.try_clone()?;
        let from = if index == first { from } else { 0 };
        let end = if index == last {
            start.length
        } else {
            u64::MAX
        };
        let here = cursor.insert(Cursor::new(log.format(), file, from));
        if !here.send_to(end, options, sink).await? {
            return Ok(());
        }
    }
    match cursor {
        Some(cursor) if options.follow => {
            follow(log, cursor, start.generation, options, sink, progress).await
        }
        _ => Ok(()),
    }
}

async fn follow(
    log: &LogFile,
    mut cursor: Cursor,
    mut generation: u64,
    options: &ReadOptions,
    sink: &mpsc::Sender<Message>,
    progress: &mut tokio::sync::watch::Receiver<Progress>,
) -> io::Result<()> {
    loop {
        let now = *progress.borrow_and_update();
        if now.generation > generation {
            // A file that was rotated away has its final length.
            if !cursor.send_to(u64::MAX, options, sink).await? {
                return Ok(());
            }
            let (mut piece, next) = log.reopen(generation + 1)?;
            let file = log.plain(&mut piece)?.try_clone()?;
            cursor = Cursor::new(log.format(), file, 0);
            generation = next;
            progress.mark_changed();
            continue;
        }
        if !cursor.send_to(now.length, options, sink).await? {
            return Ok(());
        }
        if !now.open {
            return Ok(());
        }
        let until = options.until.map(|until| until.since(Timestamp::now()));
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return Ok(()) },
            () = sink.closed() => return Ok(()),
            () = wait(until) => return Ok(()),
        }
    }
}

async fn wait(time: Option<std::time::Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// A place in one file, and the piece of a line read beyond it.
struct Cursor {
    format: Format,
    file: File,
    offset: u64,
    buffer: Vec<u8>,
}

impl Cursor {
    fn new(format: Format, file: File, offset: u64) -> Self {
        Self {
            format,
            file,
            offset,
            buffer: Vec::new(),
        }
    }

    /// Sends what stands before `end`; false when nobody wants more.
    async fn send_to(
        &mut self,
        end: u64,
        options: &ReadOptions,
        sink: &mpsc::Sender<Message>,
    ) -> io::Result<bool> {
        while self.offset < end {
            let want = usize::try_from(end - self.offset)
                .unwrap_or(BLOCK)
                .min(BLOCK);
            let filled = self.buffer.len();
            self.buffer.resize(filled + want, 0);
            let count = self.file.read_at(&mut self.buffer[filled..], self.offset)?;
            self.buffer.truncate(filled + count);
            if count == 0 {
                break;
            }
            self.offset += count as u64;
            let mut done = 0;
            while let Some(at) = self.buffer[done..].iter().position(|byte| *byte == b'\n') {
                let line = &self.buffer[done..done + at];
                done += at + 1;
                match select(self.format, line, options) {
                    Selected::Send(message) => {
                        if sink.send(message).await.is_err() {
                            return Ok(false);
                        }
                    }
                    Selected::Skip => {}
                    Selected::Stop => return Ok(false),
                }
            }
            self.buffer.drain(..done);
        }
        Ok(true)
    }
}

enum Selected {
    Send(Message),
    Skip,
    Stop,
}

fn select(format: Format, line: &[u8], options: &ReadOptions) -> Selected {
    let Some(message) = format.decode(line) else {
        return Selected::Skip;
    };
    if options.until.is_some_and(|until| message.time > until) {
        return Selected::Stop;
    }
    let wanted = match message.stream {
        StreamKind::Stdout => options.stdout,
        StreamKind::Stderr => options.stderr,
    };
    if !wanted || options.since.is_some_and(|since| message.time < since) {
        return Selected::Skip;
    }
    Selected::Send(message)
}

/// Index of the file and offset in it where the last `lines` entries begin.
fn tail_start(
    log: &LogFile,
    pieces: &mut [Piece],
    current_length: u64,
    lines: u64,
) -> io::Result<(usize, u64)> {
    let mut missing = lines;
    let mut block = vec![0; BLOCK];
    let last = pieces.len().saturating_sub(1);
    for (index, piece) in pieces.iter_mut().enumerate().rev() {
        // Those before are not even unpacked.
        if missing == 0 {
            return Ok((index + 1, 0));
        }
        let file = log.plain(piece)?;
        let length = if index == last {
            current_length
        } else {
            file.metadata()?.len()
        };
        let mut end = length;
        while end > 0 {
            let size = usize::try_from(end).unwrap_or(BLOCK).min(BLOCK);
            let start = end - size as u64;
            file.read_exact_at(&mut block[..size], start)?;
            for at in (0..size).rev() {
                // The line feed at the very end closes the last entry and begins none.
                if block[at] == b'\n' && start + (at as u64) + 1 != length {
                    missing -= 1;
                    if missing == 0 {
                        return Ok((index, start + at as u64 + 1));
                    }
                }
            }
            end = start;
        }
        // The first entry of a file has no line feed before it.
        if length > 0 {
            missing -= 1;
            if missing == 0 {
                return Ok((index, 0));
            }
        }
    }
    Ok((0, 0))
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::*;

    fn both() -> ReadOptions {
        ReadOptions {
            stdout: true,
            stderr: true,
            ..ReadOptions::default()
        }
    }

    fn append(log: &LogFile, second: i64, text: &str) {
        let mut entry = Vec::new();
        let format = log.format();
        let stamp = format.stamp(Timestamp::from_unix_ns(second * 1_000_000_000));
        format.encode(&mut entry, text.as_bytes(), StreamKind::Stdout, &stamp, "");
        log.rotate_if_full().unwrap();
        log.append(&entry).unwrap();
    }

    async fn collect(log: &Arc<LogFile>, options: ReadOptions) -> String {
        let (sink, mut messages) = mpsc::channel(4);
        let reading = tokio::spawn(read(Arc::clone(log), options, sink));
        let mut text = String::new();
        while let Some(message) = messages.recv().await {
            text.push_str(std::str::from_utf8(&message.line).unwrap());
        }
        reading.await.unwrap();
        text
    }

    fn log(max_size: Option<u64>, max_files: u32) -> (tempfile::TempDir, Arc<LogFile>) {
        let dir = tempfile::tempdir().unwrap();
        let log = LogFile::open(&dir.path().join("x-json.log"), shape(max_size, max_files));
        (dir, Arc::new(log.unwrap()))
    }

    fn shape(max_size: Option<u64>, max_files: u32) -> Shape {
        Shape {
            format: Format::Json,
            max_size,
            max_files,
            compress: false,
        }
    }

    #[tokio::test]
    async fn tail_since_and_until() {
        let (_dir, log) = log(None, 1);
        for second in 1..=5 {
            append(&log, second, &format!("{second}\n"));
        }
        assert_eq!(collect(&log, both()).await, "1\n2\n3\n4\n5\n");
        for (lines, text) in [
            (0, ""),
            (1, "5\n"),
            (2, "4\n5\n"),
            (5, "1\n2\n3\n4\n5\n"),
            (9, "1\n2\n3\n4\n5\n"),
        ] {
            let options = ReadOptions {
                tail: Some(lines),
                ..both()
            };
            assert_eq!(collect(&log, options).await, text, "tail {lines}");
        }
        let since = Some(Timestamp::from_unix_ns(3_000_000_000));
        assert_eq!(
            collect(&log, ReadOptions { since, ..both() }).await,
            "3\n4\n5\n"
        );
        assert_eq!(
            collect(
                &log,
                ReadOptions {
                    until: since,
                    ..both()
                }
            )
            .await,
            "1\n2\n3\n"
        );
        let none = ReadOptions {
            stdout: false,
            ..both()
        };
        assert_eq!(collect(&log, none).await, "");
    }

    #[tokio::test]
    async fn rotated_files_are_read_in_order_and_the_oldest_go() {
        // Each entry has 62 bytes: two fit below the limit, then a file is full.
        let (_dir, log) = log(Some(100), 3);
        for second in 1..=9 {
            append(&log, second, &format!("{second}\n"));
        }
        assert_eq!(collect(&log, both()).await, "5\n6\n7\n8\n9\n");
        let options = ReadOptions {
            tail: Some(4),
            ..both()
        };
        assert_eq!(collect(&log, options).await, "6\n7\n8\n9\n");
    }

    #[tokio::test]
    async fn compressed_files_are_read_like_the_others() {
        let (dir, log) = log(Some(100), 4);
        let path = dir.path().join("x-json.log");
        for second in 1..=9 {
            append(&log, second, &format!("{second}\n"));
            if second % 4 == 3 {
                // Each time the file that was rotated away last; one is skipped.
                super::super::pack::pack(&path, 0, 4, |place| place()).unwrap();
            }
        }
        assert_eq!(collect(&log, both()).await, "3\n4\n5\n6\n7\n8\n9\n");
        let names = ["1", "1.gz", "2", "2.gz", "3", "3.gz"];
        let there = names.map(|name| path.with_extension(format!("log.{name}")).exists());
        assert_eq!(there, [true, false, false, true, true, false]);
        for (lines, text) in [(4, "6\n7\n8\n9\n"), (5, "5\n6\n7\n8\n9\n")] {
            let options = ReadOptions {
                tail: Some(lines),
                ..both()
            };
            assert_eq!(collect(&log, options).await, text);
        }
        // Nothing half made is left beside them.
        let left = std::fs::read_dir(dir.path()).unwrap();
        assert_eq!(left.count(), 4);
    }

    #[tokio::test]
    async fn a_log_is_compressed_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let shape = Shape {
            format: Format::Local,
            compress: true,
            ..shape(Some(60), 3)
        };
        let path = dir.path().join("container.log");
        // What a killed engine left.
        std::fs::write(dir.path().join("container.log.packing.7"), b"half").unwrap();
        let log = Arc::new(LogFile::open(&path, shape).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        for second in 1..=9 {
            append(&log, second, &format!("{second}\n"));
        }
        // Whether or not the last file is compressed yet, it is read.
        let text = collect(&log, both()).await;
        assert!("1\n2\n3\n4\n5\n6\n7\n8\n9\n".ends_with(&text), "{text}");
        assert!(text.len() >= 12, "{text}");
    }

    #[tokio::test]
    async fn a_follower_sees_every_line_across_rotations_and_ends_with_the_run() {
        let (_dir, log) = log(Some(200), 4);
        log.set_open(true);
        append(&log, 1, "1\n");
        let following = {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                collect(
                    &log,
                    ReadOptions {
                        follow: true,
                        ..both()
                    },
                )
                .await
            })
        };
        for second in 2..=50 {
            append(&log, second, &format!("{second}\n"));
            tokio::task::yield_now().await;
        }
        log.set_open(false);
        let expected: String = (1..=50).map(|second| format!("{second}\n")).collect();
        assert_eq!(following.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_torn_entry_is_not_shown() {
        let (_dir, log) = log(None, 1);
        append(&log, 1, "1\n");
        log.append(b"{\"log\":\"torn").unwrap();
        assert_eq!(collect(&log, both()).await, "1\n");
    }

    #[tokio::test]
    async fn a_torn_entry_does_not_take_the_next_one_with_it() {
        let (dir, log) = log(None, 1);
        append(&log, 1, "1\n");
        log.append(b"{\"log\":\"torn").unwrap();
        drop(log);
        let log = Arc::new(LogFile::open(&dir.path().join("x-json.log"), shape(None, 1)).unwrap());
        append(&log, 2, "2\n");
        assert_eq!(collect(&log, both()).await, "1\n2\n");
    }
}
