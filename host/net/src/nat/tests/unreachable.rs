//! What the guest is told of a connection to where there is no way.

use std::net::SocketAddr;

use lighter_protocol::link;
use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet};

use super::guest::World;
use super::hostile::{begin, begin_v6};

/// To these the system has no way for a connection, whichever networks it has.
const NOWHERE: [&str; 2] = ["255.255.255.255:53", "[ff02::1]:53"];

/// What the guest is told of what it sent to the gateway's port for names, where that leads nowhere.
fn told(nowhere: &str, frame: &[u8]) -> Vec<u8> {
    let mut world = World::new();
    world.nat.set_names(vec![nowhere.parse().unwrap()]);
    let mut frames = world.frame(frame);
    assert_eq!(frames.len(), 1);
    assert_eq!(world.nat.counts().tcp, 0);
    frames.remove(0)
}

#[test]
fn no_way_to_a_network_is_told_as_that() {
    let gateway = SocketAddr::new(link::GATEWAY_V4.into(), 53);
    let sent = begin(40_000, gateway);
    let frame = told(NOWHERE[0], &sent);
    // Destination unreachable, network; the addresses, ports and the number of what was sent.
    assert_eq!((frame[23], &frame[34..36]), (1, &[3, 0][..]));
    assert_eq!(
        frame[26..34],
        [link::GATEWAY_V4.octets(), link::GUEST_V4.octets()].concat()
    );
    assert_eq!(frame[54..62], sent[26..34]);
    assert_eq!(frame[62..70], sent[34..42]);
    assert!(
        Icmpv4Packet::new_checked(&frame[34..])
            .unwrap()
            .verify_checksum()
    );

    let sent = begin_v6(40_000, (link::GATEWAY_V6, 53));
    let frame = told(NOWHERE[1], &sent);
    assert_eq!((frame[20], &frame[54..56]), (58, &[1, 0][..]));
    assert_eq!(frame[70..102], sent[22..54]);
    assert_eq!(frame[102..110], sent[54..62]);
    let message = Icmpv6Packet::new_checked(&frame[54..]).unwrap();
    assert!(message.verify_checksum(&link::GATEWAY_V6, &link::GUEST_V6));
}

/// The system says so a moment after the connection was begun.
#[test]
fn no_way_to_a_host_is_told_as_that_when_it_is_known() {
    let (_listener, port) = super::streams::listener(false);
    let to = SocketAddr::new(link::HOST_V4.into(), port);
    let mut world = World::new();
    let sent = begin(40_000, to);
    assert!(world.frame(&sent).is_empty());
    world.breaks_off(std::io::ErrorKind::HostUnreachable);
    let frame = world.link.to_guest.pop_front().unwrap();
    assert_eq!(frame[34..36], [3, 1]);
    assert_eq!(frame[62..70], sent[34..42]);
    assert_eq!(world.nat.counts().tcp, 0);
    // As with any other router, nothing is said where nobody answered in time.
    assert!(world.frame(&sent).is_empty());
    world.breaks_off(std::io::ErrorKind::TimedOut);
    assert!(world.link.to_guest.is_empty());
    assert_eq!(world.nat.counts().tcp, 0);
}
