//! The disk as a guest uses it, and as a hostile one does.

mod log;

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;

use vm_memory::GuestAddress;

use super::file::{Disk, Done, LONG};
use super::pool::Pool;
use super::request::{self, Request, What};
use super::{Full, MAX_DATA, MAX_RANGE, RING, Requests};
use crate::played::{
    DATA, ELSEWHERE, Guest, INDIRECT, MEMORY, NEEDS_RESET, NEXT, Part, SIZE, TABLE, reads,
    register, writes,
};
use crate::ring::Memory;
use crate::service::{Handler as _, Waker};

const HEADER: u64 = DATA;
const STATUS: u64 = DATA + 0x20;
const BUFFER: u64 = DATA + 0x1000;
const LENGTH: u64 = 1 << 20;

const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const NAME: u32 = 8;
const DISCARD: u32 = 11;
const ZEROES: u32 = 13;

const OK: u8 = 0;
const FAILED: u8 = 1;
const UNSUPPORTED: u8 = 2;
/// What the status is before the device has written one.
const NONE: u8 = 0xee;

fn disk(read_only: bool) -> (Guest, File) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(LENGTH).unwrap();
    let copy = file.try_clone().unwrap();
    let block = super::device(file, read_only, Full::default(), None).unwrap();
    (Guest::up(block), copy)
}

fn header(guest: &Guest, kind: u32, sector: u64) {
    guest.put(HEADER, &kind.to_le_bytes());
    guest.put(HEADER + 4, &[0; 4]);
    guest.put(HEADER + 8, &sector.to_le_bytes());
    guest.put(STATUS, &[NONE]);
}

/// One request with these parts of data; its status.
fn ask(guest: &mut Guest, kind: u32, sector: u64, data: &[Part]) -> u8 {
    header(guest, kind, sector);
    let parts = [&[reads(HEADER, 16)], data, &[writes(STATUS, 1)]].concat();
    guest.ask(0, &parts);
    guest.get(STATUS, 1)[0]
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(sectors.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

#[test]
fn what_is_written_is_in_the_file_and_read_again() {
    let (mut guest, file) = disk(false);
    let bytes: Vec<u8> = (0..1536u32).map(|n| n as u8).collect();
    guest.put(BUFFER, &bytes);
    let parts = [reads(BUFFER, 512), reads(BUFFER + 512, 1024)];
    assert_eq!(ask(&mut guest, WRITE, 3, &parts), OK);
    let mut there = vec![0; 1536];
    file.read_exact_at(&mut there, 3 * 512).unwrap();
    assert_eq!(there, bytes);
    assert_eq!(ask(&mut guest, FLUSH, 0, &[]), OK);
    let parts = [writes(BUFFER + 0x2000, 1000), writes(BUFFER + 0x4000, 536)];
    assert_eq!(ask(&mut guest, READ, 3, &parts), OK);
    assert_eq!(guest.get(BUFFER + 0x2000, 1000), bytes[..1000]);
    assert_eq!(guest.get(BUFFER + 0x4000, 536), bytes[1000..]);
    assert_eq!(guest.written(), 1537);
    assert_eq!(ask(&mut guest, NAME, 0, &[writes(BUFFER, 20)]), OK);
    assert_eq!(guest.get(BUFFER, 8), b"lighter\0");
}

#[test]
fn nothing_reaches_beyond_the_disk() {
    let (mut guest, file) = disk(false);
    let last = LENGTH / 512 - 1;
    let (one, two) = ([reads(BUFFER, 512)], [reads(BUFFER, 1024)]);
    assert_eq!(ask(&mut guest, WRITE, last, &one), OK);
    assert_eq!(ask(&mut guest, WRITE, last, &two), FAILED);
    assert_eq!(ask(&mut guest, WRITE, last + 1, &one), FAILED);
    for sector in [u64::MAX, u64::MAX / 512, 1 << 55] {
        assert_eq!(ask(&mut guest, WRITE, sector, &one), FAILED);
        assert_eq!(
            ask(&mut guest, READ, sector, &[writes(BUFFER, 512)]),
            FAILED
        );
    }
    // Half a sector, memory that is not there, and more of it than there is.
    assert_eq!(ask(&mut guest, WRITE, 0, &[reads(BUFFER, 511)]), FAILED);
    let outside = [writes(MEMORY as u64 - 256, 512)];
    assert_eq!(ask(&mut guest, READ, 0, &outside), FAILED);
    let huge = [writes(BUFFER, 0x7fff_fe00)];
    assert_eq!(ask(&mut guest, READ, 0, &huge), FAILED);
    assert_eq!(file.metadata().unwrap().len(), LENGTH);
}

/// What no driver asks that keeps to what the device says of itself: three of them would keep its end waiting.
#[test]
fn one_request_has_a_bound_and_the_driver_is_told() {
    let file = tempfile::tempfile().unwrap();
    let (sector, part) = (512_u64, 64 << 10);
    let length = 4 << 30;
    file.set_len(length).unwrap();
    let disk = Disk::new(file, length, false);
    let memory = Arc::new(Memory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap());
    let request = |what, parts: usize| Request {
        head: 0,
        what,
        offset: Some(0),
        data: vec![
            request::Part {
                address: GuestAddress(0),
                length: part as u32
            };
            parts
        ],
        length: part as u64 * parts as u64,
        status: GuestAddress(0),
    };
    let most = usize::try_from(MAX_DATA / part as u64).unwrap();
    for what in [What::Read, What::Write] {
        let more = request(what, most + 1);
        assert_eq!(disk.try_now(&more, &memory), Some(Done::FAILED));
        assert_eq!(disk.do_it(&more, &memory), Ok(Done::FAILED));
        let done = disk.do_it(&request(what, most), &memory).unwrap();
        assert_eq!(done.status, OK);
    }
    for what in [What::Discard, What::Zero] {
        let asked = |sectors: u32| {
            let bytes = range(0, sectors, 0);
            vm_memory::Bytes::write_slice(&*memory, &bytes, GuestAddress(0)).unwrap();
            let mut one = request(what, 1);
            (one.data[0].length, one.length) = (16, 16);
            disk.do_it(&one, &memory).unwrap().status
        };
        assert_eq!(asked(MAX_RANGE), OK);
        assert_eq!(asked(MAX_RANGE + 1), FAILED);
    }
    // What the driver reads of it.
    let config = super::config(length / sector);
    let word = |at: usize| u32::from_le_bytes(config[at..at + 4].try_into().unwrap());
    assert!(u64::from(word(8)) * u64::from(word(12)) <= MAX_DATA);
    assert_eq!((word(36), word(48)), (MAX_RANGE, MAX_RANGE));
    let features = super::identity(8, false).features;
    assert_ne!(features & 1 << 1, 0, "the size of a part is told");
}

#[test]
fn holes_are_made_and_zeroes_are_read() {
    let (mut guest, file) = disk(false);
    file.write_all_at(&vec![7; 128 << 10], 0).unwrap();
    let full = file.metadata().unwrap().blocks();
    let mut each = |kind, bytes: &[u8]| {
        guest.put(BUFFER, bytes);
        ask(&mut guest, kind, 0, &[reads(BUFFER, bytes.len() as u32)])
    };
    assert_eq!(each(DISCARD, &range(8, 8, 0)), OK);
    assert_eq!(
        each(ZEROES, &[range(16, 8, 1), range(32, 3, 0)].concat()),
        OK
    );
    assert_eq!(each(DISCARD, &range(0, 8, 1)), UNSUPPORTED);
    assert_eq!(each(ZEROES, &range(0, 8, 2)), UNSUPPORTED);
    assert_eq!(each(DISCARD, &range(LENGTH / 512 - 1, 2, 0)), FAILED);
    assert_eq!(each(DISCARD, &range(u64::MAX, u32::MAX, 0)), FAILED);
    assert_eq!(each(DISCARD, &range(0, 8, 0)[..15]), FAILED);
    assert_eq!(each(DISCARD, &range(0, 0, 0).repeat(17)), FAILED);
    assert_eq!(each(DISCARD, &[]), FAILED);
    let mut bytes = vec![1; 64 * 512];
    file.read_exact_at(&mut bytes, 0).unwrap();
    for (sector, bytes) in bytes.chunks(512).enumerate() {
        let empty = (8..24).contains(&sector) || (32..35).contains(&sector);
        assert_eq!(bytes, [if empty { 0 } else { 7 }; 512], "sector {sector}");
    }
    assert!(
        file.metadata().unwrap().blocks() < full,
        "no room came back"
    );
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    let (mut guest, file) = disk(true);
    assert_eq!(ask(&mut guest, WRITE, 0, &[reads(BUFFER, 512)]), FAILED);
    guest.put(BUFFER, &range(0, 8, 0));
    assert_eq!(ask(&mut guest, DISCARD, 0, &[reads(BUFFER, 16)]), FAILED);
    assert_eq!(ask(&mut guest, ZEROES, 0, &[reads(BUFFER, 16)]), FAILED);
    assert_eq!(ask(&mut guest, READ, 0, &[writes(BUFFER, 512)]), OK);
    assert_eq!(file.metadata().unwrap().blocks(), 0);
    assert_eq!(guest.offered() & (1 << 5 | 1 << 13 | 1 << 14), 1 << 5);
}

#[test]
fn what_nobody_knows_is_unsupported() {
    let (mut guest, _file) = disk(false);
    for kind in [2, 3, 9, 10, 12, 14, u32::MAX] {
        assert_eq!(ask(&mut guest, kind, 0, &[]), UNSUPPORTED, "{kind}");
    }
}

/// A disk whose guest offers what is no request; the device gives up, and works again after a reset.
fn gives_up(what: impl FnOnce(&mut Guest)) {
    let (mut guest, _file) = disk(false);
    header(&guest, WRITE, 0);
    what(&mut guest);
    guest.is_given_up(0);
    assert_eq!(guest.get(STATUS, 1)[0], NONE);
}

#[test]
fn chains_that_are_no_requests_stop_the_device() {
    gives_up(|guest| {
        guest.chain(TABLE, &[reads(HEADER, 16)]);
        guest.offer(0, 0);
    });
    gives_up(|guest| {
        guest.chain(TABLE, &[writes(STATUS, 1)]);
        guest.offer(0, 0);
    });
    gives_up(|guest| {
        guest.chain(TABLE, &[reads(HEADER, 15), writes(STATUS, 1)]);
        guest.offer(0, 0);
    });
    gives_up(|guest| {
        let parts = [reads(HEADER, 16), writes(STATUS, 1), reads(BUFFER, 512)];
        guest.chain(TABLE, &parts);
        guest.offer(0, 0);
    });
    gives_up(|guest| {
        guest.chain(TABLE, &[reads(MEMORY as u64, 16), writes(STATUS, 1)]);
        guest.offer(0, 0);
    });
    gives_up(|guest| {
        guest.chain(TABLE, &[reads(u64::MAX - 3, 16), writes(STATUS, 1)]);
        guest.offer(0, 0);
    });
    // More parts than a request may have, in a table that has room for them.
    gives_up(|guest| {
        let mut parts = vec![reads(BUFFER, 1); 300];
        parts[0] = reads(HEADER, 16);
        parts.push(writes(STATUS, 1));
        guest.chain(INDIRECT, &parts);
        let table = Part {
            address: INDIRECT,
            length: parts.len() as u32 * 16,
            flags: ELSEWHERE,
        };
        guest.chain(TABLE, &[table]);
        guest.offer(0, 0);
    });
    // Lengths whose sum is more than a chain may have.
    gives_up(|guest| {
        header(guest, READ, 0);
        let (most, status) = (writes(BUFFER, u32::MAX), writes(STATUS, 1));
        guest.chain(TABLE, &[reads(HEADER, 16), most, most, status]);
        guest.offer(0, 0);
    });
    // More than the ring has, and a head beyond it.
    gives_up(|guest| {
        guest.set_available(SIZE + 1);
    });
    gives_up(|guest| {
        guest.offer(0, SIZE);
    });
}

/// The host has no room, so nothing is ever given back; a guest that offers the same again all the same is one that
/// wants the host's memory.
#[test]
fn what_was_not_given_back_is_not_taken_again_for_ever() {
    let file = File::options().write(true).open("/dev/full").unwrap();
    let disk = Arc::new(Disk::new(file, LENGTH, false));
    let pool = Pool::spawn(Arc::clone(&disk), Waker::new().unwrap(), Full::default()).unwrap();
    let mut requests = Requests {
        disk,
        pool,
        given: 0,
    };
    // Its own device does not run: what it offers is served here.
    let mut guest = Guest::new(
        super::device(tempfile::tempfile().unwrap(), false, Full::default(), None).unwrap(),
    );
    let mut ring = guest.ring();
    let memory = Arc::clone(&guest.memory);
    header(&guest, WRITE, 0);
    guest.chain(
        TABLE,
        &[reads(HEADER, 16), reads(BUFFER, 512), writes(STATUS, 1)],
    );
    for _ in 0..RING {
        guest.offer(0, 0);
        requests.serve(0, &mut ring, &memory).unwrap();
    }
    guest.offer(0, 0);
    assert!(requests.serve(0, &mut ring, &memory).is_err());
    requests.stop();
    assert_eq!((guest.used(), guest.get(STATUS, 1)[0]), (0, NONE));
}

#[test]
fn what_takes_long_is_given_away() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 * LONG).unwrap();
    let disk = Disk::new(file, 2 * LONG, false);
    let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    let request = |mebibytes: u64| Request {
        head: 0,
        what: What::Write,
        offset: Some(0),
        // A guest may name the same memory as often as it likes.
        data: (0..mebibytes)
            .map(|_| request::Part {
                address: GuestAddress(0),
                length: 1 << 20,
            })
            .collect(),
        length: mebibytes << 20,
        status: GuestAddress(0),
    };
    let most = LONG >> 20;
    assert!(disk.try_now(&request(most), &memory).is_some());
    assert!(disk.try_now(&request(most + 1), &memory).is_none());
}

#[test]
fn a_chain_without_an_end_ends() {
    let (mut guest, _file) = disk(false);
    header(&guest, WRITE, 0);
    // It refers to itself: at most as many parts as the ring has are taken, and none of them is a status.
    let part = Part {
        flags: NEXT,
        ..reads(HEADER, 16)
    };
    guest.descriptor(TABLE, 0, part, 0);
    guest.offer(0, 0);
    guest.is_given_up(0);
}

#[test]
fn an_indirect_table_within_one_is_refused() {
    let (mut guest, _file) = disk(false);
    header(&guest, WRITE, 0);
    let table = |address| Part {
        address,
        length: 48,
        flags: ELSEWHERE,
    };
    guest.descriptor(TABLE, 0, table(INDIRECT), 0);
    let inner = [reads(HEADER, 16), table(INDIRECT), writes(STATUS, 1)];
    guest.chain(INDIRECT, &inner);
    guest.offer(0, 0);
    guest.is_given_up(0);
    assert_eq!(guest.status() & NEEDS_RESET, NEEDS_RESET);
}

#[test]
fn an_indirect_table_is_as_good_as_the_ring() {
    let (mut guest, file) = disk(false);
    header(&guest, WRITE, 1);
    guest.put(BUFFER, &[9; 512]);
    let table = Part {
        address: INDIRECT,
        length: 48,
        flags: ELSEWHERE,
    };
    guest.chain(
        INDIRECT,
        &[reads(HEADER, 16), reads(BUFFER, 512), writes(STATUS, 1)],
    );
    guest.ask(0, &[table]);
    assert_eq!(guest.get(STATUS, 1)[0], OK);
    let mut there = [0; 512];
    file.read_exact_at(&mut there, 512).unwrap();
    assert_eq!(there, [9; 512]);
}

#[test]
fn a_reset_ends_what_was_asked_for() {
    let (mut guest, _file) = disk(false);
    for _ in 0..50 {
        header(&guest, FLUSH, 0);
        guest.chain(TABLE, &[reads(HEADER, 16), writes(STATUS, 1)]);
        guest.offer(0, 0);
        guest.write(register::STATUS, 0);
        // From here on the device writes nothing: what the guest puts there stays.
        guest.put(STATUS, &[NONE]);
        guest.put(TABLE, &[0; 32]);
        assert_eq!(guest.get(STATUS, 1)[0], NONE);
        guest.put(crate::played::USED, &[0; 8]);
        guest.set_available(0);
        guest.negotiate();
        guest.set_ring(0, u32::from(SIZE));
        guest.write(register::STATUS, guest.status() | 4);
        assert_eq!(ask(&mut guest, FLUSH, 0, &[]), OK);
    }
}
