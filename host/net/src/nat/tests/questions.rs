//! Questions for names that the gateway passes on.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use lighter_protocol::link;
use smoltcp::iface::SocketHandle;

use super::super::Limits;
use super::datagrams::echo;
use super::guest::World;
use super::hostile::{self, sent_by};
use super::streams::listener;

const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;
const NO_SUCH_NAME: u8 = 3;
/// What passes of the clock between two looks at who was asked or heard what.
const TICK: Duration = Duration::from_millis(10);
/// How long a container's name server at 127.0.0.11 waits for us.
const ENGINE: Duration = Duration::from_secs(4);
const GATEWAY: (Ipv4Addr, u16) = (link::GATEWAY_V4, 53);

/// A header with this number, and something to tell it by.
fn question(id: u8) -> Vec<u8> {
    let mut message = vec![0x12, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(b"\x04name\0\0\x01\0\x01");
    message
}

fn frame(id: u8) -> Vec<u8> {
    let gateway = SocketAddr::from(GATEWAY);
    hostile::datagram(5_000, gateway, &question(id))
}

fn servers<const COUNT: usize>(world: &mut World) -> [UdpSocket; COUNT] {
    let all = [(); COUNT].map(|()| echo(false).0);
    let addresses = all.iter().map(|server| server.local_addr().unwrap());
    world.nat.set_names(addresses.collect());
    all
}

/// Who asks the server `question(id)`; nobody if it was not asked.
fn asked(server: &UdpSocket, id: u8) -> Option<SocketAddr> {
    let mut buffer = [0; 512];
    let (length, from) = server.recv_from(&mut buffer).ok()?;
    assert_eq!(buffer[..length], question(id));
    Some(from)
}

fn answer(server: &UdpSocket, to: SocketAddr, id: u8, code: u8, content: &[u8]) {
    let mut message = question(id);
    (message[2], message[3]) = (0x81, 0x80 | code);
    // What the tests have it say stands for one answer.
    message[7] = u8::from(!content.is_empty());
    message.extend(content);
    server.send_to(&message, to).unwrap();
}

/// What the guest hears at last.
fn heard(world: &mut World) -> Vec<u8> {
    let mut heard = Vec::new();
    world.until("an answer", |world| {
        heard = world.link.to_guest.pop_front().unwrap_or_default();
        !heard.is_empty()
    });
    assert_eq!(world.nat.counts().udp, 0, "nothing is left of it");
    heard
}

#[test]
fn the_gateway_passes_questions_about_names_on_to_where_the_host_asks() {
    let mut world = World::new();
    let refused = world.frame(&frame(1));
    assert_eq!(
        refused[0][34..36],
        [3, 13],
        "without a server there are no names"
    );
    let [first, second] = servers(&mut world);
    world.frame(&frame(1));
    let from = asked(&first, 1).unwrap();
    // Of another number, no answer at all, and from somebody else: nobody hears of these.
    answer(&first, from, 2, 0, b"other");
    first.send_to(&question(1), from).unwrap();
    answer(&second, from, 1, 0, b"forged");
    answer(&first, from, 1, 0, b"known");
    let heard = heard(&mut world);
    assert!(heard.ends_with(b"known"));
    assert_eq!(heard[34..38], [0, 53, 0x13, 0x88]);
    assert_eq!(asked(&second, 1), None);
}

#[test]
fn the_next_server_is_asked_where_one_is_silent_and_both_are_heard() {
    for late in [false, true] {
        let mut world = World::new();
        let [first, second] = servers(&mut world);
        world.frame(&frame(1));
        let slow = asked(&first, 1).unwrap();
        world.step(Duration::from_millis(500));
        assert_eq!(asked(&second, 1), None);
        world.step(Duration::from_millis(600));
        let from = asked(&second, 1).unwrap();
        match late {
            true => answer(&first, slow, 1, 0, b"known"),
            false => answer(&second, from, 1, 0, b"known"),
        }
        assert!(heard(&mut world).ends_with(b"known"));
    }
}

#[test]
fn the_next_server_is_asked_at_once_where_one_fails_or_is_not_there() {
    let mut world = World::new();
    let [first, second, third] = servers(&mut world);
    drop(first);
    world.frame(&frame(1));
    let mut from = None;
    world.until("the second is asked", |_| {
        from = asked(&second, 1);
        from.is_some()
    });
    answer(&second, from.unwrap(), 1, SERVFAIL, b"");
    world.until("the third is asked", |_| {
        from = asked(&third, 1);
        from.is_some()
    });
    answer(&third, from.unwrap(), 1, 0, b"known");
    assert!(heard(&mut world).ends_with(b"known"));
}

#[test]
fn where_all_fail_the_guest_hears_what_they_say() {
    let mut world = World::new();
    let [first, second] = servers(&mut world);
    world.frame(&frame(1));
    answer(&first, asked(&first, 1).unwrap(), 1, SERVFAIL, b"");
    let mut from = None;
    world.until("the second is asked", |_| {
        from = asked(&second, 1);
        from.is_some()
    });
    answer(&second, from.unwrap(), 1, SERVFAIL, b"");
    assert_eq!(heard(&mut world)[45] & 0xf, SERVFAIL);
    let [only] = servers(&mut world);
    drop(only);
    world.frame(&frame(2));
    assert_eq!(heard(&mut world)[34..36], [3, 3], "nobody is there");
}

#[test]
fn a_refusal_is_heard_in_time_whoever_of_the_servers_is_silent() {
    for at in 0..3 {
        let mut world = World::new();
        let all: [UdpSocket; 3] = servers(&mut world);
        world.frame(&frame(1));
        let mut passed = Duration::ZERO;
        while world.link.to_guest.is_empty() {
            assert!(passed < ENGINE, "server {at} refused in vain");
            if let Some(from) = asked(&all[at], 1) {
                answer(&all[at], from, 1, REFUSED, b"");
            }
            world.step(TICK);
            passed += TICK;
        }
        assert_eq!(heard(&mut world)[45] & 0xf, REFUSED);
    }
}

#[test]
fn whoever_may_know_is_waited_for_a_moment_after_a_refusal() {
    let mut world = World::new();
    let [first, second] = servers(&mut world);
    world.frame(&frame(1));
    let slow = asked(&first, 1).unwrap();
    world.step(Duration::from_millis(1_100));
    answer(&second, asked(&second, 1).unwrap(), 1, REFUSED, b"");
    for _ in 0..50 {
        world.step(TICK);
    }
    answer(&first, slow, 1, 0, b"known");
    assert!(heard(&mut world).ends_with(b"known"));
}

/// The second server has no answer while the first is silent; where to the first answers.
fn a_later_one_knows_nothing(world: &mut World, all: &[UdpSocket], code: u8) -> SocketAddr {
    world.frame(&frame(1));
    let slow = asked(&all[0], 1).unwrap();
    world.step(Duration::from_millis(1_100));
    answer(&all[1], asked(&all[1], 1).unwrap(), 1, code, b"");
    for _ in 0..100 {
        world.step(TICK);
    }
    slow
}

#[test]
fn that_there_is_no_such_name_is_believed_of_a_later_server_where_no_earlier_one_knows_it() {
    for code in [0, NO_SUCH_NAME] {
        let mut world = World::new();
        let all: [UdpSocket; 3] = servers(&mut world);
        let slow = a_later_one_knows_nothing(&mut world, &all, code);
        assert_eq!(asked(&all[2], 1), None, "nobody later knows better");
        answer(&all[0], slow, 1, 0, b"known");
        assert!(heard(&mut world).ends_with(b"known"));
        // The earlier one refuses, or says nothing until the end.
        for refuses in [true, false] {
            let slow = a_later_one_knows_nothing(&mut world, &all, code);
            assert!(world.link.to_guest.is_empty());
            match refuses {
                true => answer(&all[0], slow, 1, REFUSED, b""),
                false => world.step(ENGINE - Duration::from_millis(2_200)),
            }
            assert_eq!(heard(&mut world)[45] & 0xf, code);
        }
    }
}

#[test]
fn a_server_that_is_dead_is_waited_for_once_until_it_says_something() {
    let mut world = World::new();
    let all: [UdpSocket; 2] = servers(&mut world);
    a_later_one_knows_nothing(&mut world, &all, NO_SUCH_NAME);
    assert_eq!(world.nat.counts().udp, 1);
    world.step(ENGINE);
    heard(&mut world);
    a_later_one_knows_nothing(&mut world, &all, NO_SUCH_NAME);
    assert_eq!(world.nat.counts().udp, 0, "it was told at once");
    world.frame(&frame(2));
    let again = asked(&all[0], 2).unwrap();
    answer(&all[0], again, 2, 0, b"known");
    heard(&mut world);
    a_later_one_knows_nothing(&mut world, &all, NO_SUCH_NAME);
    assert_eq!(world.nat.counts().udp, 1);
}

#[test]
fn one_that_knew_nothing_is_not_the_one_to_ask_by_connection() {
    let mut world = World::new();
    let all: [UdpSocket; 2] = servers(&mut world);
    let [first, second] = [0, 1].map(|at: usize| all[at].local_addr().ok());
    let server = |world: &World| world.nat.udp.questions.server();
    a_later_one_knows_nothing(&mut world, &all, NO_SUCH_NAME);
    world.step(ENGINE);
    heard(&mut world);
    assert_eq!(server(&world), first);
    world.frame(&frame(2));
    world.step(Duration::from_millis(1_100));
    answer(&all[1], asked(&all[1], 2).unwrap(), 2, 0, b"known");
    heard(&mut world);
    assert_eq!(server(&world), second);
}

#[test]
fn a_question_that_nobody_answers_is_forgotten_and_one_that_is_asked_again_is_the_same() {
    let mut world = World::new();
    let [server] = servers(&mut world);
    world.frame(&frame(1));
    let from = asked(&server, 1);
    world.frame(&frame(1));
    assert!(from.is_some());
    assert_eq!(asked(&server, 1), from);
    assert_eq!(world.nat.counts().udp, 1);
    world.step(Duration::from_secs(20));
    assert_eq!(world.nat.counts().udp, 0);
    assert!(world.link.to_guest.is_empty());
}

#[test]
fn a_server_that_was_slow_is_waited_for_and_no_longer_where_the_next_cannot_be_asked() {
    for knows in [false, true] {
        let mut world = World::new();
        let (first, _) = echo(false);
        // No socket may be joined to it unless that was asked for.
        let broken = (Ipv4Addr::BROADCAST, 53).into();
        world
            .nat
            .set_names(vec![first.local_addr().unwrap(), broken]);
        world.frame(&frame(1));
        let from = asked(&first, 1).unwrap();
        world.step(Duration::from_millis(1_100));
        assert_eq!(world.nat.counts().udp, 1);
        if knows {
            answer(&first, from, 1, 0, b"known");
            assert!(heard(&mut world).ends_with(b"known"));
        }
        world.step(Duration::from_secs(20));
        assert_eq!(world.nat.counts().udp, 0);
    }
}

#[test]
fn one_that_asks_much_leaves_others_their_questions() {
    let mut world = World::with(Limits {
        questions: 10,
        ..Limits::default()
    });
    let [server] = servers(&mut world);
    let modest = Ipv4Addr::new(172, 18, 0, 3);
    world.frame(&sent_by(modest, frame(1)));
    let from = asked(&server, 1).unwrap();
    for id in 0..100 {
        world.frame(&frame(id));
    }
    assert_eq!(world.nat.counts().udp, 10);
    answer(&server, from, 1, 0, b"known");
    world.until("the answer", |world| {
        let mut frames = world.link.to_guest.drain(..);
        frames.any(|frame| frame[30..34] == modest.octets() && frame.ends_with(b"known"))
    });
}

/// As it goes over a connection.
fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// The guest says this in pieces of a few bytes, and hears so many.
fn converse(world: &mut World, handle: SocketHandle, said: &[u8], count: usize) -> Vec<u8> {
    let (mut pieces, mut heard) = (said.chunks(5), Vec::new());
    world.until("an answer", |world| {
        if let Some(piece) = pieces.next() {
            world.tcp(handle).send_slice(piece).unwrap();
        }
        if world.tcp(handle).can_recv() {
            let taken = |bytes: &mut [u8]| (bytes.len(), heard.extend_from_slice(bytes));
            world.tcp(handle).recv(taken).unwrap();
        }
        heard.len() >= count
    });
    heard
}

#[test]
fn the_gateway_knows_the_hosts_name_by_connection_as_well_and_others_are_asked_for_the_rest() {
    let ours = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x04host\x06docker\x08internal\0\0\x01\0\x01";
    let length = 2 + ours.len() + 16;
    let mut world = World::new();
    let (server, port) = listener(false);
    world
        .nat
        .set_names(vec![(Ipv4Addr::LOCALHOST, port).into()]);
    let handle = world.connect((link::GATEWAY_V4.into(), 53), 100_000);
    world.until("a connection", |world| world.tcp(handle).may_send());
    let (mut host, _) = server.accept().unwrap();
    host.set_nonblocking(true).unwrap();
    // Of our own, one that goes on, one too long to be of ours, and our own again.
    let long = [&question(2)[..], &[7; 3_000]].concat();
    let said = [
        framed(ours),
        framed(&question(1)),
        framed(&long),
        framed(ours),
    ]
    .concat();
    let heard = converse(&mut world, handle, &said, 2 * length);
    for answer in heard.chunks(length) {
        assert_eq!(answer[..6], [0, (length - 2) as u8, 0, 7, 0x85, 0x80]);
        assert!(answer.ends_with(&link::HOST_V4.octets()));
    }
    let onward = [framed(&question(1)), framed(&long)].concat();
    let (mut buffer, mut passed) = (vec![0; 8_000], Vec::new());
    world.until("the rest at the server", |_| {
        let count = host.read(&mut buffer).unwrap_or(0);
        passed.extend_from_slice(&buffer[..count]);
        passed.len() >= onward.len()
    });
    assert!(passed == onward);
    // An answer of ours is not put into the middle of one of the server's.
    let theirs = framed(&[9; 600]);
    host.write_all(&theirs[..300]).unwrap();
    let begun = converse(&mut world, handle, &[], 300);
    world.tcp(handle).send_slice(&framed(ours)).unwrap();
    for _ in 0..10 {
        world.step(Duration::from_millis(1));
    }
    host.write_all(&theirs[300..]).unwrap();
    let rest = converse(&mut world, handle, &[], theirs.len() - 300 + length);
    let all = [begun, rest].concat();
    assert!(all.starts_with(&theirs));
    assert!(all.ends_with(&link::HOST_V4.octets()));
}
