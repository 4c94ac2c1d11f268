//! What a hostile guest can write into its rings and packets. Nothing here may panic, hang, touch
//! memory outside the guest's, or make the device keep more than its bounds.

use crate::ring::Ring;
use std::{io::Write, net::Shutdown, os::unix::net::UnixStream};

use super::{
    super::{
        RING_RX, RING_TX,
        guest::Pieces,
        packet::{HEADER_LEN, Header, op, shut},
    },
    driver::{
        Driver, INDIRECT, Layout, MEMORY, NEXT, ROOM, RX, SIZE, TX, WRITABLE, event, packet, queue,
    },
};

/// After an attack the device must still serve an honest packet.
fn still_works(driver: &mut Driver) {
    let (mut stream, _) = driver.open(77);
    stream.write_all(b"alive").unwrap();
    assert_eq!(driver.exchange()[0].1, b"alive");
}

#[test]
fn ring_outside_memory_or_of_bad_size_never_starts() {
    let driver = Driver::new();
    let start =
        |layout, size| Ring::new(&driver.memory, queue(layout, size), event(), None).is_ok();
    assert!(start(TX, SIZE));
    let end = MEMORY as u64;
    for wild in [end, end - 16, !0xf, 1 << 63] {
        assert!(
            !start(Layout { table: wild, ..TX }, SIZE),
            "table at {wild:#x}"
        );
        assert!(
            !start(
                Layout {
                    available: wild,
                    ..TX
                },
                SIZE
            ),
            "available at {wild:#x}"
        );
        assert!(
            !start(Layout { used: wild, ..TX }, SIZE),
            "used at {wild:#x}"
        );
    }
    // `Queue` keeps its former size, the largest, when given none; that does not fit either.
    assert!(!start(
        Layout {
            table: end - 256,
            ..TX
        },
        0
    ));
}

#[test]
fn self_referential_and_endless_chains_are_given_back() {
    let mut driver = Driver::new();
    driver.descriptor(TX, 3, TX.buffers, 64, NEXT, 3);
    driver.offer(RING_TX, 3);
    for at in 0..SIZE {
        driver.descriptor(TX, at, TX.buffers, 64, NEXT, (at + 1) % SIZE);
    }
    driver.offer(RING_TX, 0);
    driver.turn();
    still_works(&mut driver);
}

#[test]
fn descriptors_with_wild_fields_are_given_back() {
    let mut driver = Driver::new();
    let end = MEMORY as u64;
    let wild = [
        (TX.buffers, u32::MAX, 0, 0),
        (u64::MAX, 64, 0, 0),
        (u64::MAX - 10, 64, 0, 0),
        (end, 64, 0, 0),
        (end - 10, 64, 0, 0),
        (TX.buffers, 0, 0, 0),
        (TX.buffers, 10, 0, 0),
        (TX.buffers, HEADER_LEN as u32 - 1, 0, 0),
        (TX.buffers, 64, WRITABLE, 0),
        (TX.buffers, 64, NEXT, SIZE),
        (TX.buffers, 64, NEXT, u16::MAX),
        (TX.buffers, 64, NEXT | INDIRECT, 0),
        (TX.buffers, 60, INDIRECT, 0),
        (TX.buffers, 0, INDIRECT, 0),
        (TX.buffers, !0xf, INDIRECT, 0),
        (!0xf, 64, INDIRECT, 0),
        (TX.table, 16 * u32::from(SIZE), INDIRECT, 0),
    ];
    for (address, len, flags, next) in wild {
        driver.descriptor(TX, 5, address, len, flags, next);
        driver.offer(RING_TX, 5);
        driver.turn();
    }
    for head in [SIZE, SIZE + 1, u16::MAX] {
        let mut driver = Driver::new();
        driver.offer(RING_TX, head);
        driver.turn();
    }
    still_works(&mut driver);
}

#[test]
fn receive_buffers_of_wrong_shape_are_passed_over() {
    let mut driver = Driver::new();
    driver.descriptor(RX, 1, RX.buffers, 64, 0, 0);
    driver.descriptor(RX, 2, RX.buffers, HEADER_LEN as u32, WRITABLE, 0);
    driver.descriptor(RX, 3, RX.buffers, 0, WRITABLE, 0);
    driver.descriptor(RX, 4, u64::MAX, 4096, WRITABLE, 0);
    driver.descriptor(RX, 5, RX.buffers, 64, WRITABLE | NEXT, 5);
    for head in 1..6 {
        driver.offer(RING_RX, head);
    }
    still_works(&mut driver);
}

#[test]
fn available_index_that_jumps_stops_the_device_until_reset() {
    let mut driver = Driver::new();
    let (_stream, _) = driver.open(7);
    driver.set_available(RING_TX, 12_345);
    driver.turn();
    assert!(!driver.device.ready());
    assert_eq!(driver.device.streams(), 0);
    let (_stream, outcome) = driver.connect(8);
    outcome.try_recv().unwrap().unwrap_err();
}

#[test]
fn payload_beyond_credit_resets_the_stream() {
    let mut driver = Driver::new();
    let (stream, host) = driver.open(7);
    let mut sent = 0;
    // The host reads nothing, and the guest goes on for ever.
    while driver.device.streams() > 0 && sent < 16 << 20 {
        driver.send(packet(op::RW, host, 7), &[0; 4000]);
        driver.exchange();
        sent += 4000;
        if sent > 2 << 20 {
            break;
        }
    }
    let got = driver.exchange();
    assert!(sent <= 2 << 20 || got.is_empty());
    drop(stream);
    driver.turn();
    assert_eq!(
        driver.device.streams(),
        0,
        "reset when the credit was exceeded"
    );
}

#[test]
fn packets_that_make_no_sense_reset_or_vanish() {
    let mut driver = Driver::new();
    // Wrong addresses vanish.
    driver.send(
        Header {
            src_cid: 9,
            ..packet(op::REQUEST, 1026, 1)
        },
        &[],
    );
    driver.send(
        Header {
            dst_cid: 9,
            ..packet(op::REQUEST, 1026, 1)
        },
        &[],
    );
    driver.send(packet(op::RST, 5, 5), &[]);
    assert_eq!(driver.exchange(), []);
    // Anything else about an unknown stream is answered with a reset, once.
    for op in [
        0,
        op::RESPONSE,
        op::SHUTDOWN,
        op::RW,
        op::CREDIT_UPDATE,
        op::CREDIT_REQUEST,
        8,
        u16::MAX,
    ] {
        driver.send(packet(op, 5, 5), &[]);
        let got = driver.exchange();
        assert_eq!((got.len(), got[0].0.op), (1, op::RST), "operation {op}");
    }
    // A length that is not there, a type we do not carry, an answer nobody asked for.
    type Change = fn(Header) -> Header;
    let changes: [Change; 4] = [
        |h| Header {
            len: 1,
            op: op::RW,
            ..h
        },
        |h| Header {
            len: u32::MAX,
            op: op::RW,
            ..h
        },
        |h| Header {
            kind: 2,
            op: op::RW,
            ..h
        },
        |h| Header {
            op: op::RESPONSE,
            ..h
        },
    ];
    for change in changes {
        let (_stream, host) = driver.open(7);
        driver.send_raw(&change(packet(0, host, 7)).encode(), &[]);
        assert_eq!(driver.exchange().last().unwrap().0.op, op::RST);
        assert_eq!(driver.device.streams(), 0);
    }
    still_works(&mut driver);
}

#[test]
fn lying_credit_gives_nothing_and_breaks_nothing() {
    let mut driver = Driver::new();
    let (mut stream, host) = driver.open(7);
    stream.write_all(&[1; 300]).unwrap();
    for (buf_alloc, fwd_cnt) in [(0, 0), (100, 1), (u32::MAX - 1, u32::MAX), (0, u32::MAX)] {
        driver.send(
            Header {
                buf_alloc,
                fwd_cnt,
                ..packet(op::CREDIT_UPDATE, host, 7)
            },
            &[],
        );
        driver.exchange();
    }
    still_works(&mut driver);
}

#[test]
fn flood_of_refusals_without_buffers_is_bounded() {
    let mut driver = Driver::new();
    for n in 0..20_000 {
        driver.send(packet(op::REQUEST, 1, n), &[]);
    }
    let mut answers = 0;
    loop {
        let got = driver.exchange().len();
        if got == 0 {
            break;
        }
        answers += got;
    }
    assert!(answers <= 4096, "{answers} were kept");
    still_works(&mut driver);
}

#[test]
fn streams_that_come_and_go_while_the_guest_takes_nothing_leave_no_trace() {
    let mut driver = Driver::new();
    driver.device.listen(
        1026,
        Some(Box::new(|_| Some(UnixStream::pair().ok()?.1.into()))),
    );
    // No receive buffer is ever offered: the answers wait, and so do their places in the queue.
    for n in 0..5_000 {
        driver.send(packet(op::REQUEST, 1026, n), &[]);
        driver.send(packet(op::RST, 1026, n), &[]);
    }
    assert_eq!(driver.device.streams(), 0);
    let waiting = driver.device.due.len();
    assert!(waiting <= 1024, "{waiting} places are kept for nobody");
    still_works(&mut driver);
}

#[test]
fn zero_length_descriptors_are_bounded_too() {
    let mut driver = Driver::new();
    let table = TX.buffers + 0x8000;
    for at in 0..512u64 {
        let mut bytes = TX.buffers.to_le_bytes().to_vec();
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&(if at == 511 { 0 } else { NEXT }).to_le_bytes());
        bytes.extend_from_slice(&(at as u16 + 1).to_le_bytes());
        vm_memory::Bytes::write_slice(
            &*driver.memory,
            &bytes,
            vm_memory::GuestAddress(table + at * 16),
        )
        .unwrap();
    }
    driver.descriptor(TX, 6, table, 512 * 16, INDIRECT, 0);
    let memory = std::sync::Arc::clone(&driver.memory);
    driver.offer(RING_TX, 6);
    let ring = driver.device.rings[RING_TX].as_mut().unwrap();
    let chain = ring.pop(&memory).unwrap().unwrap();
    assert!(Pieces::collect(&memory, chain, false).is_err());
    ring.put_back(1);
    driver.turn();
    still_works(&mut driver);
}

/// A buffer that is too small for a packet, among those of one batch: each comes back once, whether it was filled or not.
#[test]
fn a_bad_buffer_in_a_batch_costs_no_other_one() {
    // By what is said at the end: nothing but the end, which puts a whole batch back, or less than a batch.
    for last in [0, 10] {
        let mut driver = Driver::new();
        let (mut stream, _) = driver.open(1024);
        // Until the stream takes several buffers at a time, and the whole ring is offered.
        stream.write_all(&[1; 7 * ROOM]).unwrap();
        driver.exchange();
        driver.exchange();
        let next = driver.offered(RING_RX);
        let offered: Vec<u16> = (0..SIZE).map(|n| next.wrapping_add(n) % SIZE).collect();
        let small = offered[2];
        let address = RX.buffers + u64::from(small) * 0x400;
        driver.descriptor(RX, small, address, 10, WRITABLE, 0);
        stream.write_all(&vec![2; last]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        driver.turn();
        // What is left goes to others, in order.
        let others: Vec<_> = (0..SIZE).map(|port| driver.connect(port.into())).collect();
        driver.turn();
        drop(others);
        assert_eq!(driver.heads(RING_RX), offered);
    }
}

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[test]
fn random_packets_and_sockets_never_break_the_device() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut driver = Driver::new();
    driver.device.listen(
        1026,
        Some(Box::new(|_| Some(UnixStream::pair().ok()?.1.into()))),
    );
    let mut streams = Vec::new();
    let mut ports = vec![1026];
    for _ in 0..20_000 {
        match random.below(12) {
            0 if streams.len() < 50 => streams.push(driver.connect(random.below(8) as u32).0),
            1 if !streams.is_empty() => {
                let at = random.below(streams.len() as u64) as usize;
                drop(streams.swap_remove(at));
            }
            2 if !streams.is_empty() => {
                let at = random.below(streams.len() as u64) as usize;
                _ = streams[at].write(&[3; 700]);
            }
            _ => {
                let port = ports[random.below(ports.len() as u64) as usize];
                let header = Header {
                    flags: random.below(4) as u32 & shut::BOTH,
                    buf_alloc: random.below(300) as u32,
                    fwd_cnt: random.below(300) as u32,
                    ..packet(random.below(9) as u16, port, random.below(8) as u32)
                };
                let len = random.below(3000) as usize;
                driver.send(header, &vec![4; len]);
            }
        }
        for (header, _) in driver.exchange() {
            if header.op == op::REQUEST {
                ports.push(header.src_port);
                ports.truncate(64);
            }
        }
    }
    drop(streams);
    driver.device.forget_guest();
    driver.turn();
    assert_eq!(driver.device.streams(), 0);
}
