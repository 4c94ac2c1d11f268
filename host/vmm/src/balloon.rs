//! The virtio balloon (virtio 1.2, 5.5), for one purpose: pages that the guest reports as free go back to the host.
//!
//! Its size is always zero: the host never asks for memory, the guest gives by itself what it does not use. A page
//! given back reads as zeros when the guest uses it again.

use std::io;
use std::sync::Arc;

use lighter_platform::sys::threads::Role;
use rustix::fs::FallocateFlags;
use vm_memory::{Address as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _};

use crate::device::Identity;
use crate::ring::{BadRing, Memory, Ring};
use crate::roles;
use crate::service::{Handler, Served, Waker};

const KIND: u32 = 5;
const RING: u16 = 128;
/// The host may take pages back when the guest is out of memory, which it never has.
const DEFLATE_ON_OOM: u64 = 1 << 2;
const REPORTING: u64 = 1 << 5;
/// Rings: inflate, deflate, and as the third the reports.
const RINGS: usize = 3;
pub(crate) const REPORTS: usize = 2;

/// The device, with its thread.
///
/// # Errors
/// When the system gives none.
pub fn device() -> io::Result<Served> {
    Served::new(identity(), "balloon", Waker::new()?, Taker)
}

pub(crate) fn identity() -> Identity {
    Identity {
        kind: KIND,
        rings: vec![RING; RINGS],
        features: DEFLATE_ON_OOM | REPORTING,
        // Pages wanted, pages given, a command and the poison's value: all zero.
        config: vec![0; 16],
    }
}

pub(crate) struct Taker;

impl Handler for Taker {
    const ROLE: Role = roles::BALLOON;

    fn serve(
        &mut self,
        index: usize,
        ring: &mut Ring,
        memory: &Arc<Memory>,
    ) -> Result<(), BadRing> {
        while let Some(chain) = ring.pop(memory)? {
            let head = chain.head_index();
            if index == REPORTS {
                // A table elsewhere may have far more entries than the ring.
                let parts = chain.take(RING.into());
                for part in parts.filter(|part| part.is_write_only()) {
                    give_back(memory, part.addr(), part.len().into());
                }
            }
            // What is put into a balloon of no size stays the guest's.
            ring.push_used(memory, head, 0)?;
        }
        Ok(())
    }
}

/// Punches these pages out of the file that is the guest's memory. A wish that is not whole pages of one region is
/// left: memory that stays costs room, and nothing else.
fn give_back(memory: &Memory, from: GuestAddress, length: u64) {
    let Some(region) = memory.find_region(from) else {
        return;
    };
    let Some(file) = region.file_offset() else {
        return;
    };
    let within = from.unchecked_offset_from(region.start_addr());
    let fits = within
        .checked_add(length)
        .is_some_and(|end| end <= region.len());
    let whole = (from.raw_value() | length).is_multiple_of(4096);
    if !fits || !whole || length == 0 {
        return;
    }
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    // Memory that could not be given back stays in use; the guest is none the wiser.
    _ = rustix::fs::fallocate(file.file(), hole, file.start() + within, length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::played::{ELSEWHERE, Guest, INDIRECT, MEMORY, Part, writes};

    const PAGE: u32 = 4096;

    /// A guest whose memory is a file, every byte of it 7 from there on.
    fn guest(from: u64) -> Guest {
        let file = tempfile::tempfile().unwrap();
        file.set_len(MEMORY as u64).unwrap();
        let piece = vm_memory::FileOffset::new(file, 0);
        let range = (GuestAddress(0), MEMORY, Some(piece));
        let memory = Memory::from_ranges_with_files([range]).unwrap();
        let guest = Guest::with(device().unwrap(), Arc::new(memory));
        guest.put(from, &vec![7; MEMORY - from as usize]);
        guest
    }

    fn given_back(guest: &Guest, page: u64) -> bool {
        guest.get(page, PAGE as usize) == [0; PAGE as usize]
    }

    #[test]
    fn whole_pages_are_given_back_and_nothing_else() {
        let first = 0x2_0000;
        let mut guest = guest(first);
        guest.come_up();
        let end = MEMORY as u64;
        for wrong in [
            writes(first + 1, PAGE),
            writes(first, PAGE - 1),
            writes(first, 0),
            writes(end - u64::from(PAGE), 2 * PAGE),
            writes(end, PAGE),
            writes(u64::MAX - 4095, PAGE),
            Part {
                flags: 0,
                ..writes(first, PAGE)
            },
        ] {
            guest.ask(REPORTS as u32, &[wrong]);
        }
        assert_eq!(guest.get(first, 0x1_0000), vec![7; 0x1_0000]);
        guest.ask(REPORTS as u32, &[writes(first + 0x1000, 2 * PAGE)]);
        let back: Vec<bool> = (0..4)
            .map(|n| given_back(&guest, first + n * 0x1000))
            .collect();
        assert_eq!(back, [false, true, true, false]);
    }

    #[test]
    fn what_is_put_into_the_balloon_stays_the_guests() {
        let first = 0x2_0000;
        // One of its own: the rings that a guest here has are at one place, and that of reports may still be looked at.
        let mut guest = guest(first);
        guest.come_up();
        guest.ask(0, &[writes(first, PAGE)]);
        assert_eq!(guest.get(first, 0x1_0000), vec![7; 0x1_0000]);
    }

    #[test]
    fn a_report_is_no_longer_than_its_ring() {
        let first = 0x4_0000;
        let mut guest = guest(first);
        guest.come_up();
        let mut parts = vec![writes(first, PAGE); usize::from(RING)];
        parts.push(writes(first + 0x1000, PAGE));
        guest.chain(INDIRECT, &parts);
        let table = Part {
            address: INDIRECT,
            length: parts.len() as u32 * 16,
            flags: ELSEWHERE,
        };
        guest.ask(REPORTS as u32, &[table]);
        assert!(given_back(&guest, first));
        assert!(!given_back(&guest, first + 0x1000));
    }
}
