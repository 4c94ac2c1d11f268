//! How many there may be: containers, and clients that wait.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{call, container, get, post, run, started};
use crate::containers::count;
use crate::footprint::Footprint;
use crate::machine::{LIMIT, Machine};

/// Clients at a time that make and end containers.
const HANDS: usize = 16;

/// Threads that come with work and go without: more of them than this would be one for each of something.
const SPARE_THREADS: usize = 4;

#[test]
fn many_containers_are_listed_and_end_without_a_thread_each() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let many = count(40, 1_000);
    let names: Vec<String> = (0..many).map(|number| format!("c{number}")).collect();
    run(&machine, "first", &container("exec sleep 100000"));
    call(
        &machine,
        "DELETE",
        "/containers/first?force=1",
        &Value::Null,
    )
    .is(204);
    let before = Footprint::of(&machine);
    let threads = settled_threads(&machine, 0);

    by_many_hands(&names, |name| {
        run(&machine, name, &container("exec sleep 100000"));
    });
    let listed = |path: &str, state: &str| -> BTreeSet<String> {
        let all = get(&machine, path).is(200).json();
        let all = all.as_array().unwrap();
        assert!(all.iter().all(|one| one["State"] == state), "{state}");
        let name = |one: &Value| one["Names"][0].as_str().unwrap()[1..].to_owned();
        all.iter().map(name).collect()
    };
    let wanted: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(listed("/containers/json", "running"), wanted);
    let info = get(&machine, "/info").is(200).json();
    assert_eq!(info["ContainersRunning"], json!(many));
    // Threads that work brought end some seconds after it.
    settled_threads(&machine, threads + SPARE_THREADS);

    by_many_hands(&names, |name| {
        post(&machine, &format!("/containers/{name}/stop?t=0")).is(204);
    });
    assert_eq!(listed("/containers/json?all=1", "exited"), wanted);
    by_many_hands(&names, |name| {
        call(
            &machine,
            "DELETE",
            &format!("/containers/{name}"),
            &Value::Null,
        )
        .is(204);
    });
    assert_eq!(get(&machine, "/containers/json?all=1").json(), json!([]));
    before.is_all_that_is_left(&machine);
    machine.nothing_left();
}

/// Waits until the engine has no more threads than `most`, or (with 0) until their number stays.
fn settled_threads(machine: &Machine, most: usize) -> usize {
    let limit = Instant::now() + LIMIT;
    let (mut last, mut since) = (machine.agent_threads(), Instant::now());
    loop {
        let now = machine.agent_threads();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        // The runtime keeps an idle thread for ten seconds.
        let stays = most == 0 && since.elapsed() > Duration::from_secs(11);
        if stays || (most > 0 && now <= most) {
            return now;
        }
        assert!(
            Instant::now() < limit,
            "{now} threads, at most {most} were to be left"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn by_many_hands(names: &[String], work: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for part in names.chunks(names.len().div_ceil(HANDS)) {
            let work = &work;
            scope.spawn(move || part.iter().for_each(|name| work(name)));
        }
    });
}

/// As many connections as the API serves on one listener: see its `serve`.
const CONNECTIONS: usize = 16_384;

/// More bytes than this are those of a request, which an idle client has not made.
const MEMORY_EACH: usize = 6 << 10;

/// Sends a request on a connection that stays open: the status line of its answer.
fn ask(stream: &mut UnixStream) -> String {
    stream
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status).unwrap();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    let mut body = [0; 2];
    reader.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"OK");
    status
}

#[test]
fn clients_that_wait_cost_a_descriptor_each_and_one_too_many_is_told_so() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    // Kept: its descriptor is among those before.
    let _host = machine.greeted();
    // Each is a descriptor here too.
    if !raise_descriptor_limit() {
        eprintln!("skipped: this system allows too few descriptors");
        return;
    }
    let before = machine.agent_descriptors();
    let memory = machine.agent_memory();
    let connect = || {
        let stream = machine.connect("api.sock");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    };
    let mut idle: Vec<UnixStream> = (0..CONNECTIONS).map(|_| connect()).collect();
    for stream in idle.iter_mut().step_by(100) {
        assert_eq!(ask(stream), "HTTP/1.1 200 OK\r\n");
    }
    let limit = Instant::now() + LIMIT;
    while machine.agent_descriptors() < CONNECTIONS {
        assert!(Instant::now() < limit, "they are not let in");
        std::thread::yield_now();
    }
    assert!(machine.agent_descriptors() <= before + CONNECTIONS);
    let each = machine.agent_memory().saturating_sub(memory) / CONNECTIONS;
    assert!(each <= MEMORY_EACH, "an idle client costs {each} bytes");

    let refused = crate::machine::answer_to_ping(connect());
    assert!(
        refused.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{refused}"
    );
    assert!(refused.contains("too many connections"), "{refused}");
    // The other listener has places of its own.
    assert_eq!(machine.ping("docker.sock"), "HTTP/1.1 200 OK");
    // Who is in is served on, and a place that comes free is given away.
    assert_eq!(ask(&mut idle[0]), "HTTP/1.1 200 OK\r\n");
    drop(idle.split_off(CONNECTIONS - 1));
    while machine.ping("api.sock") != "HTTP/1.1 200 OK" {
        assert!(Instant::now() < limit, "no place comes free");
    }
    drop(idle);
    while machine.agent_descriptors() > before {
        assert!(Instant::now() < limit, "connections are not closed");
        std::thread::yield_now();
    }
}

/// As many descriptors as this system allows; false if those are too few.
fn raise_descriptor_limit() -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let wanted = CONNECTIONS as u64 + 1_000;
    limit.maximum.is_none_or(|maximum| maximum >= wanted)
}
