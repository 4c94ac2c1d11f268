//! Datagrams, echo and neighbours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use lighter_protocol::link;
use smoltcp::socket::udp;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpEndpoint,
};

use super::guest::World;
use super::hostile;

pub fn echo(v6: bool) -> (UdpSocket, u16) {
    let address: IpAddr = match v6 {
        false => Ipv4Addr::LOCALHOST.into(),
        true => Ipv6Addr::LOCALHOST.into(),
    };
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// A datagram there and back.
fn round(world: &mut World, host: &UdpSocket, to: SocketAddr, content: &[u8]) {
    let room = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 70_000]);
    let mut socket = udp::Socket::new(room(), room());
    socket.bind(5_000).unwrap();
    let endpoint = IpEndpoint::new(to.ip().into(), to.port());
    socket.send_slice(content, endpoint).unwrap();
    let handle = world.sockets.add(socket);
    let mut buffer = vec![0; 70_000];
    world.until("the datagram at the host", |_| {
        let Ok((length, from)) = host.recv_from(&mut buffer) else {
            return false;
        };
        assert!(buffer[..length] == *content, "it is another");
        let answer: Vec<u8> = content.iter().rev().copied().collect();
        host.send_to(&answer, from).unwrap();
        true
    });
    let reversed: Vec<u8> = content.iter().rev().copied().collect();
    world.until("the answer at the guest", |world| {
        let socket = world.sockets.get_mut::<udp::Socket>(handle);
        let Ok((answer, from)) = socket.recv() else {
            return false;
        };
        assert!(answer == reversed && from.endpoint == endpoint);
        true
    });
    world.sockets.remove(handle);
}

#[test]
fn datagrams_of_any_length_come_through_both_ways() {
    let mut world = World::new();
    let (host, port) = echo(false);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    // smoltcp puts pieces of no more than 1,500 bytes together.
    for length in [0, 1, 1_000, 1_471, 1_472] {
        let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
        round(&mut world, &host, to, &content);
    }
    let (host, port) = echo(true);
    let to = SocketAddr::new(link::HOST_V6.into(), port);
    round(&mut world, &host, to, b"six");
    assert_eq!(world.nat.counts().udp, 2);
    // Unused, they go.
    for _ in 0..10 {
        world.step(Duration::from_secs(60));
    }
    assert_eq!(world.nat.counts().udp, 0);
}

#[test]
fn a_long_datagram_goes_to_the_guest_in_pieces_that_fit_together() {
    let mut world = World::new();
    let (host, port) = echo(false);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    let content: Vec<u8> = (0..20_000_u32).map(|at| (at / 7) as u8).collect();
    // The guest's as well: the pieces are made by hand, in the wrong order.
    let mut pieces = hostile::in_pieces(5_000, to, &content);
    pieces.reverse();
    for piece in pieces {
        world.frame(&piece);
    }
    let mut buffer = vec![0; 70_000];
    let (length, from) = loop {
        if let Ok(found) = host.recv_from(&mut buffer) {
            break found;
        }
    };
    assert!(buffer[..length] == content[..]);
    host.send_to(&content, from).unwrap();
    comes_in_pieces(&mut world, 34, &content);
}

/// Fails unless the guest gets this in pieces that a card takes, behind so many bytes of headers each.
fn comes_in_pieces(world: &mut World, headers: usize, content: &[u8]) {
    let mut whole = Vec::new();
    world.until("all pieces", |world| {
        for frame in world.link.to_guest.drain(..) {
            assert!(frame.len() <= 1_514, "a piece of {} bytes", frame.len());
            whole.extend_from_slice(&frame[headers..]);
        }
        whole.len() >= content.len() + 8
    });
    assert!(whole[8..] == *content);
}

#[test]
fn so_does_one_of_version_6() {
    let mut world = World::new();
    let (host, port) = echo(true);
    let content: Vec<u8> = (0..60_000_u32).map(|at| (at / 7) as u8).collect();
    for piece in hostile::in_pieces_v6(5_000, (link::HOST_V6, port), &content) {
        world.frame(&piece);
    }
    let mut buffer = vec![0; 70_000];
    let (length, from) = host.recv_from(&mut buffer).unwrap();
    assert!(buffer[..length] == content[..]);
    host.send_to(&content, from).unwrap();
    comes_in_pieces(&mut world, 62, &content);
}

#[test]
fn what_nobody_listens_for_is_said_to_be_so() {
    let mut world = World::new();
    let (host, port) = echo(false);
    drop(host);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    let frame = hostile::datagram(5_000, to, b"?");
    world.frame(&frame);
    world.until("word of it", |world| {
        world.link.to_guest.drain(..).any(|frame| {
            // ICMP, destination unreachable, port; and the ports of what was sent.
            frame[23] == 1
                && frame[34..36] == [3, 3]
                && frame[62..64] == 5_000_u16.to_be_bytes()
                && frame[64..66] == port.to_be_bytes()
        })
    });
    let refused = SocketAddr::new(Ipv4Addr::new(169, 254, 169, 254).into(), 80);
    let answers = world.frame(&hostile::datagram(5_000, refused, b"?"));
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0][34..36], [3, 13]);
    let many = SocketAddr::new(Ipv4Addr::new(224, 0, 0, 251).into(), 5_353);
    assert!(
        world
            .frame(&hostile::datagram(5_000, many, b"?"))
            .is_empty()
    );
}

#[test]
fn questions_about_neighbours_are_answered_for_the_routers_own_addresses() {
    let mut world = World::new();
    let mut ask = |target: Ipv4Addr| {
        let question = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(link::GUEST_MAC),
            source_protocol_addr: link::GUEST_V4,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: target,
        };
        let mut bytes = vec![0; 14 + question.buffer_len()];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
        frame.set_ethertype(EthernetProtocol::Arp);
        frame.set_dst_addr(EthernetAddress::BROADCAST);
        question.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        world.frame(&bytes)
    };
    for ours in [link::GATEWAY_V4, link::HOST_V4] {
        let answers = ask(ours);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0][6..12], link::GATEWAY_MAC);
    }
    assert!(ask(Ipv4Addr::new(198, 19, 79, 77)).is_empty());
    assert!(ask(link::GUEST_V4).is_empty());
}

#[test]
fn the_gateway_answers_an_echo() {
    let mut world = World::new();
    let asked = hostile::echo(link::GATEWAY_V4, b"are you there");
    let answers = world.frame(&asked);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0][34], 0, "it is a reply");
    assert_eq!(answers[0][38..], asked[38..], "to this request");
}

#[test]
fn the_gateway_itself_knows_the_hosts_name() {
    let mut world = World::new();
    let gateway = SocketAddr::new(link::GATEWAY_V4.into(), 53);
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x04host\x06docker\x08internal\0\0\x01\0\x01";
    let frames = world.frame(&hostile::datagram(5_000, gateway, question));
    let answer = &frames[0][42..];
    assert_eq!(answer[..4], [0, 7, 0x85, 0x80]);
    assert!(answer.ends_with(&link::HOST_V4.octets()), "{answer:?}");
    // Nobody else was asked for it.
    assert_eq!(world.nat.counts().udp, 0);
}

#[test]
fn a_socket_waits_for_room_once_however_often_it_stirs() {
    let mut world = World::new();
    let (host, port) = echo(false);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    let room = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 9_000]);
    let mut socket = udp::Socket::new(room(), room());
    socket.bind(5_000).unwrap();
    let endpoint = IpEndpoint::new(to.ip().into(), to.port());
    socket.send_slice(b"first", endpoint).unwrap();
    world.sockets.add(socket);
    let (mut buffer, mut from) = ([0; 16], None);
    world.until("the datagram at the host", |_| {
        from = host.recv_from(&mut buffer).ok().map(|(_, from)| from);
        from.is_some()
    });
    world.link.room = Some(0);
    for number in 0..9_u8 {
        host.send_to(&[number], from.unwrap()).unwrap();
        world.step(Duration::from_millis(1));
    }
    assert_eq!(world.nat.udp.waiting.len(), 1);
}

#[test]
fn a_burst_is_delivered_whole_without_anything_else_happening() {
    const BURST: usize = 200;
    const ROOM: usize = 10;
    let mut world = World::new();
    let (host, port) = echo(false);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    world.frame(&hostile::datagram(5_000, to, b"?"));
    let from = loop {
        if let Ok((_, from)) = host.recv_from(&mut [0; 16]) {
            break from;
        }
    };
    for number in 0..BURST {
        host.send_to(&[number as u8], from).unwrap();
    }
    world.link.room = Some(ROOM);
    world.hear();
    // It is the guest's turn to make room: nothing is tried over and over meanwhile.
    assert_ne!(world.flush(), Some(Duration::ZERO));
    assert_eq!(world.link.to_guest.len(), ROOM);
    world.link.room = None;
    let mut rounds = 0;
    while world.flush() == Some(Duration::ZERO) {
        rounds += 1;
        assert!(rounds < BURST, "there is always something to do");
    }
    assert_eq!(world.link.to_guest.len(), BURST);
}

/// What is said then is of an earlier one.
#[test]
fn a_datagram_is_sent_although_one_before_it_was_refused() {
    let mut world = World::new();
    let (host, port) = echo(false);
    drop(host);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    world.frame(&hostile::datagram(5_000, to, b"refused"));
    let host = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    host.set_nonblocking(true).unwrap();
    let answers = world.frame(&hostile::datagram(5_000, to, b"sent"));
    assert_eq!(answers[0][34..36], [3, 3]);
    let mut buffer = [0; 16];
    let length = host.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"sent");
}
