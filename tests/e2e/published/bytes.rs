//! Bytes through a published port: all of them, whoever stalls, and however many come.

use std::cell::OnceCell;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;

use lighter_tests::{Host, env, until};
use sha2::{Digest as _, Sha256};

use super::places::{HOST, Places, Who};

/// Reads to the end; how much that was and its sum.
fn sum(mut from: impl Read) -> (u64, String) {
    let (mut sum, mut count) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer).expect("readable") {
            0 => return (count, hex::encode(sum.finalize())),
            length => {
                sum.update(&buffer[..length]);
                count += length as u64;
            }
        }
    }
}

/// Bytes that repeat nowhere near.
fn block(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..(64 << 10) / 8).flat_map(next).collect()
}

fn connect(places: &Places) -> TcpStream {
    let found = OnceCell::new();
    until("a server", || {
        let Ok(stream) = places.connect(Who::Neighbour, (HOST, 8484)) else {
            return false;
        };
        // A server that is not there yet is seen by its silence.
        let there = stream.peek(&mut [0]).is_ok_and(|count| count == 1);
        there && found.set(stream).is_ok()
    });
    found.into_inner().expect("connected")
}

/// Whatever is sent comes back; the first byte says that the server is there.
const ECHO: &str = "while :; do nc -l -p 80 -e sh -c 'printf .; exec cat'; done";

#[test]
fn what_goes_through_a_port_is_the_same_byte_for_byte_whoever_stalls() {
    let name = "what_goes_through_a_port_is_the_same_byte_for_byte_whoever_stalls";
    let Some(places) = Places::shared(name) else {
        return;
    };
    let blocks: u64 = env::count(1_024, 160 << 10);
    let words = [
        "run", "-d", "--name", "echo", "-p", "8484:80", "busybox", "sh", "-c", ECHO,
    ];
    places.host.docker(&words).ok();
    let mut stream = connect(places);
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("there");
    let writer = stream.try_clone().expect("a descriptor");
    let (full, is_full) = mpsc::channel();
    let sent = std::thread::spawn(move || {
        let mut writer = writer;
        let mut sum = Sha256::new();
        for number in 0..blocks {
            let block = block(number);
            sum.update(&block);
            writer.write_all(&block).expect("sent");
            if number == blocks / 4 {
                // By now every buffer on the way is full, and nobody reads.
                full.send(()).expect("waited for");
            }
        }
        writer.shutdown(Shutdown::Write).expect("told");
        hex::encode(sum.finalize())
    });
    // Nothing is read until the sender has come as far as it can: a reader that stalls.
    let stalls = std::time::Duration::from_secs(env::count(1_u64, 30));
    let _ = is_full.recv_timeout(stalls);
    let (count, received) = sum(&mut stream);
    assert_eq!(count, blocks * (64 << 10));
    assert_eq!(received, sent.join().expect("sent"));
    places.host.docker(&["rm", "-f", "echo"]).ok();
}

fn descriptors(host: &Host, what: &str) -> usize {
    let count = |pid: &i32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    host.processes(what).iter().map(count).sum()
}

#[test]
fn short_connections_leave_nothing_behind() {
    let Some(places) = Places::shared("short_connections_leave_nothing_behind") else {
        return;
    };
    let connections: usize = env::count(300, 50_000);
    places.serve("short", &["-p", "8585:80"]);
    places.seen(Who::Neighbour, (HOST, 8585));
    let held = || {
        let of = |what| descriptors(&places.host, what);
        (of("lighter daemon"), of("lighter machine"))
    };
    let before = held();
    for _ in 0..connections {
        assert!(places.asked(Who::Neighbour, (HOST, 8585)).is_some());
    }
    // What is closed in the guest is closed on the host a little later.
    until("descriptors are closed", || {
        let (daemon, machine) = held();
        daemon <= before.0 + 4 && machine <= before.1 + 4
    });
    places.host.docker(&["rm", "-f", "short"]).ok();
}
