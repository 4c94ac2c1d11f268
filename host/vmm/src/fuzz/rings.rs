//! The steps of a hostile driver that are the same for every ring, and an honest one after them.

use std::sync::Arc;

use vm_memory::{Bytes as _, FileOffset, GuestAddress};

use super::Program;
use crate::played::{DATA, ELSEWHERE, Guest, INDIRECT, Part, SIZE, TABLE, USED};
use crate::ring::Memory;
use crate::service::Handler;
use crate::service::in_place::InPlace;

/// Bytes of the guest's memory: the rings, and eight pages of data.
const MEMORY: u64 = DATA + 0x8000;
/// Turns that a device has after a step; one that goes on for ever is as good as one at rest.
const TURNS: usize = 8;
/// Parts of a chain at most: some more than any device takes.
const MANY: u16 = 320;
/// Operands have these opcodes; a target has its own from here on.
pub(crate) const OPCODES: u8 = 8;

/// A device with its driver, in a memory that is a file, as a machine's is.
pub(crate) struct Played<H> {
    pub(crate) guest: Guest,
    device: InPlace<H>,
}

impl<H: Handler> Played<H> {
    /// Nothing when the system gives no memory.
    pub(crate) fn new(device: InPlace<H>) -> Option<Self> {
        let file = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
        rustix::fs::ftruncate(&file, MEMORY).ok()?;
        let piece = FileOffset::new(file.into(), 0);
        let range = (GuestAddress(0), MEMORY as usize, Some(piece));
        let memory = Memory::from_ranges_with_files([range]).ok()?;
        Some(Self {
            guest: Guest::with(device.clone(), Arc::new(memory)),
            device,
        })
    }

    /// Makes it as it was at first.
    pub(crate) fn clean(&mut self) {
        self.guest.reset();
        self.guest.put(0, &[0; TABLE as usize]);
        self.guest.put(DATA, &[0; (MEMORY - DATA) as usize]);
    }

    /// Lets the device do what there is to do.
    pub(crate) fn rest(&self) -> bool {
        // Descriptors that are open can be waited for.
        self.device.rest(TURNS).unwrap_or(false)
    }

    /// One step on a ring, of [`OPCODES`], and what the device makes of it.
    pub(crate) fn step(&mut self, opcode: u8, program: &mut Program<'_>) {
        self.prepare(opcode, program);
        // The others do not ring.
        if matches!(opcode, 1 | 4 | 5 | 7) {
            self.rest();
        }
    }

    fn prepare(&mut self, opcode: u8, program: &mut Program<'_>) {
        let guest = &mut self.guest;
        match opcode {
            0 => {
                let at = program.u16();
                let table = [TABLE, INDIRECT][usize::from(at >> 15)];
                let part = part(program);
                guest.descriptor(table, at % 0x400, part, program.u16());
            }
            1 => {
                let (ring, head) = (program.u8(), program.u16());
                guest.offer(ring.into(), head);
            }
            2 => guest.set_available(program.u16()),
            3 => {
                let (address, bytes) = (place(program), program.bytes::<8>());
                // What is outside of the memory is not written.
                _ = guest.memory.write_slice(&bytes, GuestAddress(address));
            }
            4 => {
                // One part that is a table elsewhere.
                let (ring, length) = (program.u8(), program.u32());
                let table = Part {
                    address: INDIRECT,
                    length,
                    flags: ELSEWHERE,
                };
                guest.chain(TABLE, &[table]);
                guest.offer(ring.into(), 0);
            }
            5 => {
                // The same part so often, in a table elsewhere that has room for them.
                let (ring, count) = (program.u8(), program.u16() % MANY);
                let parts = vec![part(program); count.into()];
                guest.chain(INDIRECT, &parts);
                let table = Part {
                    address: INDIRECT,
                    length: u32::from(count) * 16,
                    flags: ELSEWHERE,
                };
                guest.chain(TABLE, &[table]);
                guest.offer(ring.into(), 0);
            }
            6 => {
                guest.reset();
                guest.come_up();
            }
            7 => {
                let (ring, parts) = (program.u8(), [part(program), part(program)]);
                guest.chain(TABLE, &parts);
                guest.offer(ring.into(), 0);
            }
            _ => {}
        }
    }

    /// An honest driver after all of it: how many bytes the device wrote for this chain.
    ///
    /// # Panics
    /// When the device does not serve it.
    pub(crate) fn honest(&mut self, ring: u32, parts: &[Part]) -> u32 {
        self.guest.chain(TABLE, parts);
        let before = self.guest.used();
        self.guest.offer(ring, 0);
        assert!(self.rest(), "the device does not come to rest");
        let used = self.guest.used().wrapping_sub(before);
        assert_eq!(used, 1, "the device does not serve an honest driver");
        self.guest.written()
    }
}

/// A descriptor of any kind; its link is not among it.
fn part(program: &mut Program<'_>) -> Part {
    Part {
        address: place(program),
        length: program.u32(),
        flags: program.u16(),
    }
}

/// An address: of data, within the memory, in the rings, or any at all.
pub(crate) fn place(program: &mut Program<'_>) -> u64 {
    match program.u8() % 4 {
        0 => DATA + u64::from(program.u16()),
        1 => u64::from(program.u16()),
        2 => USED + u64::from(program.u16() % (8 * SIZE)),
        _ => program.u64(),
    }
}
