//! An output of a container, taken by engines that are killed at any moment.

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
