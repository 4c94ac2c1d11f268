//! Init and agent together, without a machine: hello, restart, refusal, end.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod again;
mod api;
mod containers;
mod default_network;
mod disk;
mod files;
mod footprint;
mod health;
mod incidents;
mod leaving;
mod links;
mod loads;
mod lost;
mod machine;
mod makes;
mod naming;
mod networks;
mod passing;
mod played;
mod ports;
mod scale;
mod shared;
mod sizes;
mod slow;
mod soak;
mod steps;
mod tracer;
mod users;
mod uses;
mod websocket;
mod wire;

use std::io::Write;
use std::time::Instant;

use lighter_protocol::{
    Bye, ByeOk, ByeReason, Message, RefusedCode, Shutdown, ShutdownReason, Status, encode_frame,
};
use machine::{LIMIT, Machine, answer_to_ping, hello, ping_on, secret};
use tempfile::tempdir;

#[test]
fn connections_made_before_the_hello_are_served_after_it() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    let early = [machine.connect("api.sock"), machine.connect("docker.sock")];
    let mut host = machine.control();
    let welcome = host.greet(hello()).unwrap();
    assert_eq!(welcome.version, lighter_protocol::VERSION);
    host.wait_ready();
    for stream in early {
        assert_eq!(ping_on(stream), "HTTP/1.1 200 OK");
    }
}

#[test]
fn only_the_secret_of_this_boot_is_welcome() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    let mut host = machine.greeted();
    let mut other = hello();
    other.secret = secret(8);
    let mut stranger = machine.control();
    assert_eq!(
        stranger.greet(other.clone()).unwrap_err().code,
        RefusedCode::Secret
    );
    assert_eq!(
        stranger.receive(),
        None,
        "the stream is closed after a refusal"
    );
    assert!(machine.control().greet(hello()).is_ok());

    // The next agent knows the secret as well.
    machine.kill_agent();
    assert_eq!(
        machine.control().greet(other).unwrap_err().code,
        RefusedCode::Secret
    );
    assert!(machine.control().greet(hello()).is_ok());
    assert_eq!(host.receive(), None, "the old agent's streams have ended");
}

#[test]
fn first_frame_must_be_a_hello_of_a_known_version() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    for (frame, code, words) in [
        (
            encode_frame(1, br#"{"version":99}"#),
            RefusedCode::Version,
            "speaks protocol 99",
        ),
        (
            encode_frame(1, b"{}"),
            RefusedCode::Malformed,
            "malformed `Hello`",
        ),
        (
            encode_frame(0x10, br#"{"seq":1}"#),
            RefusedCode::Malformed,
            "instead of a hello",
        ),
        (
            encode_frame(0xEE, b""),
            RefusedCode::Malformed,
            "unknown message type 0xee",
        ),
        (
            Ok(vec![0xff; 8]),
            RefusedCode::Malformed,
            "longer than the limit",
        ),
    ] {
        let mut host = machine.control();
        host.stream.write_all(&frame.unwrap()).unwrap();
        let Some(Message::Refused(refused)) = host.receive() else {
            panic!("{words}")
        };
        assert_eq!(refused.code, code);
        assert!(refused.message.contains(words), "{}", refused.message);
        assert_eq!(host.receive(), None);
    }
    machine.greeted();
}

#[test]
fn engine_serves_again_after_each_of_fifty_kills_without_a_hello() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    machine.greeted();
    for _ in 0..50 {
        machine.kill_agent();
        assert_eq!(machine.ping("docker.sock"), "HTTP/1.1 200 OK");
    }
    let mut host = machine.greeted();
    host.send(Status { seq: 3 });
    let Some(Message::StatusOk(status)) = host.receive() else {
        panic!()
    };
    assert_eq!((status.seq, status.agent_starts), (3, 51));
    assert!(status.memory_total_bytes > 0 && status.disk_total_bytes > 0);
}

#[test]
fn an_engine_that_cannot_be_opened_again_says_why_and_tries_again() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    machine.greeted();
    let (there, away) = (dir.path().join("lighter-enter"), dir.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    machine.kill_agent();
    let limit = Instant::now() + LIMIT;
    // An agent that makes way for the next one takes those with it who have just been let in.
    let refused = loop {
        let answer = answer_to_ping(machine.connect("docker.sock"));
        if !answer.is_empty() {
            break answer;
        }
        assert!(Instant::now() < limit, "nobody says why");
    };
    assert!(
        refused.starts_with("HTTP/1.1 503 Service Unavailable"),
        "{refused}"
    );
    assert!(refused.contains("the engine cannot be opened"), "{refused}");
    std::fs::rename(&away, &there).unwrap();
    while machine.ping("docker.sock") != "HTTP/1.1 200 OK" {
        assert!(Instant::now() < limit, "it is not tried again");
    }
}

#[test]
fn shutdown_says_bye_and_ends_everything() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    let mut host = machine.greeted();
    // A second host that was not the one to ask hears it too.
    let mut other = machine.greeted();
    host.send(Shutdown {
        timeout_ms: 10_000,
        reason: ShutdownReason::User,
    });
    host.send(Shutdown {
        timeout_ms: 10_000,
        reason: ShutdownReason::User,
    });
    let bye = Message::Bye(Bye {
        reason: ByeReason::Shutdown,
    });
    assert_eq!(host.receive(), Some(bye.clone()));
    assert_eq!(other.receive(), Some(bye));
    host.send(ByeOk {});
    assert_eq!(host.receive(), None, "said once");
    assert!(machine.wait_end());
}

#[test]
fn shutdown_is_finished_by_the_next_agent() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    let mut host = machine.greeted();
    let mut witness = machine.greeted();
    host.send(Shutdown {
        timeout_ms: 10_000,
        reason: ShutdownReason::User,
    });
    // The first bye shows that the shutdown is under way; nobody notes it before the kill.
    assert!(matches!(witness.receive(), Some(Message::Bye(_))));
    machine.kill_agent();
    let mut later = machine.control();
    later.greet(hello()).unwrap();
    assert!(matches!(later.receive(), Some(Message::Bye(_))));
    later.send(ByeOk {});
    assert!(machine.wait_end());
}

#[test]
fn engine_listens_nowhere_but_on_its_own_sockets() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    machine.greeted();
    let net = format!("/proc/{}/net", machine.agent_pid().unwrap());
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "packet"] {
        let Ok(text) = std::fs::read_to_string(format!("{net}/{table}")) else {
            continue;
        };
        assert_eq!(text.lines().count(), 1, "{table}: {text}");
    }
    // A name that begins with `@` is abstract: any container with the same network could use it.
    let unix = std::fs::read_to_string(format!("{net}/unix")).unwrap();
    let named: Vec<&str> = unix
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').nth(7))
        .collect();
    assert!(!named.iter().any(|name| name.starts_with('@')), "{unix}");
}

#[test]
fn disk_of_another_machine_is_refused_and_left_alone() {
    let dir = tempdir().unwrap();
    drop({
        let machine = Machine::start(dir.path());
        machine.greeted();
        machine
    });
    let machine = Machine::start(dir.path());
    let mut other = hello();
    other.boot.machine_id = "m2".into();
    let refused = machine.control().greet(other).unwrap_err();
    assert_eq!(refused.code, RefusedCode::WrongDisk);
    assert_eq!(
        refused.message,
        "the data disk belongs to machine m1, this is machine m2"
    );
    // A refused hello decides nothing: the right host may still come.
    let mut right = hello();
    right.secret = secret(9);
    let mut host = machine.control();
    host.greet(right).unwrap();
    host.wait_ready();
}
