//! A signal whenever something in a group begins or ceases to listen for connections.
//!
//! A program that the kernel runs at `listen(2)`, and when such a socket is closed, leaves a word in a ring that can be
//! waited for. The word says nothing: who waits looks for itself.
//! Sources: the kernel's `include/uapi/linux/bpf.h` (`BPF_SOCK_OPS_*`), `kernel/bpf/ringbuf.c`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::bpf::{self, Instruction, Kind, Map, instruction};
use super::{Cgroup, CgroupError};
use crate::sys::Ring;

const KIND: Kind = Kind {
    // BPF_PROG_TYPE_SOCK_OPS and BPF_CGROUP_SOCK_OPS.
    program: 13,
    attach: 3,
    name: "lighter_listens",
};

/// One page: words that nobody reads are not missed.
const RING: u32 = 4096;

/// The program and its ring.
#[derive(Debug)]
pub struct ListenSignal {
    program: OwnedFd,
    map: Map,
    ring: Ring,
}

impl ListenSignal {
    /// Loads the program.
    ///
    /// # Errors
    /// The kernel has no such programs, or refused.
    pub fn load() -> rustix::io::Result<Self> {
        let map = Map::ring(RING)?;
        let program = bpf::load(KIND, &compile(&map))?;
        let ring = Ring::of(map.as_fd())?;
        Ok(Self { program, map, ring })
    }

    /// Hears of what is in this group from now on.
    ///
    /// # Errors
    /// The group is gone, or the kernel refused.
    pub fn attach(&self, group: &Cgroup) -> Result<(), CgroupError> {
        bpf::attach(group.as_fd(), self.program.as_fd(), KIND)
            .map_err(|errno| group.fail("attach what hears of listeners", errno))
    }

    /// What becomes readable when there is something to hear.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Forgets what was heard: to be called before looking.
    pub fn clear(&self) {
        self.ring.clear();
    }
}

// `struct bpf_sock_ops`
const OPERATION: i16 = 0;
const FIRST_ARGUMENT: i16 = 4;

const BPF_SOCK_OPS_STATE_CB: i32 = 10;
const BPF_SOCK_OPS_TCP_LISTEN_CB: i32 = 11;
const BPF_SOCK_OPS_STATE_CB_FLAG: i32 = 1 << 2;
const BPF_TCP_LISTEN: i32 = 10;

const BPF_FUNC_SOCK_OPS_CB_FLAGS_SET: i32 = 59;
const BPF_FUNC_RINGBUF_OUTPUT: i32 = 130;

const LOAD_WORD: u8 = 0x61;
const STORE_DOUBLE_IMMEDIATE: u8 = 0x7a;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const ADD_IMMEDIATE: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP_IF_NOT_EQUAL: u8 = 0x56;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// Register 6 is the context.
fn compile(map: &Map) -> Vec<Instruction> {
    let word = |to, offset| instruction(LOAD_WORD, to, 6, offset, 0);
    let number = |to, value| instruction(MOVE_IMMEDIATE, to, 0, 0, value);
    let unless = |of, value, over| instruction(JUMP_IF_NOT_EQUAL, of, 0, over, value);
    let tell = [
        instruction(STORE_DOUBLE_IMMEDIATE, 10, 0, -8, 0),
        map.load_into(1)[0],
        map.load_into(1)[1],
        instruction(MOVE_REGISTER, 2, 10, 0, 0),
        instruction(ADD_IMMEDIATE, 2, 0, 0, -8),
        number(3, 8),
        number(4, 0),
        instruction(CALL, 0, 0, 0, BPF_FUNC_RINGBUF_OUTPUT),
    ];
    let end = tell.len() as i16;
    let mut program = vec![
        instruction(MOVE_REGISTER, 6, 1, 0, 0),
        word(2, OPERATION),
        // One that listens from now on: its end is to be heard of too.
        unless(2, BPF_SOCK_OPS_TCP_LISTEN_CB, 4),
        instruction(MOVE_REGISTER, 1, 6, 0, 0),
        number(2, BPF_SOCK_OPS_STATE_CB_FLAG),
        instruction(CALL, 0, 0, 0, BPF_FUNC_SOCK_OPS_CB_FLAGS_SET),
        instruction(JUMP, 0, 0, 3, 0),
        // One that did.
        unless(2, BPF_SOCK_OPS_STATE_CB, end + 2),
        word(2, FIRST_ARGUMENT),
        unless(2, BPF_TCP_LISTEN, end),
    ];
    program.extend(tell);
    program.push(number(0, 1));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_the_program_and_nothing_is_heard_yet() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root to load programs");
            return;
        }
        let signal = ListenSignal::load().unwrap();
        let mut waits = [rustix::event::PollFd::new(
            &signal.map,
            rustix::event::PollFlags::IN,
        )];
        let none = rustix::event::Timespec::default();
        assert_eq!(rustix::event::poll(&mut waits, Some(&none)).unwrap(), 0);
        signal.clear();
    }
}
