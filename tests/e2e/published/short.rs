//! Many short connections through a published port, and out of a container: none of them leaves anything behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Instant;

use lighter_tests::{Host, env, probe, until};

use super::places::{HOST, Places, Who};

fn descriptors(host: &Host, what: &str) -> usize {
    let count = |pid: &i32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    host.processes(what).iter().map(count).sum()
}

/// The memory that a process has for itself, in KiB.
fn memory(host: &Host, what: &str) -> usize {
    let own = |pid: &i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let words = line.unwrap_or_default().trim().split(' ').next();
        words.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    host.processes(what).iter().map(own).sum()
}

/// Descriptors and KiB of the engine, as a container sees it that may.
fn engine(host: &Host) -> (usize, usize) {
    let script = "for p in /proc/[0-9]*; do if grep -q '^lighter-agent' $p/comm 2>/dev/null; then \
        ls $p/fd | wc -l; grep RssAnon $p/status; fi; done";
    let words = [
        "run",
        "--rm",
        "--privileged",
        "--pid",
        "host",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    let said = host.docker(&words).ok().out();
    let numbers = said.split_whitespace().filter_map(|word| word.parse().ok());
    let [descriptors, memory] = numbers.collect::<Vec<_>>()[..] else {
        panic!("{said}")
    };
    (descriptors, memory)
}

/// What host and machine may have more of after many connections than after a few, in KiB: what allocators keep.
const KEPT: usize = 16 << 10;

const PROCESSES: [&str; 3] = ["lighter daemon", "lighter machine", "lighter net"];

/// The program at both ends (`tests/wire/wire.rs`), built once where the host's own files are.
fn wire(host: &Host) -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = host.home().join("wire");
        probe::compile(Path::new(probe::WIRE), &program).expect("it compiles");
        program
    })
}

/// A container that runs it so, or waits where it is to run nothing yet.
fn container(places: &Places, name: &str, options: &[&str], runs: &[&str]) {
    let create = [&["create", "--name", name], options, &["busybox"], runs];
    places.host.docker(&create.concat()).ok();
    let (from, to) = (wire(&places.host), format!("{name}:/wire"));
    let from = from.to_str().expect("a name");
    places.host.docker(&["cp", from, &to]).ok();
    places.host.docker(&["start", name]).ok();
}

/// Connections that it says it made in a round.
fn made(said: &[u8]) -> usize {
    let said = String::from_utf8_lossy(said);
    let count = said.split_whitespace().next();
    count.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Connects again and again by rounds that say how many they made; no descriptors and no memory stay behind, on either side.
fn leaves_nothing(host: &Host, mut round: impl FnMut() -> usize) {
    let connections: usize = env::count(1_000, 50_000);
    let mut connect = |count: usize| {
        let (start, mut done) = (Instant::now(), 0);
        while done < count {
            let made = round();
            assert!(made > 0, "{done} connections were made, and no more");
            done += made;
        }
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        eprintln!("{done} connections, {:.0} a minute", done as f64 / minutes);
    };
    connect(connections / 10);
    let descriptors = || PROCESSES.map(|what| descriptors(host, what));
    let (held, of_engine) = (descriptors(), engine(host));
    let memory = || PROCESSES.map(|what| memory(host, what));
    let had = memory();
    connect(connections);
    // What is closed on one side is closed on the other a little later.
    until("descriptors are closed", || {
        let now = descriptors();
        now.iter().zip(held).all(|(now, held)| *now <= held + 4)
    });
    until("the engine's are closed", || {
        engine(host).0 <= of_engine.0 + 4
    });
    let (has, now) = (memory(), engine(host).1);
    let all = has.iter().zip(had).chain([(&now, of_engine.1)]);
    for (has, had) in all {
        assert!(*has <= had + KEPT, "{has} KiB, {had} KiB before");
    }
}

/// Seconds of a round, and how many connect at a time.
const ROUND: [&str; 2] = ["2", "4"];

#[test]
fn short_connections_leave_nothing_behind() {
    let Some(places) = Places::shared("short_connections_leave_nothing_behind") else {
        return;
    };
    container(
        places,
        "short",
        &["-p", "8585:80"],
        &["/wire", "serve", "80"],
    );
    let program = wire(&places.host);
    let round = |[seconds, hands]: [&'static str; 2]| {
        let mut command = Command::new(program);
        command.args(["connects", &format!("{HOST}:8585"), seconds, hands]);
        let done = places.at(Who::Neighbour, move || command.output());
        made(&done.expect("started").stdout)
    };
    until("the server", || round(["0.1", "1"]) > 0);
    leaves_nothing(&places.host, || round(ROUND));
    places.host.docker(&["rm", "-f", "short"]).ok();
}

/// A server of the host; it ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended by itself is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn short_connections_of_a_container_leave_nothing_behind() {
    let name = "short_connections_of_a_container_leave_nothing_behind";
    let Some(places) = Places::shared(name) else {
        return;
    };
    let mut serve = Command::new(wire(&places.host));
    serve.args(["serve", "9595"]);
    let server = places.at(Who::Own, move || serve.spawn());
    let _server = Server(server.expect("started"));
    container(places, "asks", &[], &["sleep", "1000000"]);
    let round = |[seconds, hands]: [&str; 2]| {
        let words = ["/wire", "connects", "198.19.79.254:9595", seconds, hands];
        let exec = [&["exec", "asks"], &words[..]].concat();
        made(places.host.docker(&exec).out().as_bytes())
    };
    until("the server", || round(["0.1", "1"]) > 0);
    leaves_nothing(&places.host, || round(ROUND));
    places.host.docker(&["rm", "-f", "asks"]).ok();
}
