//! The log of what is done to a disk, by the reader that also has QEMU's: `lighter_tests::disk_log`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use lighter_tests::disk_log::{DiskLog, Entry};
use lighter_tests::random::Random;
use rustix::fs::{MemfdFlags, SealFlags};
use vm_memory::{Bytes as _, GuestAddress};

use super::*;
use crate::blk::file::{Done, NoRoom};
use crate::blk::log::{Change, Log};

fn logged() -> (Guest, File, File) {
    let (disk, log) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    disk.set_len(LENGTH).unwrap();
    let guest = with_log(&disk, &log);
    (guest, disk, log)
}

fn with_log(disk: &File, log: &File) -> Guest {
    let [disk, log] = [disk, log].map(|file| file.try_clone().unwrap());
    Guest::up(crate::blk::device(disk, false, Full::default(), Some(log)).unwrap())
}

fn read(log: &File) -> DiskLog {
    DiskLog::of(log.try_clone().unwrap())
}

/// The disk that a log makes of an empty one.
fn replayed(log: &DiskLog, length: u64) -> Vec<u8> {
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(length).unwrap();
    for entry in &log.entries {
        log.apply(entry, entry.sectors(), &disk).unwrap();
    }
    content(&disk, length)
}

fn content(file: &File, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Sector and number of sectors, and whether it flushes and discards.
fn shown(entry: &Entry) -> (u64, u64, bool, bool) {
    let (flushes, discards) = (entry.flushes, entry.discards);
    (entry.to / 512, entry.sectors(), flushes, discards)
}

#[test]
fn what_is_done_is_in_the_log_when_it_is_told_in_order_and_in_form() {
    let (mut guest, disk, log) = logged();
    assert_eq!(read(&log).entries, []);
    let bytes: Vec<u8> = (0..1536u32).map(|n| n as u8 | 1).collect();
    guest.put(BUFFER, &bytes);
    let parts = [reads(BUFFER, 512), reads(BUFFER + 512, 1024)];
    let mut expected = Vec::new();
    let mut each = |kind, sector, parts: &[Part], entries: &[(u64, u64, bool, bool)]| {
        assert_eq!(ask(&mut guest, kind, sector, parts), OK);
        expected.extend_from_slice(entries);
        let log = read(&log);
        let shown: Vec<_> = log.entries.iter().map(shown).collect();
        assert_eq!(shown, expected);
        assert_eq!(log.counted, expected.len() as u64);
        // The guest has other plans for its memory.
        guest.put(BUFFER, &[0xff; 1536]);
        guest.put(BUFFER, &range(4, 1, 0));
        guest.put(BUFFER + 16, &[range(3, 1, 1), range(30, 1000, 0)].concat());
        assert_eq!(replayed(&log, LENGTH), content(&disk, LENGTH));
    };
    each(WRITE, 3, &parts, &[(3, 3, false, false)]);
    each(FLUSH, 0, &[], &[(0, 0, true, false)]);
    each(DISCARD, 0, &[reads(BUFFER, 16)], &[(4, 1, false, true)]);
    let zeroes = [(3, 1, false, false), (30, 1000, false, false)];
    each(ZEROES, 0, &[reads(BUFFER + 16, 32)], &zeroes);
    each(WRITE, 40, &parts, &[(40, 3, false, false)]);
    each(FLUSH, 0, &[], &[(0, 0, true, false)]);

    let sector = |at: u64| {
        let mut sector = [0; 512];
        log.read_exact_at(&mut sector, at).unwrap();
        sector
    };
    let of = |words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut sector = [0; 512];
        sector[..bytes.len()].copy_from_slice(&bytes);
        sector
    };
    assert_eq!(sector(0), of(&[0x006a_7366_7773_6872, 1, 7, 512]));
    assert_eq!(sector(512), of(&[3, 3]));
    assert_eq!(sector(5 * 512), of(&[0, 0, 1]));
    assert_eq!(sector(6 * 512), of(&[4, 1, 4]));
}

#[test]
fn what_is_longer_than_a_piece_is_in_the_log_to_its_end() {
    let (mut guest, disk, log) = logged();
    let length = 600 << 10;
    let bytes: Vec<u8> = (0..length).map(|n: u32| (n % 251) as u8).collect();
    guest.put(BUFFER, &bytes);
    assert_eq!(ask(&mut guest, WRITE, 5, &[reads(BUFFER, length)]), OK);
    assert_eq!(ask(&mut guest, WRITE, 9, &[reads(BUFFER, 512)]), OK);
    let log = read(&log);
    assert_eq!(log.entries.len(), 2);
    assert!(replayed(&log, LENGTH) == content(&disk, LENGTH));
}

#[test]
fn what_was_not_done_is_not_in_the_log() {
    let (mut guest, _disk, log) = logged();
    let beyond = LENGTH / 512;
    let sector = [reads(BUFFER, 512)];
    assert_eq!(ask(&mut guest, WRITE, beyond, &sector), FAILED);
    guest.put(BUFFER, &range(0, 8, 1));
    let ranges = [reads(BUFFER, 16)];
    assert_eq!(ask(&mut guest, DISCARD, 0, &ranges), UNSUPPORTED);
    guest.put(BUFFER, &range(beyond, 8, 0));
    assert_eq!(ask(&mut guest, ZEROES, 0, &ranges), FAILED);
    assert_eq!(ask(&mut guest, READ, 0, &[writes(BUFFER, 512)]), OK);
    assert_eq!(ask(&mut guest, NAME, 0, &[writes(BUFFER, 20)]), OK);
    // Nothing at all, where an entry of it would read as the end.
    assert_eq!(ask(&mut guest, WRITE, 0, &[]), OK);
    assert_eq!(read(&log).entries, []);
    assert_eq!(ask(&mut guest, WRITE, 0, &sector), OK);
    assert_eq!(read(&log).entries.len(), 1);

    let full = File::options().write(true).open("/dev/full").unwrap();
    let log = tempfile::tempfile().unwrap();
    let disk =
        Disk::new(full, LENGTH, false).logged(Some(Log::new(log.try_clone().unwrap()).unwrap()));
    let write = request(What::Write, 0, 0, 512);
    assert_eq!(disk.do_it(&write, &guest.memory), Err(NoRoom));
    // Nor can it be flushed.
    let flush = request(What::Flush, 0, 0, 0);
    assert_eq!(disk.do_it(&flush, &guest.memory), Ok(Done::FAILED));
    assert_eq!(read(&log).entries, []);
}

/// A file for a log that can be filled.
fn in_memory() -> File {
    let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    rustix::fs::memfd_create("log", flags).unwrap().into()
}

/// It is never longer than it is once this was called.
fn fill(log: &File) {
    rustix::fs::fcntl_add_seals(log, SealFlags::GROW).unwrap();
}

#[test]
fn what_the_log_has_no_room_for_fails_and_so_does_all_that_follows() {
    for kind in [WRITE, FLUSH, DISCARD, ZEROES] {
        let log = in_memory();
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(LENGTH).unwrap();
        let mut guest = with_log(&disk, &log);
        let sector = [reads(BUFFER, 512)];
        guest.put(BUFFER, &[7; 512]);
        assert_eq!(ask(&mut guest, WRITE, 1, &sector), OK);
        fill(&log);
        guest.put(BUFFER, &range(1, 1, 0));
        let data: &[Part] = match kind {
            WRITE => &sector,
            FLUSH => &[],
            _ => &[reads(BUFFER, 16)],
        };
        assert_eq!(ask(&mut guest, kind, 2, data), FAILED, "request {kind}");
        let found = read(&log);
        assert_eq!((found.entries.len(), found.counted), (1, 1));
        let there = content(&disk, LENGTH);
        assert_eq!(ask(&mut guest, WRITE, 3, &sector), FAILED);
        assert_eq!(ask(&mut guest, FLUSH, 0, &[]), FAILED);
        assert!(content(&disk, LENGTH) == there, "it was written to");
        assert_eq!(ask(&mut guest, READ, 1, &[writes(BUFFER, 512)]), OK);
    }
}

/// Whoever reads an entry has its data, also where the machine was killed between the two.
#[test]
fn what_the_log_has_no_room_for_the_data_of_is_not_in_it() {
    for kind in [WRITE, ZEROES] {
        let (log, disk) = (in_memory(), tempfile::tempfile().unwrap());
        disk.set_len(LENGTH).unwrap();
        let mut guest = with_log(&disk, &log);
        assert_eq!(ask(&mut guest, WRITE, 1, &[reads(BUFFER, 512)]), OK);
        let end = log.metadata().unwrap().len();
        log.set_len(end + 512).unwrap();
        fill(&log);
        guest.put(BUFFER, &range(1, 1, 0));
        let length = if kind == WRITE { 512 } else { 16 };
        assert_eq!(ask(&mut guest, kind, 2, &[reads(BUFFER, length)]), FAILED);
        let mut head = [1; 512];
        log.read_exact_at(&mut head, end).unwrap();
        assert_eq!(head, [0; 512], "request {kind}");
    }
}

#[test]
fn a_file_that_is_not_empty_is_left_alone() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(b"x", 0).unwrap();
    assert!(Log::new(file.try_clone().unwrap()).is_err());
    assert_eq!(content(&file, 1), b"x");
    assert_eq!(file.metadata().unwrap().len(), 1);
}

fn request(what: What, sector: u64, address: u64, length: u32) -> Request {
    Request {
        head: 0,
        what,
        offset: Some(sector * 512),
        data: vec![request::Part {
            address: GuestAddress(address),
            length,
        }],
        length: length.into(),
        status: GuestAddress(0),
    }
}

/// The ring's own thread would stand still for as long as a flush lasts.
#[test]
fn a_write_that_may_wait_for_a_flush_is_left_to_the_pool() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(LENGTH).unwrap();
    let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    let write = request(What::Write, 0, 0, 512);
    let disk = Disk::new(file, LENGTH, false);
    assert_eq!(disk.try_now(&write, &memory), Some(Done::OK));
    let log = Log::new(tempfile::tempfile().unwrap()).unwrap();
    assert_eq!(disk.logged(Some(log)).try_now(&write, &memory), None);
}

/// They write over each other, and the guest over what is written.
#[test]
fn the_log_is_the_disk_whoever_else_writes_at_the_same_time() {
    const SECTORS: u64 = 64;
    const RANGES: u64 = 0x8000;
    let (file, log) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    file.set_len(SECTORS * 512).unwrap();
    let disk = Disk::new(file.try_clone().unwrap(), SECTORS * 512, false)
        .logged(Some(Log::new(log.try_clone().unwrap()).unwrap()));
    let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    let over = AtomicBool::new(false);
    let seed = lighter_tests::env::seed();
    let rounds = lighter_tests::env::count(400, 20_000);
    let work = |worker: u64| {
        let mut random = Random::from(seed ^ worker << 32);
        for _ in 0..rounds {
            let sector = random.below(SECTORS - 8);
            let what = random.one_of(&[
                What::Write,
                What::Write,
                What::Zero,
                What::Discard,
                What::Flush,
            ]);
            let request = match what {
                What::Write => request(what, sector, 0, 8 * 512),
                What::Flush => request(what, 0, 0, 0),
                _ => {
                    let place = RANGES + worker * 16;
                    let range = range(sector, 1 + random.below(8) as u32, 0);
                    memory.write_slice(&range, GuestAddress(place)).unwrap();
                    request(what, 0, place, 16)
                }
            };
            assert_eq!(disk.do_it(&request, &memory), Ok(Done::OK), "{request:?}");
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for fill in (0..=u8::MAX).cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                memory
                    .write_slice(&[fill; 8 * 512], GuestAddress(0))
                    .unwrap();
            }
        });
        let workers = [1, 2, 3].map(|worker| scope.spawn(move || work(worker)));
        let done = workers.map(|worker| worker.join());
        over.store(true, Ordering::Relaxed);
        assert!(done.iter().all(Result::is_ok));
    });
    let log = read(&log);
    assert_eq!(log.entries.len() as u64, 3 * rounds);
    assert_eq!(log.counted, 3 * rounds);
    assert!(replayed(&log, SECTORS * 512) == content(&file, SECTORS * 512));
}

/// A write that is done meanwhile would stand before a flush, which may not have it, or on the other side of another write.
#[test]
fn nothing_is_done_to_a_disk_between_a_change_and_its_entry() {
    let (offset, length) = (0, 512);
    let write = Change::Write { offset, length };
    let changes = [
        (Change::Flush, (0, 0, true, false)),
        (write, (0, 1, false, false)),
        (Change::Zero { offset, length }, (0, 1, false, false)),
        (Change::Discard { offset, length }, (0, 1, false, true)),
    ];
    for (change, entry) in changes {
        let (disk, file) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        disk.set_len(512).unwrap();
        let log = Log::new(file.try_clone().unwrap()).unwrap();
        let (asks, asked) = mpsc::channel();
        let begun = AtomicBool::new(false);
        let meanwhile = || {
            asks.send(()).unwrap();
            log.record(write, &disk, || {
                begun.store(true, Ordering::Release);
                Ok(Done::OK)
            })
        };
        thread::scope(|scope| {
            let done = log.record(change, &disk, || {
                scope.spawn(meanwhile);
                asked.recv().unwrap();
                // It had every opportunity.
                for _ in 0..1_000 {
                    thread::yield_now();
                }
                assert!(!begun.load(Ordering::Acquire));
                Ok(Done::OK)
            });
            assert_eq!(done, Ok(Done::OK));
        });
        let shown: Vec<_> = read(&file).entries.iter().map(shown).collect();
        assert_eq!(shown, [entry, (0, 1, false, false)]);
    }
}
