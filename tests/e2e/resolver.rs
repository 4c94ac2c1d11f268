//! The host asks for names elsewhere, as it does when a VPN or another network comes: containers follow.
//!
//! Two namespaces play the host: one with a loopback only, on which the servers for names are, and one of mounts
//! with a resolv.conf(5) of its own.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lighter_tests::Host;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const START: &str = "set -e; mount --make-rprivate /; ip link set lo up; \
                     mount --bind \"$1\" /etc/resolv.conf; exec \"$2\" up";

/// A server in the network namespace of a process that answers every question with 10.0.0.`number`.
fn serve(process: i32, number: u8) {
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let namespace = File::open(format!("/proc/{process}/ns/net")).expect("a namespace");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("entered");
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, number), 53)).expect("port 53");
        ready.send(()).expect("waited for");
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // It ends with the test's process; whoever asked may have gone.
            let _ = socket.send_to(&answer(&buffer[..length], number), from);
        }
    });
    is_ready.recv().expect("the server has begun");
}

/// RFC 1035, section 4.1: the question, and an address if one was asked for.
fn answer(question: &[u8], number: u8) -> Vec<u8> {
    const ADDRESS: [u8; 4] = [0, 1, 0, 1];
    let mut answer = question.to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    if question.ends_with(&ADDRESS) {
        answer[7] = 1;
        // The name of byte 12; an address of the internet, for no time, four bytes long.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 0, 0, number]);
    }
    answer
}

fn names(file: &Path, number: u8) {
    std::fs::write(file, format!("nameserver 127.0.0.{number}\n")).expect("written");
}

#[test]
fn containers_ask_where_the_host_asks_now() {
    let Some(host) = Host::new() else { return };
    let file = host.home().join("resolv.conf");
    names(&file, 1);
    let lighter = host.lighter_command();
    let mut up = Command::new("unshare");
    up.args(["--mount", "--net", "sh", "-c", START, "sh"])
        .arg(&file)
        .arg(lighter.get_program());
    for (name, value) in lighter.get_envs() {
        match value {
            Some(value) => up.env(name, value),
            None => up.env_remove(name),
        };
    }
    let up = up.output().expect("started");
    assert!(
        up.status.success(),
        "{}",
        String::from_utf8_lossy(&up.stderr)
    );
    let daemon = host.processes("daemon")[0];
    (1..=2).for_each(|number| serve(daemon, number));
    host.docker(&[
        "run",
        "-d",
        "--name",
        "asker",
        "lighter/hello",
        "sleep",
        "1000",
    ])
    .ok();
    let ask = || {
        host.docker(&["exec", "asker", "nslookup", "asked.test."])
            .out()
    };
    let first = ask();
    assert!(first.contains("10.0.0.1"), "{first}");
    names(&file, 2);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let now = ask();
        if now.contains("10.0.0.2") {
            break;
        }
        assert!(Instant::now() < until, "still asked of the old one: {now}");
    }
}
