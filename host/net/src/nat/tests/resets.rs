//! Connections that one side resets: what it said before reaches the other.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::guest::World;
use super::streams::{V4, connected, listener};

/// More than a connection's ring holds at first, and less than the kernel's buffers do.
const ANSWER: usize = 30_000;

/// Ends a connection by a reset.
fn reset(host: TcpStream) {
    socket2::SockRef::from(&host)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(host);
}

/// Reads as the guest until the connection is over; how much came, and that it ended by a reset.
fn read_to_the_reset(world: &mut World, handle: SocketHandle) -> usize {
    let mut read = 0;
    world.until("the reset", |world| {
        let socket = world.tcp(handle);
        if socket.can_recv() {
            read += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        assert_ne!(socket.state(), State::CloseWait, "it is an end like any");
        socket.state() == State::Closed && !socket.can_recv()
    });
    assert_eq!(world.nat.counts().tcp, 0);
    read
}

#[test]
fn a_reset_is_passed_on_both_ways() {
    let mut world = World::new();
    let (handle, host) = connected(&mut world, false, 10_000);
    socket2::SockRef::from(&host)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(host);
    world.until("the guest's end", |world| {
        world.tcp(handle).state() == State::Closed
    });
    let (handle, mut host) = connected(&mut world, false, 10_000);
    world.tcp(handle).abort();
    world.until("the host's end", |_| {
        let read = host.read(&mut [0; 16]);
        read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    });
    assert_eq!(world.nat.counts().tcp, 0);
}

/// A server that answers without reading all it was sent closes so.
#[test]
fn an_answer_that_a_reset_follows_at_once_is_read_before_it() {
    let mut world = World::new();
    let (handle, mut host) = connected(&mut world, false, 200_000);
    world.tcp(handle).send_slice(b"?").unwrap();
    world.until("the question", |_| host.peek(&mut [0]).is_ok());
    host.write_all(&[7; ANSWER]).unwrap();
    drop(host);
    assert_eq!(read_to_the_reset(&mut world, handle), ANSWER);
}

#[test]
fn so_is_an_answer_to_what_did_not_reach_the_host_whole() {
    let mut world = World::new();
    let (handle, mut host) = connected(&mut world, false, 100_000);
    let mut quiet = 0;
    while quiet < 500 {
        let count = world.tcp(handle).send_slice(&[9; 50_000]).unwrap();
        quiet = if count == 0 { quiet + 1 } else { 0 };
        world.step(Duration::from_millis(5));
    }
    host.write_all(&[7; ANSWER]).unwrap();
    drop(host);
    assert_eq!(read_to_the_reset(&mut world, handle), ANSWER);
}

#[test]
fn so_is_an_answer_that_waits_for_the_guest_to_read() {
    let mut world = World::new();
    let (handle, mut host) = connected(&mut world, false, 5_000);
    host.write_all(&[7; ANSWER]).unwrap();
    for _ in 0..10 {
        world.step(Duration::from_secs(1));
    }
    reset(host);
    for _ in 0..100 {
        world.step(Duration::from_secs(1));
    }
    assert_eq!(read_to_the_reset(&mut world, handle), ANSWER);
}

#[test]
fn so_is_what_a_host_says_that_is_gone_before_the_guest_knows_of_the_connection() {
    let mut world = World::new();
    // The guest knows its neighbour from now on.
    drop(connected(&mut world, false, 1_000));
    let (listener, port) = listener(false);
    let handle = world.connect((V4, port), 200_000);
    world.speak(Duration::ZERO);
    let (mut host, _) = listener.accept().unwrap();
    host.write_all(b"too many").unwrap();
    reset(host);
    let mut read = Vec::new();
    world.until("the reset", |world| {
        let socket = world.tcp(handle);
        if socket.can_recv() {
            let taken = |bytes: &mut [u8]| (bytes.len(), read.extend_from_slice(bytes));
            socket.recv(taken).unwrap();
        }
        socket.state() == State::Closed && !socket.can_recv()
    });
    assert_eq!(read, b"too many");
}

/// Whoever writes all it has before it reads gets to that.
#[test]
fn a_guest_that_goes_on_writing_after_the_reset_is_not_held_up() {
    let mut world = World::new();
    let (handle, mut host) = connected(&mut world, false, 5_000);
    host.write_all(&[7; ANSWER]).unwrap();
    world.step(Duration::from_millis(1));
    reset(host);
    let mut left: usize = 1 << 20;
    world.until("everything written", |world| {
        let block = [9; 5_000];
        left -= world
            .tcp(handle)
            .send_slice(&block[..left.min(block.len())])
            .unwrap();
        left == 0
    });
    assert_eq!(read_to_the_reset(&mut world, handle), ANSWER);
}

#[test]
fn what_a_host_left_that_is_gone_is_not_kept_for_ever_for_a_guest_that_does_not_read() {
    let mut world = World::new();
    let (_, mut host) = connected(&mut world, false, 5_000);
    host.write_all(&[7; ANSWER]).unwrap();
    world.step(Duration::from_millis(1));
    reset(host);
    let mut seconds = 0;
    while world.nat.counts().tcp > 0 {
        world.step(Duration::from_secs(1));
        seconds += 1;
        assert!(seconds < 15 * 60, "it is kept for ever");
    }
    assert!(seconds > 4 * 60, "{seconds} s are too few");
}
