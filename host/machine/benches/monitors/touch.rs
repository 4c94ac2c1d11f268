//! What it costs that the guest's memory is a file which processes of devices have too, and not private memory.

use std::time::{Duration, Instant};

use lighter_vmm::ring::Memory;
use vm_memory::{Bytes as _, GuestAddress};

use super::machine::Side;
use super::{Result, row};

const AMOUNT: u64 = 64 << 20;
const PAGE: usize = 4096;

/// Says how long the first touch of every page takes: of memory as our guests have it, and of private memory in the place
/// of the peer. The system gives both in huge pages where it is set to.
pub fn first() -> Result<()> {
    // The first round of each warms the system's code.
    for round in 0..2 {
        for side in super::SIDES {
            let memory = match side {
                Side::Ours => lighter_vmm::kvm::guest_memory(AMOUNT, false)?,
                Side::Microvm => Memory::from_ranges(&[(GuestAddress(0), AMOUNT as usize)])?,
            };
            let taken = touch(&memory)?;
            if round > 0 {
                row("touch", side, taken.as_secs_f64() * 1e3);
            }
        }
    }
    Ok(())
}

fn touch(memory: &Memory) -> Result<Duration> {
    let start = Instant::now();
    for at in (0..AMOUNT).step_by(PAGE) {
        memory.write_obj(1_u8, GuestAddress(at))?;
    }
    Ok(start.elapsed())
}
