//! The vsock device with a real guest under every backend: every byte, every half-close, many streams.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod support;

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::mpsc,
};

use lighter_machine::Error;
use support::{
    PATIENCE,
    guest::{Guest, each},
    port, until,
};

#[test]
fn echo_comes_back_and_nobody_listening_is_refused() {
    each(&kernel_or_skip!(), |guest| {
        let guest = guest.boot();
        let mut stream = guest.connect(port::ECHO);
        for len in [1, 100, 5_000, 200_000] {
            let sent = vec![b'e'; len];
            let mut writer = stream.try_clone().unwrap();
            let copy = sent.clone();
            let sender = std::thread::spawn(move || writer.write_all(&copy).unwrap());
            let mut got = vec![0; len];
            stream.read_exact(&mut got).unwrap();
            sender.join().unwrap();
            assert!(got == sent);
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(
            guest.try_connect(999).unwrap_err(),
            Error::Refused { port: 999 }
        );
    });
}

/// Carries `total` bytes each way at once, shared among streams.
fn carry(guest: &Guest, streams: u64, total: u64) {
    let share = (total / streams).max(1);
    let started = std::time::Instant::now();
    let threads: Vec<_> = (0..streams)
        .map(|number| {
            let mut stream = guest.connect(port::DUPLEX);
            let thread = std::thread::Builder::new().stack_size(512 << 10);
            thread
                .spawn(move || duplex(&mut stream, share, 0x5eed_0000 + number))
                .unwrap()
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    let rate = (share * streams) as f64 / seconds / (1 << 20) as f64;
    eprintln!(
        "{streams} streams: {} MiB each way, {rate:.0} MiB/s each way",
        (share * streams) >> 20
    );
}

fn duplex(stream: &mut UnixStream, share: u64, seed: u64) {
    let mut head = share.to_le_bytes().to_vec();
    head.extend_from_slice(&seed.to_le_bytes());
    stream.write_all(&head).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::Builder::new().stack_size(512 << 10);
    let sender = sender
        .spawn(move || support::give_pattern(&mut writer, share, !seed))
        .unwrap();
    support::take_pattern(stream, share, seed);
    sender.join().unwrap();
    let mut verdict = Vec::new();
    stream.read_to_end(&mut verdict).unwrap();
    assert_eq!(verdict, [1], "the guest saw a wrong byte");
}

#[test]
fn bytes_are_exact_both_ways_at_once_among_1_64_and_1000_streams() {
    each(&kernel_or_skip!(), |guest| {
        let guest = guest.boot();
        let total = support::count(16 << 20, 1 << 30);
        for streams in [1, 64, 1000] {
            carry(&guest, streams, total);
        }
        until("all streams closed", || {
            (guest.vm.observe().streams == 0).then_some(())
        });
    });
}

#[test]
fn gibibyte_comes_back_byte_for_byte_and_both_ends_have_its_digest() {
    each(&kernel_or_skip!(), |guest| {
        let guest = guest.boot();
        let total = support::count(16 << 20, 1 << 30);
        let mut stream = guest.connect(port::DIGEST_ECHO);
        let mut writer = stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            support::give_pattern(&mut writer, total, 0xec40);
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut pattern = support::Pattern(0xec40);
        let mut digest = support::Digest::default();
        let (mut bytes, mut expected) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        for piece in 0..total >> 16 {
            stream.read_exact(&mut bytes).unwrap();
            pattern.fill(&mut expected);
            assert!(bytes == expected, "a wrong byte in piece {piece}");
            digest.add(&expected);
        }
        sender.join().unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, digest.value().to_le_bytes(), "what the guest heard");
    });
}

#[test]
fn host_half_close_ends_the_guests_input_and_leaves_its_output() {
    each(&kernel_or_skip!(), |guest| {
        let guest = guest.boot();
        // The echo answers everything it got before the end, also what it was slow to answer.
        let mut stream = guest.connect(port::ECHO);
        let sent = vec![b'h'; 3 << 20];
        let mut writer = stream.try_clone().unwrap();
        let copy = sent.clone();
        let sender = std::thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        sender.join().unwrap();
        assert!(got == sent);
    });
}

#[test]
fn guest_half_close_ends_the_hosts_input_and_leaves_its_output() {
    each(&kernel_or_skip!(), |guest| {
        let guest = guest.boot();
        let (sender, calls) = mpsc::channel();
        guest.vm.listen(
            1026,
            Some(Box::new(move |_| {
                let (ours, theirs) = UnixStream::pair().ok()?;
                sender.send(ours).ok()?;
                Some(theirs.into())
            })),
        );
        let mut stream = guest.connect(port::HALF_CLOSE);
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "guest speaks first");
        stream.write_all(&vec![b'g'; 1 << 20]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut count = [0; 8];
        calls
            .recv_timeout(PATIENCE)
            .unwrap()
            .read_exact(&mut count)
            .unwrap();
        assert_eq!(u64::from_le_bytes(count), 1 << 20);
    });
}

#[test]
fn guest_reaches_only_ports_somebody_listens_on() {
    each(&kernel_or_skip!(), |guest| {
        let guest = guest.boot();
        let ask = |host_port: u32| {
            let mut stream = guest.connect(port::CONNECT_BACK);
            stream.write_all(&host_port.to_le_bytes()).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        for host_port in [1, 1024, 1025, 1026, 1027, u32::MAX - 1] {
            assert_eq!(
                ask(host_port),
                "refused: ConnectionReset",
                "port {host_port}"
            );
        }
        guest.vm.listen(
            1026,
            Some(Box::new(|_| {
                let (mut ours, theirs) = UnixStream::pair().ok()?;
                // A host that closed at once would not let the guest speak.
                std::thread::spawn(move || {
                    ours.write_all(b"welcome").unwrap();
                    ours.read_to_end(&mut Vec::new()).unwrap();
                });
                Some(theirs.into())
            })),
        );
        assert_eq!(ask(1026), "welcome");
        guest.vm.listen(1026, None);
        assert_eq!(ask(1026), "refused: ConnectionReset");
    });
}

#[test]
fn stalled_guest_reader_stops_its_writer_and_nobody_else() {
    each(&kernel_or_skip!(), |guest| {
        let guest = guest.boot();
        let mut stalled = guest.connect(port::STALLED);
        stalled.set_nonblocking(true).unwrap();
        let chunk = vec![b'x'; 64 << 10];
        let mut written = 0;
        // Full once the guest's buffer, ours and the socket's are: far below what is tried.
        let full = loop {
            match stalled.write(&chunk) {
                Ok(n) => written += n,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::sleep(std::time::Duration::from_millis(200));
                    match stalled.write(&chunk) {
                        Ok(n) => written += n,
                        Err(_) => break true,
                    }
                }
                Err(e) => panic!("{e}"),
            }
            if written > 16 << 20 {
                break false;
            }
        };
        assert!(full, "{written} bytes went to a guest that reads nothing");
        carry(&guest, 4, 4 << 20);
        drop(guest.connect(port::RELEASE));
        stalled.set_nonblocking(false).unwrap();
        stalled.shutdown(Shutdown::Write).unwrap();
        let mut count = [0; 8];
        stalled.read_exact(&mut count).unwrap();
        assert_eq!(u64::from_le_bytes(count), written as u64);
    });
}

#[test]
fn stalled_host_reader_stops_its_writer_and_nobody_else() {
    each(&kernel_or_skip!(), |guest| {
        let guest = guest.boot();
        let mut stalled = guest.connect(port::SOURCE);
        let mut first = [0; 1];
        stalled.read_exact(&mut first).unwrap();
        carry(&guest, 4, 4 << 20);
        // The source goes on where it stood, and learns that its reader left.
        let mut rest = vec![0; 4 << 20];
        stalled.read_exact(&mut rest).unwrap();
        assert!(first == *b"s" && rest.iter().all(|byte| *byte == b's'));
        drop(stalled);
        until("the source's end", || {
            (guest.vm.observe().streams == 0).then_some(())
        });
    });
}

#[test]
fn connect_storm_leaves_nothing_behind() {
    each(&kernel_or_skip!(), |guest| {
        let guest = guest.boot();
        for round in 0..support::count(4, 400) {
            let answers: Vec<_> = (0..250)
                .map(|n| guest.ask(if n % 5 == 0 { 999 } else { port::CROWD }))
                .collect();
            for (n, (mut stream, answer)) in answers.into_iter().enumerate() {
                let answer = answer
                    .recv_timeout(PATIENCE)
                    .unwrap()
                    .map_err(|(error, _)| error);
                if n % 5 == 0 {
                    assert_eq!(answer.unwrap_err(), Error::Refused { port: 999 });
                } else {
                    answer.unwrap();
                    // Some leave at once, some after a word, some while an answer is on its way.
                    if (n + round) % 3 > 0 {
                        stream.write_all(b"x").unwrap();
                    }
                    if (n + round) % 3 > 1 {
                        stream.read_exact(&mut [0]).unwrap();
                    }
                }
            }
        }
        until("all streams closed", || {
            (guest.vm.observe().streams == 0).then_some(())
        });
        carry(&guest, 1, 1 << 20);
    });
}

#[test]
fn round_trip_is_reported() {
    each(&kernel_or_skip!(), |guest| {
        let guest = guest.boot();
        let mut stream = guest.connect(port::ECHO);
        let mut samples: Vec<_> = (0..support::count(500, 20_000))
            .map(|_| {
                let start = std::time::Instant::now();
                stream.write_all(b"p").unwrap();
                stream.read_exact(&mut [0]).unwrap();
                start.elapsed()
            })
            .collect();
        samples.sort();
        let at = |part: f64| samples[((samples.len() - 1) as f64 * part) as usize];
        eprintln!(
            "round trip: median {:?}, 99 of 100 below {:?}",
            at(0.5),
            at(0.99)
        );
    });
}
