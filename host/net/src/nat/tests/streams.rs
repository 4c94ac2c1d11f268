//! Connections, byte for byte, on good links and bad ones.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use lighter_protocol::link;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::super::ring::{LARGEST, SMALLEST};
use super::super::tcp::{SHARED, SHIFT};
use super::guest::World;

pub const V4: IpAddr = IpAddr::V4(link::HOST_V4);
const V6: IpAddr = IpAddr::V6(link::HOST_V6);

pub fn listener(v6: bool) -> (TcpListener, u16) {
    let address: IpAddr = match v6 {
        false => Ipv4Addr::LOCALHOST.into(),
        true => Ipv6Addr::LOCALHOST.into(),
    };
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A connection that both sides know.
pub fn connected(world: &mut World, v6: bool, buffer: usize) -> (SocketHandle, TcpStream) {
    let (listener, port) = listener(v6);
    let to = if v6 { V6 } else { V4 };
    let handle = world.connect((to, port), buffer);
    world.until("a connection", |world| {
        world.tcp(handle).state() == State::Established
    });
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    (handle, stream)
}

fn pattern(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 7) as u8
}

/// Both sides send `total` bytes and then their end, each reading what the other sends.
fn exchange(world: &mut World, handle: SocketHandle, mut host: TcpStream, total: usize) {
    let (mut guest_sent, mut guest_read) = (0, 0);
    let (mut host_sent, mut host_read) = (0, 0);
    let mut host_ended = false;
    let mut buffer = vec![0; 60_000];
    world.until("both ends", |world| {
        let socket = world.tcp(handle);
        if guest_sent < total {
            let sent = socket.send(|room| {
                let count = room.len().min(total - guest_sent);
                for (at, byte) in room[..count].iter_mut().enumerate() {
                    *byte = pattern(guest_sent + at);
                }
                (count, count)
            });
            guest_sent += sent.unwrap();
            if guest_sent == total {
                socket.close();
            }
        }
        if socket.can_recv() {
            guest_read += socket
                .recv(|bytes| {
                    for (at, byte) in bytes.iter().enumerate() {
                        assert_eq!(*byte, pattern(guest_read + at + 1), "to the guest");
                    }
                    (bytes.len(), bytes.len())
                })
                .unwrap();
        }
        while host_sent < total {
            let count = (total - host_sent).min(buffer.len());
            for (at, byte) in buffer[..count].iter_mut().enumerate() {
                *byte = pattern(host_sent + at + 1);
            }
            match host.write(&buffer[..count]) {
                Ok(count) => host_sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
            if host_sent == total {
                host.shutdown(Shutdown::Write).unwrap();
            }
        }
        match host.read(&mut buffer) {
            Ok(0) => host_ended = true,
            Ok(count) => {
                for (at, byte) in buffer[..count].iter().enumerate() {
                    assert_eq!(*byte, pattern(host_read + at), "to the host");
                }
                host_read += count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        host_ended && guest_read == total && !world.tcp(handle).may_recv()
    });
    assert_eq!((host_read, guest_read), (total, total));
    world.until("that nothing is left of it", |world| {
        world.nat.counts().tcp == 0
    });
}

#[test]
fn both_ways_at_once_and_each_ends_by_itself() {
    for v6 in [false, true] {
        let mut world = World::new();
        let (handle, host) = connected(&mut world, v6, 200_000);
        exchange(&mut world, handle, host, 8_000_000);
    }
}

#[test]
fn lost_frames_are_sent_again() {
    for lose in [10, 30] {
        let mut world = World::new();
        let (handle, host) = connected(&mut world, false, 50_000);
        world.link.lose = Some(lose);
        // The guest's own patience grows with every loss.
        world.tick = Duration::from_millis(20);
        exchange(&mut world, handle, host, 100_000);
    }
}

#[test]
fn what_the_guest_has_is_not_sent_again_because_something_before_it_was_lost() {
    let mut world = World::new();
    let (handle, mut host) = connected(&mut world, false, 1_000_000);
    world.link.lose = Some(200);
    let total = 8_000_000;
    let (mut sent, mut read) = (0, 0);
    world.until("all of it", |world| {
        while sent < total {
            match host.write(&[7; 50_000]) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        let socket = world.tcp(handle);
        if socket.can_recv() {
            read += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        read >= total
    });
    let part = world.link.sent as f64 / read as f64;
    assert!(part < 1.3, "{part:.2} times as much was sent as was read");
}

#[test]
fn a_guest_that_reads_again_gets_the_rest_at_once() {
    let mut world = World::new();
    let (handle, mut host) = connected(&mut world, false, 20_000);
    let total = 100_000;
    host.write_all(&vec![7; total]).unwrap();
    // Asked several times whether it has room.
    for _ in 0..100 {
        world.step(Duration::from_millis(200));
    }
    let (mut read, mut millis) = (0, 0);
    world.until("all of it", |world| {
        millis += 1;
        let socket = world.tcp(handle);
        if socket.can_recv() {
            read += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        read == total
    });
    assert!(millis < 500, "it took {millis} ms of the clock");
}

#[test]
fn a_guest_that_does_not_read_for_long_and_says_so_is_not_given_up() {
    let mut world = World::new();
    let (handle, mut host) = connected(&mut world, false, 20_000);
    let total = 100_000;
    host.write_all(&vec![7; total]).unwrap();
    for _ in 0..60 * 60 {
        world.step(Duration::from_secs(1));
    }
    let mut read = 0;
    world.until("all of it", |world| {
        let socket = world.tcp(handle);
        if socket.can_recv() {
            read += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        read == total
    });
}

#[test]
fn what_was_lost_is_sent_again_also_while_the_guest_speaks() {
    let mut world = World::new();
    let (handle, mut host) = connected(&mut world, false, 20_000);
    world.link.deaf = true;
    host.write_all(&[7; 1_000]).unwrap();
    for _ in 0..20 {
        world.step(Duration::from_millis(1));
    }
    world.link.deaf = false;
    let (mut read, mut millis) = (0, 0);
    world.until("all of it", |world| {
        millis += 1;
        let socket = world.tcp(handle);
        if millis % 100 == 0 {
            socket.send_slice(b"x").unwrap();
        }
        if socket.can_recv() {
            read += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        read == 1_000
    });
    assert!(millis < 1_500, "it took {millis} ms of the clock");
}

#[test]
fn a_guest_without_room_for_frames_gets_them_later() {
    let mut world = World::new();
    let (handle, host) = connected(&mut world, false, 100_000);
    world.link.room = Some(2);
    exchange(&mut world, handle, host, 1_000_000);
}

#[test]
fn a_guest_that_does_not_read_costs_a_ring_and_reads_all_of_it_later() {
    let mut world = World::new();
    let (handle, mut host) = connected(&mut world, false, 20_000);
    let block = vec![7; 100_000];
    let mut sent = 0;
    let mut quiet = 0;
    // Until nobody takes anything for long: the guest's buffer, the ring and the kernel's are full.
    while quiet < 500 {
        match host.write(&block) {
            Ok(count) => (sent, quiet) = (sent + count, 0),
            Err(_) => quiet += 1,
        }
        world.step(Duration::from_millis(50));
    }
    assert!(sent < 64 << 20, "{sent} bytes were taken for nobody");
    drop(host);
    let mut read = 0;
    world.until("all of it", |world| {
        let socket = world.tcp(handle);
        if socket.can_recv() {
            read += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        read == sent
    });
}

#[test]
fn a_host_that_does_not_read_stops_the_guest_and_gets_all_of_it_later() {
    let mut world = World::new();
    let (handle, mut host) = connected(&mut world, false, 100_000);
    let mut sent = 0;
    let mut quiet = 0;
    while quiet < 500 {
        let count = world.tcp(handle).send_slice(&[9; 50_000]).unwrap();
        (sent, quiet) = (sent + count, if count == 0 { quiet + 1 } else { 0 });
        world.step(Duration::from_millis(5));
    }
    assert!(
        sent < LARGEST + (16 << 20),
        "{sent} bytes were taken for nobody"
    );
    world.tcp(handle).close();
    let mut read = 0;
    let mut buffer = vec![0; 100_000];
    world.until("all of it", |_| {
        match host.read(&mut buffer) {
            Ok(0) => return true,
            Ok(count) => read += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        false
    });
    assert_eq!(read, sent);
}

/// A guest that has little room takes what it has room for and says so at once, and whoever it speaks of is not served
/// before those who wait.
#[test]
fn connections_that_wait_for_room_are_served_in_turn() {
    const EACH: usize = 4 << 20;
    let mut world = World::new();
    let mut ends: Vec<_> = (0..6)
        .map(|_| connected(&mut world, false, 256 << 10))
        .collect();
    world.link.room = Some(1);
    let mut taken = vec![0; ends.len()];
    let content = vec![0; EACH];
    let mut sent = taken.clone();
    world.until("the first has it all", |world| {
        for (at, (handle, host)) in ends.iter_mut().enumerate() {
            if let Ok(count) = host.write(&content[sent[at]..]) {
                sent[at] += count;
            }
            let read = |bytes: &mut [u8]| (bytes.len(), bytes.len());
            taken[at] += world.tcp(*handle).recv(read).unwrap();
        }
        taken.contains(&EACH)
    });
    let least = taken.iter().min().unwrap();
    assert!(least * 4 > EACH * 3, "{taken:?}");
}

/// A guest whose answers are late sends again, and a request is not to wait for a thousand transfers.
#[test]
fn answers_and_little_content_do_not_wait_behind_transfers() {
    const SOON: usize = 20;
    let mut world = World::new();
    let (asks, mut answers) = connected(&mut world, false, 64 << 10);
    let (sends, _host) = connected(&mut world, false, 64 << 10);
    let mut transfers: Vec<_> = (0..20)
        .map(|_| connected(&mut world, false, 1 << 20))
        .collect();
    let transfers_too = transfers[7].0;
    world.link.room = Some(1);
    let content = vec![0; 256 << 10];
    let mut steps = |world: &mut World, what: &str, so: &mut dyn FnMut(&mut World) -> bool| {
        let mut count = 0;
        world.until(what, |world| {
            for (handle, host) in &mut transfers {
                let _ = host.write(&content);
                let read = |bytes: &mut [u8]| (bytes.len(), ());
                world.tcp(*handle).recv(read).unwrap();
            }
            count += 1;
            so(world)
        });
        count
    };
    // Until all of them wait for room.
    let mut left = 200;
    steps(&mut world, "transfers", &mut |_| {
        left -= 1;
        left == 0
    });
    let (_listener, port) = listener(false);
    let begins = world.connect((V4, port), 1_000);
    let count = steps(&mut world, "a connection", &mut |world| {
        world.tcp(begins).state() == State::Established
    });
    assert!(count < SOON, "a connection after {count} frames");
    world.tcp(sends).send_slice(&[0; 1_000]).unwrap();
    let count = steps(&mut world, "an answer", &mut |world| {
        world.tcp(sends).send_queue() == 0
    });
    assert!(count < SOON, "an answer after {count} frames");
    world.tcp(transfers_too).send_slice(&[0; 1_000]).unwrap();
    let count = steps(&mut world, "an answer to a transfer", &mut |world| {
        world.tcp(transfers_too).send_queue() == 0
    });
    assert!(count < SOON, "an answer to a transfer after {count} frames");
    answers.write_all(b"reply").unwrap();
    let count = steps(&mut world, "a reply", &mut |world| {
        world.tcp(asks).can_recv()
    });
    assert!(count < SOON, "a reply after {count} frames");
}

/// Of those that were to be answered with their content when there was room for all, too.
#[test]
fn answers_do_not_wait_behind_transfers_that_begin_with_them() {
    let mut world = World::new();
    let mut transfers: Vec<_> = (0..20)
        .map(|_| connected(&mut world, false, 1 << 20))
        .collect();
    // Rings that hold several frames.
    for transfer in &mut transfers {
        receive(&mut world, transfer, 1 << 20);
    }
    world.link.room = Some(1);
    for (_, host) in &mut transfers {
        let _ = host.write(&[0; 256 << 10]);
    }
    for _ in 0..100 {
        world.hear();
    }
    for (handle, _) in &transfers {
        world.tcp(*handle).send_slice(&[0; 1_000]).unwrap();
    }
    world.speak(Duration::from_millis(1));
    let mut steps = 0;
    world.until("all answers", |world| {
        steps += 1;
        let mut handles = transfers.iter().map(|(handle, _)| *handle);
        handles.all(|handle| world.tcp(handle).send_queue() == 0)
    });
    assert!(steps < 2 * transfers.len(), "after {steps} frames");
}

/// Has the guest take so much of what the host sends.
fn receive(world: &mut World, (handle, host): &mut (SocketHandle, TcpStream), total: usize) {
    let (mut sent, mut taken) = (0, 0);
    let content = vec![0; total];
    world.until("all of it", |world| {
        if let Ok(count) = host.write(&content[sent..]) {
            sent += count;
        }
        let read = |bytes: &mut [u8]| (bytes.len(), bytes.len());
        taken += world.tcp(*handle).recv(read).unwrap();
        taken == total
    });
}

/// A container that keeps connections for later would else be slow with every new one.
#[test]
fn memory_of_connections_that_are_quiet_is_there_for_others() {
    const LENT: usize = 64 * SMALLEST;
    let mut world = World::new();
    world.nat.tcp.lend(LENT);
    let mut first = connected(&mut world, false, 1 << 20);
    receive(&mut world, &mut first, LENT);
    let mut second = connected(&mut world, false, 1 << 20);
    receive(&mut world, &mut second, LENT);
    world.flush_after(Duration::from_secs(2));
    receive(&mut world, &mut second, LENT);
    // What the guest does not acknowledge is what a ring may hold.
    let (before, mut sent) = (world.link.sent, 0);
    for _ in 0..1_000 {
        if let Ok(count) = second.1.write(&[0; 8 * SMALLEST][sent..]) {
            sent += count;
        }
        world.hear();
        world.flush();
    }
    assert!(world.link.sent - before >= 8 * SMALLEST);
    receive(&mut world, &mut first, LENT);
}

/// One of many that may have more of what it sends under way than the others takes their part of the processor.
#[test]
fn connections_that_are_many_have_the_same_window() {
    const OTHERS: usize = 300;
    let mut world = World::new();
    let (handle, mut host) = connected(&mut world, false, 1 << 20);
    let mut buffer = vec![0; 1 << 20];
    let mut carry = |world: &mut World, total: usize| {
        let (mut sent, mut read) = (0, 0);
        world.until("all of it", |world| {
            let left = &buffer[..(total - sent).min(buffer.len())];
            sent += world.tcp(handle).send_slice(left).unwrap();
            if let Ok(count) = host.read(&mut buffer) {
                read += count;
            }
            read == total
        });
    };
    carry(&mut world, 32 << 20);
    assert_eq!(
        world.link.widest,
        LARGEST.min(usize::from(u16::MAX) << SHIFT)
    );
    let others: Vec<_> = (0..OTHERS)
        .map(|_| connected(&mut world, false, 1_000))
        .collect();
    // What was told already stays told.
    carry(&mut world, LARGEST);
    world.link.widest = 0;
    carry(&mut world, LARGEST);
    let share = SHARED / (OTHERS + 1);
    assert!(world.link.widest <= share, "{} bytes", world.link.widest);
    assert!(world.link.widest > share / 2, "{} bytes", world.link.widest);
    drop(others);
}

#[test]
fn what_nobody_listens_for_and_what_may_not_be_reached_is_refused_at_once() {
    let mut world = World::new();
    let (listener, port) = listener(false);
    drop(listener);
    for to in [
        (V4, port),
        (IpAddr::V4(link::GATEWAY_V4), 22),
        (Ipv4Addr::new(127, 0, 0, 1).into(), 80),
        (Ipv4Addr::new(169, 254, 169, 254).into(), 80),
        (IpAddr::V6(link::GATEWAY_V6), 2375),
    ] {
        if to.0.is_loopback() {
            continue;
        }
        let handle = world.connect(to, 10_000);
        world.until("a refusal", |world| {
            world.tcp(handle).state() == State::Closed
        });
    }
    assert_eq!(world.nat.counts().tcp, 0);
}

/// Fails unless the guest's silence ends the only connection within an hour, and the host is told.
fn is_given_up(world: &mut World, host: &mut TcpStream) {
    let mut minutes = 0;
    while world.nat.counts().tcp > 0 {
        world.step(Duration::from_secs(60));
        minutes += 1;
        assert!(minutes < 60, "it is kept for ever");
    }
    let read = host.read(&mut [0; 16]).unwrap_err();
    assert_eq!(read.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_silent_guest_is_given_up_in_the_end() {
    let mut world = World::new();
    let (_, mut host) = connected(&mut world, false, 10_000);
    host.write_all(&[1; 1_000]).unwrap();
    world.link.lose = Some(1);
    is_given_up(&mut world, &mut host);
}

/// Its container is gone, and its server neither speaks nor ends: nothing else would show it.
#[test]
fn a_connection_of_a_guest_that_is_not_there_any_more_ends_though_nobody_speaks() {
    let mut world = World::new();
    let (_, mut host) = connected(&mut world, false, 10_000);
    world.link.lose = Some(1);
    is_given_up(&mut world, &mut host);
}

#[test]
fn a_connection_that_nobody_uses_for_days_is_there_when_it_is_used() {
    for v6 in [false, true] {
        let mut world = World::new();
        let (handle, mut host) = connected(&mut world, v6, 10_000);
        world.step(Duration::from_millis(1));
        world.link.sent = 0;
        for _ in 0..2 * 24 * 60 {
            world.step(Duration::from_secs(60));
        }
        assert!(world.link.sent > 0, "nobody asked");
        assert!(
            world.link.sent < 60 * 600,
            "{} bytes were sent to ask",
            world.link.sent
        );
        host.write_all(b"still there").unwrap();
        let mut read = Vec::new();
        world.until("what was said", |world| {
            let socket = world.tcp(handle);
            if socket.can_recv() {
                let taken = |bytes: &mut [u8]| (bytes.len(), read.extend_from_slice(bytes));
                socket.recv(taken).unwrap();
            }
            read == b"still there"
        });
    }
}

/// A machine that stands still takes no frames: of what it was not asked it is not to be blamed.
#[test]
fn a_guest_that_has_no_room_to_be_asked_is_asked_later() {
    let mut world = World::new();
    let (handle, _host) = connected(&mut world, false, 10_000);
    world.step(Duration::from_millis(1));
    world.link.room = Some(0);
    for _ in 0..24 * 60 {
        world.flush_after(Duration::from_secs(60));
    }
    world.link.room = None;
    for _ in 0..60 {
        world.step(Duration::from_secs(60));
    }
    assert_eq!(world.nat.counts().tcp, 1);
    assert_eq!(world.tcp(handle).state(), State::Established);
}
