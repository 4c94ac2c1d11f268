//! The virtio balloon (virtio 1.2, 5.5), for one purpose: pages that the guest reports as free go back to the host.
//!
//! Its size is always zero: the host never asks for memory, the guest gives by itself what it does not use. A page
//! given back reads as zeros when the guest uses it again.

use std::io;
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use vm_memory::{Address as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _};

use crate::device::Identity;
use crate::ring::{BadRing, Memory, Ring};
use crate::service::{Handler, Served, Waker};

const KIND: u32 = 5;
const RING: u16 = 128;
/// The host may take pages back when the guest is out of memory, which it never has.
const DEFLATE_ON_OOM: u64 = 1 << 2;
const REPORTING: u64 = 1 << 5;
/// Rings: inflate, deflate, and as the third the reports.
const RINGS: usize = 3;
const REPORTS: usize = 2;

/// The device, with its thread.
///
/// # Errors
/// When the system gives none.
pub fn device() -> io::Result<Served> {
    let identity = Identity {
        kind: KIND,
        rings: vec![RING; RINGS],
        features: DEFLATE_ON_OOM | REPORTING,
        // Pages wanted, pages given, a command and the poison's value: all zero.
        config: vec![0; 16],
    };
    Served::new(identity, "balloon", Waker::new()?, Taker)
}

struct Taker;

impl Handler for Taker {
    fn serve(
        &mut self,
        index: usize,
        ring: &mut Ring,
        memory: &Arc<Memory>,
    ) -> Result<(), BadRing> {
        while let Some(chain) = ring.pop(memory)? {
            let head = chain.head_index();
            if index == REPORTS {
                for part in chain.filter(|part| part.is_write_only()) {
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
