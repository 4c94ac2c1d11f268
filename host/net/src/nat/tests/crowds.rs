//! Tables that are full, and who has what of them then. The limits are small: a test has few descriptors.

use std::io::{ErrorKind, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lighter_protocol::link;
use smoltcp::socket::tcp::State;

use super::super::Limits;
use super::datagrams::echo;
use super::guest::World;
use super::hostile::{self, begin, sent_by};
use super::streams::{connected, listener};

const SMALL: Limits = Limits {
    tcp: 60,
    connecting: 20,
    udp: 20,
    questions: 20,
    icmp: 20,
};
const GREEDY: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 2);
const MODEST: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 3);

const TCP_FLAGS: usize = 47;
const RESET: u8 = 4;

/// Whether the guest is told that a connection is refused, or over.
fn is_reset(frame: &[u8]) -> bool {
    frame[23] == 6 && frame[TCP_FLAGS] & RESET != 0
}

#[test]
fn a_scan_of_ports_costs_so_much_and_no_more() {
    let mut world = World::with(SMALL);
    let (_listener, port) = listener(false);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    for from in 0..3 * SMALL.connecting {
        let answers = world.frame(&begin(40_000 + from as u16, to));
        // Of what the host's sockets have nothing is heard meanwhile.
        assert_eq!(answers.len(), usize::from(from >= SMALL.connecting));
        assert!(answers.iter().all(|frame| is_reset(frame)));
    }
    assert_eq!(world.nat.counts().tcp, SMALL.connecting);
}

#[test]
fn one_that_scans_ports_leaves_others_their_connections() {
    let mut world = World::with(SMALL);
    let (_listener, port) = listener(false);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    for from in 0..SMALL.connecting {
        world.frame(&sent_by(GREEDY, begin(40_000 + from as u16, to)));
    }
    let half = SMALL.connecting / 2;
    for from in 0..half {
        let answers = world.frame(&sent_by(MODEST, begin(40_000 + from as u16, to)));
        assert!(is_reset(&answers[0]), "of the first of the other's");
        assert_eq!(answers[0][30..34], GREEDY.octets());
        assert_eq!(answers[0][36..38], (40_000 + from as u16).to_be_bytes());
    }
    // Both have the same now.
    let answers = world.frame(&sent_by(MODEST, begin(50_000, to)));
    assert_eq!(answers[0][30..34], MODEST.octets());
    assert!(is_reset(&answers[0]));
    assert_eq!(world.nat.counts().tcp, SMALL.connecting);
}

#[test]
fn the_connection_that_was_silent_for_longest_ends_for_one_who_has_none() {
    let mut world = World::with(SMALL);
    let mut held = Vec::new();
    for _ in 0..SMALL.tcp {
        held.push(connected(&mut world, false, 1_000));
    }
    for (at, (handle, _)) in held.iter().enumerate() {
        if at != 7 {
            world.tcp(*handle).send_slice(b"x").unwrap();
        }
    }
    world.step(Duration::from_millis(1));
    let (_listener, port) = listener(false);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    world.nat_takes(&sent_by(MODEST, begin(40_000, to)));
    world.until("the end", |world| {
        world.tcp(held[7].0).state() == State::Closed
    });
    let read = held[7].1.read(&mut [0; 16]).unwrap_err();
    assert_eq!(read.kind(), ErrorKind::ConnectionReset);
    let open = |world: &mut World| {
        let is_open = |(handle, _): &&(_, _)| world.tcp(*handle).state() == State::Established;
        held.iter().filter(is_open).count()
    };
    assert_eq!(open(&mut world), SMALL.tcp - 1);
    // Whoever has most gets no more of them.
    let handle = world.connect((link::HOST_V4.into(), port), 1_000);
    world.until("a refusal", |world| {
        world.tcp(handle).state() == State::Closed
    });
    assert_eq!(open(&mut world), SMALL.tcp - 1);
}

#[test]
fn connections_that_are_over_count_no_more() {
    let mut world = World::with(SMALL);
    for _ in 0..2 * SMALL.tcp {
        let (handle, host) = connected(&mut world, false, 1_000);
        world.tcp(handle).close();
        drop(host);
        world.until("its end", |world| world.nat.counts().tcp == 0);
    }
}

/// A guest that takes no more frames is owed an answer for ever, and everybody behind it.
#[test]
fn connections_that_come_and_go_while_a_guest_has_no_room_are_not_kept() {
    let mut world = World::with(SMALL);
    let (handle, mut host) = connected(&mut world, false, 1_000);
    world.link.room = Some(0);
    world.tcp(handle).send_slice(b"x").unwrap();
    world.step(Duration::from_millis(1));
    assert_eq!(world.nat.tcp.lined_up(), 1);
    let (_listener, port) = listener(false);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    for from in 0..1_000 {
        let mut frame = begin(20_000 + from, to);
        world.nat_takes(&frame);
        world.nat_takes(&frame);
        frame[TCP_FLAGS] = RESET;
        world.nat_takes(&frame);
    }
    assert_eq!(world.nat.counts().tcp, 1);
    let lined_up = world.nat.tcp.lined_up();
    assert!(lined_up < 100, "{lined_up}");
    world.link.room = None;
    host.write_all(b"y").unwrap();
    world.until("what the host said", |world| world.tcp(handle).can_recv());
    assert_eq!(host.read(&mut [0; 16]).unwrap(), 1);
}

#[test]
fn datagrams_to_everywhere_cost_so_many_sockets_and_no_more() {
    let mut world = World::with(SMALL);
    let (_host, port) = echo(false);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    for from in 0..3 * SMALL.udp {
        let answers = world.frame(&hostile::datagram(1_024 + from as u16, to, b"x"));
        assert!(answers.is_empty(), "it is sent all the same");
    }
    assert_eq!(world.nat.counts().udp, SMALL.udp);
}

#[test]
fn one_that_sends_to_everywhere_leaves_others_their_sockets() {
    let mut world = World::with(SMALL);
    let (host, port) = echo(false);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    world.frame(&sent_by(MODEST, hostile::datagram(1_000, to, b"mine")));
    let mut buffer = [0; 16];
    let (_, from) = loop {
        if let Ok(found) = host.recv_from(&mut buffer) {
            break found;
        }
    };
    for port in 0..3 * SMALL.udp {
        world.speak(Duration::from_millis(1));
        let frame = hostile::datagram(1_024 + port as u16, to, b"x");
        world.frame(&sent_by(GREEDY, frame));
    }
    assert_eq!(world.nat.counts().udp, SMALL.udp);
    // It has waited for longest, and is there.
    host.send_to(b"yours", from).unwrap();
    world.until("the answer", |world| {
        let mut frames = world.link.to_guest.drain(..);
        frames.any(|frame| frame[30..34] == MODEST.octets() && frame.ends_with(b"yours"))
    });
}
