//! Clients that do not read, and logs that do not take: what they cost the engine, and whether the
//! container waits.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::api::{attach, call, container, create, get, logs, post, run, started, state, wait};
use crate::machine::{LIMIT, Machine};

/// What a container writes as fast as it can.
const OUTPUT: usize = 200 << 20;
/// The writer: one process.
const WRITE: &str = "exec dd if=/dev/zero bs=65536 count=3200 2>/dev/null";
/// How much more memory the engine may have had at its most.
const MORE: usize = 16 << 20;

/// Memory of the engine, now and at its most since this was made.
struct Memory {
    proc: PathBuf,
    before: usize,
}

impl Memory {
    fn of(machine: &Machine) -> Self {
        let pid = machine.agent_pid().unwrap();
        let proc = Path::new("/proc").join(pid.to_string());
        // Its most is counted from here on.
        std::fs::write(proc.join("clear_refs"), "5").unwrap();
        let mut memory = Self { proc, before: 0 };
        memory.before = memory.read("VmRSS:");
        memory
    }

    fn read(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(self.proc.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.unwrap().split_whitespace().next().unwrap();
        kib.parse::<usize>().unwrap() * 1024
    }

    fn stayed_small(&self) {
        let most = self.read("VmHWM:");
        assert!(
            most < self.before + MORE,
            "the engine had {} KiB, and {} before",
            most / 1024,
            self.before / 1024
        );
    }
}

/// Waits until the process writes no more although it is not at its end: it is held up.
fn wait_held(machine: &Machine, pid: &Value) {
    let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
    let io = machine.root_of(pid).with_file_name("io");
    let written = || {
        let text = std::fs::read_to_string(&io).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
        line.map_or(OUTPUT, |count| count.parse::<usize>().unwrap())
    };
    let limit = Instant::now() + LIMIT;
    let mut same = (0, 0);
    while same.1 < 20 {
        assert!(Instant::now() < limit, "it goes on for ever");
        std::thread::sleep(Duration::from_millis(10));
        let now = written();
        same = if now == same.0 && now > 0 {
            (now, same.1 + 1)
        } else {
            (now, 0)
        };
    }
    assert!(same.0 < OUTPUT / 10, "{} bytes went somewhere", same.0);
}

/// How much comes until the end, without frames: with them, how many bytes they hold.
fn payload_of(mut stream: impl Read) -> usize {
    let mut total = 0;
    let mut head = [0; 8];
    let mut bytes = vec![0; 1 << 20];
    while stream.read_exact(&mut head).is_ok() {
        let mut left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        total += left;
        while left > 0 {
            let part = left.min(bytes.len());
            stream.read_exact(&mut bytes[..part]).unwrap();
            left -= part;
        }
    }
    total
}

fn silent_log(script: &str) -> Value {
    let mut body = container(script);
    body["HostConfig"]["LogConfig"] = json!({ "Type": "none" });
    body
}

#[test]
fn a_client_that_does_not_read_holds_the_container_up_and_costs_no_memory() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    create(&machine, "fast", &silent_log(WRITE));
    let slow = attach(&machine, "fast", "stream=1&stdout=1");
    let memory = Memory::of(&machine);
    post(&machine, "/containers/fast/start").is(204);
    wait_held(&machine, &state(&machine, "fast")["Pid"]);
    memory.stayed_small();
    // Once it reads, it gets everything.
    assert_eq!(payload_of(slow), OUTPUT);
    assert_eq!(wait(&machine, "fast"), 0);
    memory.stayed_small();
}

/// A client that stands still for good holds up its own container, as it does with dockerd, and nobody
/// else: not the other clients of the engine, not what is asked of that container, not its end. Once it
/// has gone the container goes on.
#[test]
fn a_client_that_stands_still_holds_up_its_own_container_and_nothing_else() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let held = |name: &str| {
        create(&machine, name, &silent_log(WRITE));
        let still = attach(&machine, name, "stream=1&stdout=1");
        post(&machine, &format!("/containers/{name}/start")).is(204);
        wait_held(&machine, &state(&machine, name)["Pid"]);
        still
    };
    let (one, two) = (held("one"), held("two"));
    // A second client of a container that is held up may come, ask and go.
    drop(attach(&machine, "one", "stream=1&stdout=1&stderr=1"));
    create(&machine, "free", &silent_log(WRITE));
    let free = attach(&machine, "free", "stream=1&stdout=1");
    post(&machine, "/containers/free/start").is(204);
    assert_eq!(payload_of(free), OUTPUT);
    assert_eq!(wait(&machine, "free"), 0);
    get(&machine, "/containers/one/top").is(200);
    let exec = json!({ "AttachStdout": true, "Cmd": [crate::api::BUSYBOX, "true"] });
    let made = call(&machine, "POST", "/containers/one/exec", &exec).is(201);
    let id = made.json()["Id"].as_str().unwrap().to_owned();
    let start = json!({ "Detach": true });
    call(&machine, "POST", &format!("/exec/{id}/start"), &start).is(200);
    post(&machine, "/containers/one/kill").is(204);
    assert_eq!(wait(&machine, "one"), 137);
    drop(two);
    assert_eq!(wait(&machine, "two"), 0);
    drop(one);
}

#[test]
fn the_client_of_an_exec_that_does_not_read_holds_it_up_and_costs_no_memory() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    run(&machine, "host", &silent_log("sleep 1000"));
    let exec = json!({ "AttachStdout": true, "Cmd": [crate::api::BUSYBOX, "sh", "-c", WRITE] });
    let made = call(&machine, "POST", "/containers/host/exec", &exec).is(201);
    let id = made.json()["Id"].as_str().unwrap().to_owned();
    let memory = Memory::of(&machine);
    let mut slow = begin(&machine, &format!("POST /v1.51/exec/{id}/start"), "{}");
    let limit = Instant::now() + LIMIT;
    let pid = loop {
        let pid = get(&machine, &format!("/exec/{id}/json")).json()["Pid"].take();
        if pid != 0 {
            break pid;
        }
        assert!(Instant::now() < limit, "it does not begin");
    };
    wait_held(&machine, &pid);
    memory.stayed_small();
    after_head(&mut slow);
    assert_eq!(payload_of(slow), OUTPUT);
    memory.stayed_small();
}

/// Sends a request whose answer is to be read later.
fn begin(machine: &Machine, line: &str, body: &str) -> UnixStream {
    let mut stream = machine.connect("api.sock");
    let head = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // What the server waits for before it sends output: that the head was read.
    stream
}

fn after_head(stream: &mut UnixStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

#[test]
fn a_follower_of_a_log_that_does_not_read_costs_neither_memory_nor_the_container_time() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let script = "yes 0123456789012345678901234567890123456789 | head -c 209715200";
    let mut fast = container(script);
    fast["HostConfig"]["LogConfig"] =
        json!({ "Type": "local", "Config": { "max-size": "20m", "compress": "false" } });
    create(&machine, "fast", &fast);
    let path = "GET /v1.51/containers/fast/logs?stdout=1&follow=1";
    let memory = Memory::of(&machine);
    post(&machine, "/containers/fast/start").is(204);
    let mut slow = begin(&machine, path, "");
    assert_eq!(wait(&machine, "fast"), 0);
    memory.stayed_small();
    // What is still there of the log, it gets, and then the end.
    slow.set_read_timeout(Some(LIMIT)).unwrap();
    let mut rest = Vec::new();
    let mut bytes = vec![0; 1 << 20];
    while !rest.ends_with(b"\r\n0\r\n\r\n") {
        let count = slow.read(&mut bytes).unwrap();
        assert!(count > 0, "the log is cut off");
        rest = [&rest[rest.len().saturating_sub(16)..], &bytes[..count]].concat();
    }
    memory.stayed_small();
}

fn non_blocking(script: &str, size: &str) -> Value {
    let mut body = container(script);
    body["HostConfig"]["LogConfig"] = json!({
        "Type": "json-file", "Config": { "mode": "non-blocking", "max-buffer-size": size },
    });
    body
}

#[test]
fn a_container_does_not_wait_for_its_log_if_it_was_asked_not_to() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let script = "i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); done; exit 7";
    create(&machine, "quick", &non_blocking(script, "64k"));
    let path = log_of(&dir, &machine, "quick");
    // A log that stands still: nobody reads what is written to it.
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
    let mut options = OpenOptions::new();
    let mut log = options.read(true).write(true).open(&path).unwrap();
    let memory = Memory::of(&machine);
    post(&machine, "/containers/quick/start").is(204);
    let limit = Instant::now() + LIMIT;
    while state(&machine, "quick")["Pid"] != 0 {
        assert!(Instant::now() < limit, "the container waits");
        std::thread::yield_now();
    }
    memory.stayed_small();
    // What waits is still written, before the log counts as closed.
    let read = std::thread::spawn(move || read_fifo(&mut log));
    assert_eq!(wait(&machine, "quick"), 7);
    std::fs::write(&path, "end\n").unwrap();
    let text = read.join().unwrap();
    let numbers: Vec<usize> = text.lines().map(number_of).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "a line is there twice");
    assert!(
        numbers.len() > 500 && numbers.len() < 100_000,
        "{}",
        numbers.len()
    );
    assert!(
        numbers[..500].iter().copied().eq(0..500),
        "the first are kept"
    );
}

/// Where a container's log is, as this system sees it.
fn log_of(dir: &TempDir, machine: &Machine, name: &str) -> PathBuf {
    let shown = get(machine, &format!("/containers/{name}/json")).json();
    let id = shown["Id"].as_str().unwrap();
    dir.path()
        .join(format!("data/containers/{id}/{id}-json.log"))
}

fn read_fifo(log: &mut File) -> String {
    let mut text = Vec::new();
    let mut bytes = vec![0; 1 << 16];
    while !text.ends_with(b"end\n") {
        let count = log.read(&mut bytes).unwrap();
        text.extend_from_slice(&bytes[..count]);
    }
    text.truncate(text.len() - 4);
    String::from_utf8(text).unwrap()
}

/// The number of a whole entry.
fn number_of(entry: &str) -> usize {
    let entry: Value = serde_json::from_str(entry).expect("an entry is torn");
    let line = entry["log"].as_str().unwrap();
    let number = line.strip_prefix("line ").unwrap().strip_suffix('\n');
    number.unwrap().parse().unwrap()
}

#[test]
fn a_log_that_is_not_waited_for_is_whole_where_it_is_fast_and_has_no_line_twice() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let all = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; printf end";
    run(&machine, "whole", &non_blocking(all, "4m"));
    assert_eq!(wait(&machine, "whole"), 0);
    let text = String::from_utf8(logs(&machine, "whole")).unwrap();
    let wanted: String = (0..3000).map(|number| format!("line {number}\n")).collect();
    assert!(text == wanted + "end", "{}", text.len());

    let script = "i=0; while [ ! -e /stop ]; do echo line $i; i=$((i+1)); usleep 300; done";
    run(&machine, "killed", &non_blocking(script, "1m"));
    let path = log_of(&dir, &machine, "killed");
    for _ in 0..15 {
        machine.kill_agent();
        get(&machine, "/_ping").is(200);
        let written = || std::fs::metadata(&path).unwrap().len();
        let (before, limit) = (written(), Instant::now() + LIMIT);
        while written() < before + 2000 {
            assert!(Instant::now() < limit, "the log does not grow");
            std::thread::yield_now();
        }
    }
    post(&machine, "/containers/killed/kill").is(204);
    wait(&machine, "killed");
    let text = std::fs::read_to_string(&path).unwrap();
    let numbers: Vec<usize> = text.lines().map(number_of).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "a line is there twice");
    assert!(numbers.len() > 100);
}
