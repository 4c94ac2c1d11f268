//! The way to a container's name server: programs by which port 53 of 127.0.0.11 is, for whoever is in the
//! container, the port where the engine answers.
//!
//! Nothing listens on port 53 itself, so that a container may have it on every address. Which port it is stands in a
//! table by network namespace: a machine in the container, with networks of its own, is left alone.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::bpf::{self, Instruction, Kind, Map, instruction};
use super::{Cgroup, CgroupError};
use crate::sys;

/// The address that containers ask for names.
const SERVER: [u8; 4] = [127, 0, 0, 11];
/// The port that they ask.
const DOMAIN: u16 = 53;
/// More containers than this have no name server.
const ENTRIES: u32 = 65_536;

const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;

/// Where a program stands, and what it does there.
#[derive(Debug, Clone, Copy)]
struct Hook {
    attach: u32,
    /// Whether the address is an IPv6 one, in which the server's is a mapped one.
    v6: bool,
    /// Whether the port goes from the engine's to 53, and not the other way.
    back: bool,
}

/// `connect`, `sendmsg`, `recvmsg` and `getpeername`; a mapped address that is sent to goes through IPv4's.
const HOOKS: [Hook; 7] = [
    hook(10, false, false),
    hook(11, true, false),
    hook(14, false, false),
    hook(19, false, true),
    hook(20, true, true),
    hook(29, false, true),
    hook(30, true, true),
];

const fn hook(attach: u32, v6: bool, back: bool) -> Hook {
    Hook { attach, v6, back }
}

impl Hook {
    const fn kind(self) -> Kind {
        Kind {
            program: BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
            attach: self.attach,
            name: "lighter_names",
        }
    }
}

/// The programs and their table.
#[derive(Debug)]
pub struct NameRedirect {
    map: Map,
    programs: Vec<(Hook, OwnedFd)>,
}

impl NameRedirect {
    /// Loads the programs.
    ///
    /// # Errors
    /// The kernel has no such programs, or refused.
    pub fn load() -> rustix::io::Result<Self> {
        let map = Map::new(ENTRIES)?;
        let load = |hook: Hook| Ok((hook, bpf::load(hook.kind(), &compile(hook, &map))?));
        let programs = HOOKS.into_iter().map(load).collect::<sys::Result<_>>()?;
        Ok(Self { map, programs })
    }

    /// Attaches them to a container's group, where those of the engine before this one stay: they know the way until this
    /// table has it, and what one of them has changed the other leaves alone.
    ///
    /// # Errors
    /// The group is gone, the kernel refused, or it has them from this table.
    pub fn attach(&self, group: &Cgroup) -> Result<(), CgroupError> {
        self.programs.iter().try_for_each(|(hook, program)| {
            bpf::replace(group.as_fd(), program.as_fd(), hook.kind(), 1)
                .map_err(|errno| group.fail("attach the way to the name server", errno))
        })
    }

    /// Says where the name server of a network namespace listens; `socket` is of that namespace.
    ///
    /// # Errors
    /// Not a socket, or the table is full.
    pub fn set(&self, socket: BorrowedFd<'_>, port: u16) -> rustix::io::Result<u64> {
        let namespace = sys::network_cookie(socket)?;
        self.map.set(namespace, wire(port))?;
        Ok(namespace)
    }

    /// Forgets what [`NameRedirect::set`] said of a namespace, which it named.
    ///
    /// # Errors
    /// The kernel refused; not that nothing is known of it.
    pub fn remove(&self, namespace: u64) -> Result<(), Errno> {
        self.map.remove(namespace)
    }
}

/// A port as it stands in the kernel's structure.
fn wire(port: u16) -> u32 {
    u16::from_ne_bytes(port.to_be_bytes()).into()
}

// `struct bpf_sock_addr`
const USER_IP4: i16 = 4;
const USER_IP6: i16 = 8;
const USER_PORT: i16 = 24;

const LOAD_WORD: u8 = 0x61;
const STORE_WORD: u8 = 0x63;
const STORE_DOUBLE: u8 = 0x7b;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const ADD_IMMEDIATE: u8 = 0x07;
const JUMP_IF_NOT_EQUAL: u8 = 0x56;
const JUMP_IF_NOT_EQUAL_REGISTER: u8 = 0x5e;
const JUMP_IF_ZERO: u8 = 0x15;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const BPF_FUNC_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_FUNC_GET_NETNS_COOKIE: i32 = 122;

/// Registers: 6 context, 7 port. Every test that fails leaves the address as it is.
fn compile(hook: Hook, map: &Map) -> Vec<Instruction> {
    let server = i32::from_ne_bytes(SERVER);
    let mut words = vec![(USER_IP4, server)];
    if hook.v6 {
        let mapped = i32::from_ne_bytes([0, 0, 0xff, 0xff]);
        let last = USER_IP6 + 12;
        words = vec![
            (USER_IP6, 0),
            (USER_IP6 + 4, 0),
            (USER_IP6 + 8, mapped),
            (last, server),
        ];
    }
    let fails = |code, to, from, immediate| instruction(code, to, from, 0, immediate);
    let mut program = vec![instruction(MOVE_REGISTER, 6, 1, 0, 0)];
    for (offset, value) in words {
        program.push(instruction(LOAD_WORD, 2, 6, offset, 0));
        program.push(fails(JUMP_IF_NOT_EQUAL, 2, 0, value));
    }
    program.push(instruction(LOAD_WORD, 7, 6, USER_PORT, 0));
    if !hook.back {
        let port = wire(DOMAIN).cast_signed();
        program.push(fails(JUMP_IF_NOT_EQUAL, 7, 0, port));
    }
    program.push(instruction(MOVE_REGISTER, 1, 6, 0, 0));
    program.push(instruction(CALL, 0, 0, 0, BPF_FUNC_GET_NETNS_COOKIE));
    program.push(instruction(STORE_DOUBLE, 10, 0, -8, 0));
    program.push(instruction(MOVE_REGISTER, 2, 10, 0, 0));
    program.push(instruction(ADD_IMMEDIATE, 2, 0, 0, -8));
    program.extend(map.load_into(1));
    program.push(instruction(CALL, 0, 0, 0, BPF_FUNC_MAP_LOOKUP_ELEM));
    program.push(fails(JUMP_IF_ZERO, 0, 0, 0));
    program.push(instruction(LOAD_WORD, 2, 0, 0, 0));
    if hook.back {
        program.push(fails(JUMP_IF_NOT_EQUAL_REGISTER, 7, 2, 0));
        let port = wire(DOMAIN).cast_signed();
        program.push(instruction(MOVE_IMMEDIATE, 2, 0, 0, port));
    }
    program.push(instruction(STORE_WORD, 6, 2, USER_PORT, 0));
    let end = program.len();
    for (at, test) in program.iter_mut().enumerate() {
        let tests = [JUMP_IF_NOT_EQUAL, JUMP_IF_NOT_EQUAL_REGISTER, JUMP_IF_ZERO];
        if tests.contains(&test.code) {
            test.offset = (end - at - 1) as i16;
        }
    }
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 1));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_the_programs_and_knows_namespaces() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root to load programs");
            return;
        }
        let redirect = NameRedirect::load().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let first = redirect.set(socket.as_fd(), 4_000).unwrap();
        assert_eq!(redirect.set(socket.as_fd(), 4_001).unwrap(), first);
        redirect.remove(first).unwrap();
        redirect.remove(first).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(redirect.set(file.as_fd(), 1), Err(Errno::NOTSOCK));
    }
}
