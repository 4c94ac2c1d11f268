//! Streams that are broken off: a client of TCP is reset, and a reset is no ordinary end to the guest.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt;

use super::super::packet::{Header, op, shut};
use super::driver::{Driver, packet};

fn shutdown(host: u32, flags: u32) -> Header {
    Header {
        flags,
        ..packet(op::SHUTDOWN, host, 7)
    }
}

/// What a client reads, and how that ends.
fn read(mut client: &TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    client
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut bytes = Vec::new();
    let end = client.read_to_end(&mut bytes);
    (bytes, end.map_err(|error| error.kind()).err())
}

#[test]
fn a_guest_that_leaves_without_an_end_resets_a_client_of_tcp() {
    for last in [
        shutdown(0, shut::BOTH),
        packet(op::RST, 0, 7),
        packet(op::REQUEST, 0, 7),
    ] {
        let mut driver = Driver::new();
        let (client, host) = driver.open_tcp(7);
        driver.send(packet(op::RW, host, 7), b"half an answer");
        driver.send(
            Header {
                dst_port: host,
                ..last
            },
            &[],
        );
        let expected = (b"half an answer".to_vec(), Some(ErrorKind::ConnectionReset));
        assert_eq!(read(&client), expected);
        assert_eq!(driver.device.streams(), 0);
    }
    let mut driver = Driver::new();
    let (client, _) = driver.open_tcp(7);
    driver.device.forget_guest();
    assert_eq!(read(&client).1, Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_guest_that_ended_its_bytes_and_then_leaves_resets_nobody() {
    let mut driver = Driver::new();
    let (mut client, host) = driver.open_tcp(7);
    // Nobody reads this either.
    client.write_all(b"question").unwrap();
    driver.send(packet(op::RW, host, 7), b"answer");
    driver.send(shutdown(host, shut::SEND), &[]);
    driver.send(shutdown(host, shut::BOTH), &[]);
    assert_eq!(read(&client), (b"answer".to_vec(), None));
}

/// A client that is behind gets all that was said, and no reset that would take it away.
#[test]
fn what_was_said_before_is_not_lost_to_a_client_that_is_behind() {
    let mut driver = Driver::new();
    let (client, host) = driver.open_tcp(7);
    // So that the most of it stays in the host's own buffer.
    sockopt::set_socket_recv_buffer_size(&client, 64 << 10).unwrap();
    let said = 1_000_000;
    for _ in 0..said / 4_000 {
        driver.send(packet(op::RW, host, 7), &[b'z'; 4_000]);
        driver.exchange();
    }
    driver.send(shutdown(host, shut::BOTH), &[]);
    let reads = std::thread::spawn(move || read(&client));
    while !reads.is_finished() {
        driver.turn();
    }
    let (bytes, _) = reads.join().unwrap();
    assert_eq!(bytes.len(), said);
}

#[test]
fn a_client_that_resets_is_told_otherwise_than_one_that_ended() {
    let told = |reset: bool| {
        let mut driver = Driver::new();
        let (mut client, host) = driver.open_tcp(7);
        client.write_all(b"half a question").unwrap();
        if reset {
            sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        let (mut bytes, mut flags) = (Vec::new(), 0);
        while flags & shut::SEND == 0 {
            for (header, payload) in driver.exchange() {
                assert_eq!(header.src_port, host);
                flags |= header.flags;
                bytes.extend(payload);
            }
        }
        assert_eq!(bytes, b"half a question");
        flags
    };
    assert_eq!(told(false), shut::SEND);
    assert_eq!(told(true), shut::BOTH);
}
