//! A door for `tests/fuzz`: what a monitor hands on from its guest, in any order. The memory, which the monitor says by
//! itself, is as it should be.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::EventfdFlags;
use vhost::vhost_user::VhostUserBackendReqHandlerMut as _;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserVringAddrFlags};
use virtio_queue::Queue;
use vm_memory::{Bytes as _, GuestAddress};

use super::{Front, Mapping, Rings};
use crate::fuzz::Program;
use crate::ring::{BadRing, Memory, Ring};

/// More steps add nothing but time.
const STEPS: usize = 64;
const MEMORY: usize = 0x1_0000;
/// Where the monitor has the guest's memory.
const USER: u64 = 0x7000_0000_0000;

/// A device that takes one chain of each ring that it is given.
#[derive(Clone)]
struct Taking(Arc<Mutex<State>>);

struct State {
    memory: Arc<Memory>,
    rings: [Option<Ring>; 2],
}

impl Taking {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Rings for Taking {
    const COUNT: usize = 2;
    const FEATURES: u64 = 1 << 5;

    fn config(&self) -> Vec<u8> {
        vec![1, 2, 3, 4, 5]
    }

    fn set_features(&self, features: u64) {
        let offered = Self::FEATURES | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 32;
        assert_eq!(features & !offered, 0, "features that nobody offered");
    }

    fn set_memory(&self, memory: Arc<Memory>) {
        self.with(|state| state.memory = memory);
    }

    fn start_ring(
        &self,
        index: usize,
        queue: Queue,
        kick: OwnedFd,
        call: Option<OwnedFd>,
    ) -> Result<(), BadRing> {
        self.with(|state| {
            let place = state.rings.get_mut(index).ok_or(BadRing)?;
            assert!(place.is_none(), "a ring that runs is started again");
            let mut ring = Ring::new(&state.memory, queue, kick, call)?;
            if let Ok(Some(chain)) = ring.pop(&state.memory) {
                let head = chain.head_index();
                _ = ring.push_used(&state.memory, head, chain.count() as u32);
            }
            *place = Some(ring);
            Ok(())
        })
    }

    fn stop_ring(&self, index: usize) -> Option<u16> {
        self.with(|state| Some(state.rings.get_mut(index)?.take()?.base()))
    }

    fn set_call(&self, index: usize, call: Option<OwnedFd>) {
        self.with(|state| {
            if let Some(Some(ring)) = state.rings.get_mut(index) {
                ring.set_call(call);
            }
        });
    }

    fn forget_guest(&self) {}
}

/// Runs the rest of a program.
pub(crate) fn run(program: &mut Program<'_>) {
    let Ok(memory) = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]) else {
        return;
    };
    let memory = Arc::new(memory);
    let device = Taking(Arc::new(Mutex::new(State {
        memory: Arc::clone(&memory),
        rings: [None, None],
    })));
    let mut front = Front::new(device);
    front.mappings = vec![Mapping {
        user: USER,
        size: MEMORY as u64,
        guest: 0,
    }];
    for _ in 0..STEPS {
        if program.is_over() {
            break;
        }
        step(&mut front, &memory, program);
    }
}

/// One message; a refusal is as good as an answer.
fn step(front: &mut Front<Taking>, memory: &Memory, program: &mut Program<'_>) {
    let (opcode, index) = (program.u8() % 12, program.u8());
    let ring = u32::from(index);
    match opcode {
        0 => _ = front.set_features(program.u64()),
        1 => _ = front.set_vring_num(ring, program.u32()),
        2 => {
            let mut place = || match program.u8() & 1 {
                0 => USER + u64::from(program.u16()),
                _ => program.u64(),
            };
            let (table, used, available) = (place(), place(), place());
            let flags = VhostUserVringAddrFlags::empty();
            _ = front.set_vring_addr(ring, flags, table, used, available, 0);
        }
        3 => _ = front.set_vring_base(ring, program.u32()),
        4 => _ = front.get_vring_base(ring),
        5 => _ = front.set_vring_kick(index, event(program)),
        6 => _ = front.set_vring_call(index, event(program)),
        7 => _ = front.set_vring_enable(ring, program.u8() & 1 != 0),
        8 => {
            let (offset, size) = (program.u32(), program.u32());
            let flags = VhostUserConfigFlags::empty();
            if let Ok(bytes) = front.get_config(offset, size, flags) {
                assert_eq!(bytes.len(), size as usize, "a part of a configuration");
            }
        }
        9 => _ = front.reset_device(),
        10 => {
            let (at, bytes) = (program.u16(), program.bytes::<8>());
            // What is outside of the memory is not written.
            _ = memory.write_slice(&bytes, GuestAddress(at.into()));
        }
        // All that one ring needs, at a place of its own.
        _ => {
            let at = USER + u64::from(index & 1) * 0x4000;
            _ = front.set_vring_num(ring & 1, 16);
            let flags = VhostUserVringAddrFlags::empty();
            let (used, available) = (at + 0x2000, at + 0x1000);
            _ = front.set_vring_addr(ring & 1, flags, at + 0x100, used, available, 0);
            _ = front.set_vring_kick(index & 1, event(program));
            _ = front.set_vring_enable(ring & 1, true);
        }
    }
}

fn event(program: &mut Program<'_>) -> Option<File> {
    if program.u8() & 1 != 0 {
        return None;
    }
    let event = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
    event.ok().map(File::from)
}
