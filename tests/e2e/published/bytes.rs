//! Bytes through a published port, and out of a container: all of them, whoever stalls.

use std::cell::OnceCell;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;

use lighter_tests::{env, until};
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
    let words = [
        "run", "-d", "--name", "echo", "-p", "8484:80", "busybox", "sh", "-c", ECHO,
    ];
    places.host.docker(&words).ok();
    let mut stream = connect(places);
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("there");
    there_and_back(stream);
    places.host.docker(&["rm", "-f", "echo"]).ok();
}

/// The other way round: the container comes, and what it is told comes back.
#[test]
fn what_a_container_fetches_and_sends_is_the_same_byte_for_byte_whoever_stalls() {
    let name = "what_a_container_fetches_and_sends_is_the_same_byte_for_byte_whoever_stalls";
    let Some(places) = Places::shared(name) else {
        return;
    };
    let server = listener(places);
    let port = server.local_addr().expect("bound").port().to_string();
    let fetch = ["run", "-d", "--name", "fetches", "busybox", "nc"];
    let words = [&fetch[..], &["198.19.79.254", &port, "-e", "cat"]].concat();
    places.host.docker(&words).ok();
    let (stream, _) = server.accept().expect("a connection");
    there_and_back(stream);
    places.host.docker(&["rm", "-f", "fetches"]).ok();
}

/// On the loopback of the host, where containers find it.
fn listener(places: &Places) -> TcpListener {
    places.at(Who::Own, || {
        TcpListener::bind("127.0.0.1:0").expect("a port")
    })
}

/// Sends blocks to whoever sends them back, and stalls before it reads them.
fn there_and_back(mut stream: TcpStream) {
    let blocks: u64 = env::count(1_024, 160 << 10);
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
}
