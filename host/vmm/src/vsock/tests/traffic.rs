//! What an honest guest sees.

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::mpsc,
    time::{Duration, Instant},
};

use super::{
    super::{
        ConnectError, MAX_STREAMS, RING_RX,
        packet::{Header, op, shut},
    },
    driver::{Driver, ROOM, packet},
};

fn ops(packets: &[(Header, Vec<u8>)]) -> Vec<u16> {
    packets.iter().map(|(header, _)| header.op).collect()
}

fn payload(packets: Vec<(Header, Vec<u8>)>) -> Vec<u8> {
    packets
        .into_iter()
        .filter(|(header, _)| header.op == op::RW)
        .flat_map(|(_, bytes)| bytes)
        .collect()
}

#[test]
fn stream_from_host_carries_bytes_both_ways() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(1024);
    stream.write_all(b"to the guest").unwrap();
    let got = driver.exchange();
    assert_eq!(ops(&got), [op::RW]);
    assert_eq!((got[0].0.src_port, got[0].0.dst_port), (host, 1024));
    assert_eq!(got[0].1, b"to the guest");
    driver.send(packet(op::RW, host, 1024), b"to the host");
    let mut bytes = [0; 64];
    assert_eq!(stream.read(&mut bytes).unwrap(), 11);
    assert_eq!(&bytes[..11], b"to the host");
}

#[test]
fn first_bytes_come_before_those_of_the_socket_within_the_guests_room() {
    let mut driver = Driver::new();
    let first: Vec<u8> = (0..250).collect();
    let (mut stream, outcome) = driver.connect_with(7, &first);
    stream.write_all(b"then these").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let host = driver.exchange()[0].0.src_port;
    let room = |taken, room| Header {
        fwd_cnt: taken,
        buf_alloc: room,
        ..packet(op::CREDIT_UPDATE, host, 7)
    };
    let response = Header {
        op: op::RESPONSE,
        ..room(0, 120)
    };
    driver.send(response, &[]);
    outcome.try_recv().unwrap().unwrap();
    // A buffer of the driver's takes 100, the guest has room for 120.
    let mut got = driver.exchange();
    assert_eq!(ops(&got), [op::RW, op::RW]);
    assert_eq!(got[0].1.len(), ROOM);
    driver.send(room(120, 4096), &[]);
    got.extend(driver.exchange());
    assert_eq!(got.last().unwrap().0.op, op::SHUTDOWN);
    let expected = [&first[..], b"then these"].concat();
    assert_eq!(payload(got), expected);
}

#[test]
fn refused_request_gives_the_socket_back_unread() {
    let mut driver = Driver::new();
    let (mut stream, outcome) = driver.connect(9);
    stream.write_all(b"early").unwrap();
    let host = driver.exchange()[0].0.src_port;
    driver.send(packet(op::RST, host, 9), &[]);
    let (error, socket) = outcome.try_recv().unwrap().unwrap_err();
    assert_eq!(error, ConnectError::Refused);
    let mut bytes = [0; 16];
    assert_eq!(UnixStream::from(socket).read(&mut bytes).unwrap(), 5);
    assert_eq!(driver.device.streams(), 0);
}

#[test]
fn request_without_answer_ends_by_its_deadline() {
    let mut driver = Driver::new();
    let (_stream, outcome) = driver.connect(9);
    driver.exchange();
    driver.device.expire(Instant::now());
    outcome.try_recv().unwrap_err();
    driver
        .device
        .expire(Instant::now() + Duration::from_secs(3600));
    assert_eq!(
        outcome.try_recv().unwrap().unwrap_err().0,
        ConnectError::Timeout
    );
    assert_eq!(ops(&driver.exchange()), [op::RST]);
    // What is left to do is to return the buffer of the guest's last packet.
    driver
        .device
        .expire(Instant::now() + Duration::from_secs(3600));
    assert!(driver.device.next_deadline().is_none());
}

#[test]
fn connect_without_rings_is_not_ready() {
    let mut driver = Driver::new();
    driver.device.rings[RING_RX] = None;
    let (_stream, outcome) = driver.connect(9);
    assert_eq!(
        outcome.try_recv().unwrap().unwrap_err().0,
        ConnectError::NotReady
    );
}

#[test]
fn guest_is_let_in_only_where_somebody_listens() {
    let mut driver = Driver::new();
    driver.send(packet(op::REQUEST, 1026, 5000), &[]);
    assert_eq!(ops(&driver.exchange()), [op::RST]);
    let (sender, accepted) = mpsc::channel();
    driver.device.listen(
        1026,
        Some(Box::new(move |_| {
            let (ours, theirs) = UnixStream::pair().ok()?;
            sender.send(ours).ok()?;
            Some(theirs.into())
        })),
    );
    driver.send(packet(op::REQUEST, 1026, 5000), &[]);
    driver.send(packet(op::REQUEST, 1027, 5001), &[]);
    let got = driver.exchange();
    let mut answers: Vec<_> = got
        .iter()
        .map(|(h, _)| (h.src_port, h.dst_port, h.op))
        .collect();
    answers.sort_unstable();
    assert_eq!(answers, [(1026, 5000, op::RESPONSE), (1027, 5001, op::RST)]);
    driver.send(packet(op::RW, 1026, 5000), b"hello");
    let mut stream = accepted.recv().unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 5);
    driver.device.listen(1026, None);
    driver.send(packet(op::REQUEST, 1026, 5002), &[]);
    assert_eq!(ops(&driver.exchange()), [op::RST]);
}

#[test]
fn nothing_is_read_from_the_host_beyond_the_guests_room() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(7);
    driver.send(
        Header {
            buf_alloc: 10,
            ..packet(op::CREDIT_UPDATE, host, 7)
        },
        &[],
    );
    stream.write_all(&[b'x'; 25]).unwrap();
    assert_eq!(payload(driver.exchange()).len(), 10);
    assert_eq!(driver.exchange(), []);
    driver.send(
        Header {
            buf_alloc: 10,
            fwd_cnt: 10,
            ..packet(op::CREDIT_UPDATE, host, 7)
        },
        &[],
    );
    assert_eq!(payload(driver.exchange()).len(), 10);
    driver.send(
        Header {
            buf_alloc: 10,
            fwd_cnt: 20,
            ..packet(op::CREDIT_UPDATE, host, 7)
        },
        &[],
    );
    assert_eq!(payload(driver.exchange()).len(), 5);
}

#[test]
fn large_message_is_read_into_many_buffers_in_order() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(7);
    driver.send(
        Header {
            buf_alloc: 1 << 20,
            ..packet(op::CREDIT_UPDATE, host, 7)
        },
        &[],
    );
    let sent: Vec<u8> = (0..ROOM * 50).map(|n| (n % 251) as u8).collect();
    stream.write_all(&sent).unwrap();
    let mut got = Vec::new();
    while got.len() < sent.len() {
        got.extend(payload(driver.exchange()));
    }
    assert!(got == sent);
    stream.write_all(b"after").unwrap();
    assert_eq!(payload(driver.exchange()), b"after");
}

#[test]
fn slow_host_gets_everything_and_the_guest_its_credit() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(7);
    let chunk = [b'y'; 4000];
    let mut sent = 0;
    let mut told = 0;
    // An honest guest: it sends only what the credit allows, until there is none left.
    let credit = driver
        .exchange()
        .last()
        .map_or(256 << 10, |(header, _)| header.buf_alloc as usize);
    while sent + chunk.len() - told <= credit {
        driver.send(packet(op::RW, host, 7), &chunk);
        sent += chunk.len();
        for (header, _) in driver.exchange() {
            told = told.max(header.fwd_cnt as usize);
        }
    }
    assert!(sent > credit, "the socket itself takes some");
    let mut got = 0;
    let mut bytes = [0; 8192];
    while got < sent {
        match stream.read(&mut bytes) {
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => driver.turn(),
            Err(e) => panic!("{e}"),
        }
    }
    driver.turn();
    let last = driver
        .exchange()
        .last()
        .map_or(told, |(header, _)| header.fwd_cnt as usize);
    assert!(
        sent - last < credit / 4,
        "the guest knows of {last} of {sent}"
    );
}

#[test]
fn slow_host_costs_no_more_memory_than_the_credit_given() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(7);
    let credit = 256 << 10;
    let (mut sent, mut told, mut most) = (0, 0, 0);
    let mut bytes = [0; 3000];
    // The guest sends as fast as it may; the host takes a little at a time, so that the buffer is never
    // empty and always wanders.
    for _ in 0..4_000 {
        if sent + 4000 - told <= credit {
            driver.send(packet(op::RW, host, 7), &[b'm'; 4000]);
            sent += 4000;
        } else if stream.read(&mut bytes).is_ok() {
            driver.turn();
        }
        for (header, _) in driver.exchange() {
            told = told.max(header.fwd_cnt as usize);
        }
        let id = driver.device.streams.ids()[0];
        let held = driver.device.streams.get(id).map(|s| s.buffer.capacity());
        most = most.max(held.unwrap_or(0));
    }
    assert!(sent > 1 << 20, "{sent} bytes went through");
    assert!(most > 100_000 && most <= credit, "{most} bytes were held");
}

#[test]
fn host_half_close_comes_after_the_last_byte_and_leaves_the_other_way() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(7);
    stream.write_all(b"last").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let got = driver.exchange();
    assert_eq!(ops(&got), [op::RW, op::SHUTDOWN]);
    assert_eq!(got[1].0.flags, shut::SEND);
    driver.send(packet(op::RW, host, 7), b"still");
    let mut bytes = [0; 16];
    assert_eq!(stream.read(&mut bytes).unwrap(), 5);
}

#[test]
fn guest_half_close_comes_after_the_last_byte_and_leaves_the_other_way() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(7);
    driver.send(packet(op::RW, host, 7), b"last");
    driver.send(
        Header {
            flags: shut::SEND,
            ..packet(op::SHUTDOWN, host, 7)
        },
        &[],
    );
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"last");
    stream.write_all(b"still").unwrap();
    assert_eq!(payload(driver.exchange()), b"still");
}

#[test]
fn guest_that_stops_receiving_is_a_broken_pipe_to_the_host() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(7);
    driver.send(
        Header {
            flags: shut::RECEIVE,
            ..packet(op::SHUTDOWN, host, 7)
        },
        &[],
    );
    assert_eq!(
        stream.write(b"x").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    driver.send(packet(op::RW, host, 7), b"still");
    let mut bytes = [0; 16];
    assert_eq!(stream.read(&mut bytes).unwrap(), 5);
}

#[test]
fn guests_close_is_answered_and_its_last_bytes_reach_a_slow_host() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(7);
    let mut sent = 0;
    // More than the host's socket takes, so that some waits in the device.
    while driver.device.streams() == 1 && sent < 400_000 {
        driver.send(packet(op::RW, host, 7), &[b'z'; 4000]);
        driver.exchange();
        sent += 4000;
    }
    driver.send(
        Header {
            flags: shut::BOTH,
            ..packet(op::SHUTDOWN, host, 7)
        },
        &[],
    );
    assert_eq!(ops(&driver.exchange()), [op::RST]);
    // The guest may use its port again while the old bytes are still on their way.
    let mut got = 0;
    let mut bytes = [0; 8192];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => driver.turn(),
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!(got, sent);
    assert_eq!(driver.device.streams(), 0);
}

#[test]
fn unread_input_does_not_turn_the_end_into_a_reset() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(7);
    // The guest has no room, so the host's bytes stay in the socket.
    driver.send(
        Header {
            buf_alloc: 0,
            ..packet(op::CREDIT_UPDATE, host, 7)
        },
        &[],
    );
    stream.write_all(b"nobody reads this").unwrap();
    driver.send(packet(op::RW, host, 7), b"answer");
    driver.send(
        Header {
            flags: shut::BOTH,
            ..packet(op::SHUTDOWN, host, 7)
        },
        &[],
    );
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "answer");
}

#[test]
fn host_that_leaves_is_told_to_the_guest_and_forgotten_after_its_answer() {
    let mut driver = Driver::new();
    let (stream, host) = driver.open(7);
    drop(stream);
    let got = driver.exchange();
    let flags = got
        .iter()
        .filter(|(h, _)| h.op == op::SHUTDOWN)
        .fold(0, |all, (h, _)| all | h.flags);
    assert_eq!(flags, shut::BOTH);
    assert_eq!(driver.device.streams(), 1);
    driver.send(packet(op::RST, host, 7), &[]);
    assert_eq!(driver.device.streams(), 0);
    assert_eq!(driver.exchange(), []);
}

#[test]
fn streams_take_turns() {
    let mut driver = Driver::new();
    let (mut loud, _) = driver.open(7);
    let (mut quiet, _) = driver.open(8);
    loud.write_all(&[b'l'; 3000]).unwrap();
    quiet.write_all(b"q").unwrap();
    let got = driver.exchange();
    let ports: Vec<_> = got.iter().map(|(header, _)| header.dst_port).collect();
    assert!(
        ports.contains(&8),
        "the quiet one waits behind the loud one: {ports:?}"
    );
}

#[test]
fn full_table_refuses_the_next_stream_both_ways() {
    let mut driver = Driver::new();
    for port in 0..MAX_STREAMS as u32 {
        // One socket for all: none of them opens.
        let (_stream, theirs) = UnixStream::pair().unwrap();
        driver
            .device
            .connect(port, Vec::new(), theirs.into(), Box::new(drop));
        if port % 400 == 399 {
            driver.device.forget_guest();
        }
    }
    assert!(driver.device.streams() < 400);
}

#[test]
fn guest_reset_ends_every_stream() {
    let mut driver = Driver::new();
    let (mut stream, _) = driver.open(7);
    let (_other, outcome) = driver.connect(8);
    driver.device.forget_guest();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(
        outcome.try_recv().unwrap().unwrap_err().0,
        ConnectError::Gone
    );
    assert_eq!(driver.device.streams(), 0);
}

#[test]
fn idle_stream_is_small() {
    // Its entry, its slot, its name; the host's socket is the kernel's.
    let stream = size_of::<super::super::stream::Stream>();
    assert!(stream <= 200, "{stream} bytes");
}

#[test]
fn the_head_of_an_upgrade_is_read_alone() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(1024);
    let head = b"HTTP/1.1 101 UPGRADED\r\n\r\n";
    driver.send(packet(op::RW, host, 1024), head);
    driver.send(packet(op::RW, host, 1024), b"first ");
    driver.send(packet(op::RW, host, 1024), b"second");
    let mut bytes = [0; 64];
    assert_eq!(stream.read(&mut bytes).unwrap(), head.len());
    // The read itself is what lets the rest go.
    driver.turn();
    assert_eq!(stream.read(&mut bytes).unwrap(), 12);
    assert_eq!(&bytes[..12], b"first second");
    driver.send(packet(op::RW, host, 1024), b"third");
    driver.send(packet(op::RW, host, 1024), b"fourth");
    assert_eq!(stream.read(&mut bytes).unwrap(), 11);
}

#[test]
fn what_is_held_back_behind_a_head_outlives_the_guests_end() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(1024);
    driver.send(packet(op::RW, host, 1024), b"HTTP/1.1 101 UPGRADED\r\n\r\n");
    driver.send(packet(op::RW, host, 1024), b"all there is");
    let over = Header {
        flags: shut::BOTH,
        ..packet(op::SHUTDOWN, host, 1024)
    };
    driver.send(over, &[]);
    let mut bytes = [0; 64];
    assert_eq!(stream.read(&mut bytes).unwrap(), 25);
    driver.turn();
    assert_eq!(stream.read(&mut bytes).unwrap(), 12);
    assert_eq!(stream.read(&mut bytes).unwrap(), 0);
    driver.exchange();
    // One that never reads the head is no burden once it is gone.
    let (stream, host) = driver.open(1025);
    driver.send(packet(op::RW, host, 1025), b"HTTP/1.1 101 UPGRADED\r\n\r\n");
    driver.send(packet(op::RW, host, 1025), b"for nobody");
    drop(stream);
    driver.turn();
    driver.send(packet(op::RST, host, 1025), &[]);
    driver.turn();
    assert_eq!(driver.device.streams(), 0);
}
