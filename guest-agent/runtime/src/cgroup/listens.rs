//! A signal whenever something in a group begins or ceases to listen for connections, or to take datagrams on a port that
//! it chose.
//!
//! Programs that the kernel runs at `listen(2)` and `bind(2)`, and when such a socket is closed, leave a word in a ring
//! that can be waited for. The word says nothing: who waits looks for itself. A socket of UDP is still there when its end
//! is told of, for a moment: the kernel has nothing to run later.
//! Sources: the kernel's `include/uapi/linux/bpf.h` (`BPF_SOCK_OPS_*`, `struct bpf_sock`), `kernel/bpf/ringbuf.c`,
//! `net/ipv4/af_inet.c` (a port that the kernel chose for a client is none that was bound).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::bpf::{self, Instruction, Kind, Map, instruction};
use super::{Cgroup, CgroupError};
use crate::sys::Ring;

// BPF_PROG_TYPE_SOCK_OPS and BPF_CGROUP_SOCK_OPS.
const STREAMS: Kind = kind(13, 3);
// BPF_PROG_TYPE_CGROUP_SOCK and BPF_CGROUP_INET4_POST_BIND, BPF_CGROUP_INET6_POST_BIND, BPF_CGROUP_INET_SOCK_RELEASE.
const BOUND: [Kind; 2] = [kind(9, 12), kind(9, 13)];
const RELEASED: Kind = kind(9, 34);

const fn kind(program: u32, attach: u32) -> Kind {
    Kind {
        program,
        attach,
        name: "lighter_listens",
    }
}

/// One page: words that nobody reads are not missed.
const RING: u32 = 4096;

/// The programs and their ring.
#[derive(Debug)]
pub struct ListenSignal {
    programs: Vec<(Kind, OwnedFd)>,
    map: Map,
    ring: Ring,
}

impl ListenSignal {
    /// Loads the programs.
    ///
    /// # Errors
    /// The kernel has no such programs, or refused.
    pub fn load() -> rustix::io::Result<Self> {
        let map = Map::ring(RING)?;
        let load = |kind: Kind, program: &[Instruction]| Ok((kind, bpf::load(kind, program)?));
        let mut programs = vec![load(STREAMS, &of_streams(&map))?];
        for kind in BOUND {
            programs.push(load(kind, &of_datagrams(&map, None))?);
        }
        programs.push(load(RELEASED, &of_datagrams(&map, Some(BPF_TCP_CLOSE)))?);
        let ring = Ring::of(map.as_fd())?;
        Ok(Self {
            programs,
            map,
            ring,
        })
    }

    /// Hears of what is in this group from now on, in place of an earlier engine.
    ///
    /// # Errors
    /// The group is gone, or the kernel refused.
    pub fn attach(&self, group: &Cgroup) -> Result<(), CgroupError> {
        self.attach_to(group.as_fd())
            .map_err(|errno| group.fail("attach what hears of listeners", errno))
    }

    fn attach_to(&self, group: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let mut programs = self.programs.iter();
        programs.try_for_each(|(kind, program)| bpf::replace(group, program.as_fd(), *kind, 0))
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

// `struct bpf_sock`
const TYPE: i16 = 8;
const PROTOCOL: i16 = 12;
const STATE: i16 = 72;

const SOCK_DGRAM: i32 = 2;
const IPPROTO_UDP: i32 = 17;
/// Of a socket for datagrams: that it is not connected.
const BPF_TCP_CLOSE: i32 = 7;

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

const fn number(to: u8, value: i32) -> Instruction {
    instruction(MOVE_IMMEDIATE, to, 0, 0, value)
}

const fn unless(of: u8, value: i32, over: i16) -> Instruction {
    instruction(JUMP_IF_NOT_EQUAL, of, 0, over, value)
}

/// Leaves a word in the ring.
fn tell(map: &Map) -> [Instruction; 8] {
    let [first, second] = map.load_into(1);
    [
        instruction(STORE_DOUBLE_IMMEDIATE, 10, 0, -8, 0),
        first,
        second,
        instruction(MOVE_REGISTER, 2, 10, 0, 0),
        instruction(ADD_IMMEDIATE, 2, 0, 0, -8),
        number(3, 8),
        number(4, 0),
        instruction(CALL, 0, 0, 0, BPF_FUNC_RINGBUF_OUTPUT),
    ]
}

/// Lets everything pass.
const DONE: [Instruction; 2] = [number(0, 1), instruction(EXIT, 0, 0, 0, 0)];

/// Of a socket for connections whose state changes. Register 6 is the context.
fn of_streams(map: &Map) -> Vec<Instruction> {
    let word = |to, offset| instruction(LOAD_WORD, to, 6, offset, 0);
    let tell = tell(map);
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
    program.extend(DONE);
    program
}

/// Of a socket of UDP, where it is in that state, if one is asked for. Register 1 is the context.
fn of_datagrams(map: &Map, state: Option<i32>) -> Vec<Instruction> {
    let word = |to, offset| instruction(LOAD_WORD, to, 1, offset, 0);
    let mut tests = vec![(TYPE, SOCK_DGRAM), (PROTOCOL, IPPROTO_UDP)];
    tests.extend(state.map(|state| (STATE, state)));
    let tell = tell(map);
    let mut left = 2 * tests.len() as i16;
    let mut program = Vec::new();
    for (field, value) in tests {
        left -= 2;
        program.push(word(2, field));
        program.push(unless(2, value, left + tell.len() as i16));
    }
    program.extend(tell);
    program.extend(DONE);
    program
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, UdpSocket};
    use std::process::{Command, Stdio};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    impl ListenSignal {
        /// Whether anything was told of; forgets it.
        fn heard(&self) -> bool {
            let mut waits = [PollFd::new(&self.map, PollFlags::IN)];
            let heard = poll(&mut waits, Some(&Timespec::default())).unwrap();
            self.clear();
            heard == 1
        }
    }

    /// A group of the kernel's own tree, removed when it is dropped; nothing where there is none of version 2.
    struct Group(std::path::PathBuf);

    impl Group {
        fn make() -> Option<Self> {
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            let mut mounts = mounts.lines().map(|line| line.split(' '));
            let mount = mounts.find_map(|mut words| {
                let at = words.nth(1)?;
                (words.next()? == "cgroup2").then_some(at)
            })?;
            let name = format!("lighter-listens-{}", std::process::id());
            let path = std::path::Path::new(mount).join(name);
            std::fs::create_dir(&path).ok()?;
            Some(Self(path))
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            // Its process may still be on its way out.
            while std::fs::remove_dir(&self.0).is_err_and(|error| error.raw_os_error() == Some(16))
            {
                std::thread::yield_now();
            }
        }
    }

    const GROUP: &str = "LIGHTER_TEST_GROUP";

    /// What a process in a group does, a line a step; a part of the other test, which runs it by itself.
    #[test]
    fn a_process_in_a_group() {
        let Ok(group) = std::env::var(GROUP) else {
            return;
        };
        std::fs::write(format!("{group}/cgroup.procs"), "0").unwrap();
        let (mut datagrams, mut streams) = (Vec::new(), Vec::new());
        println!("\nready");
        for line in std::io::stdin().lines() {
            match line.unwrap().as_str() {
                "bind" => datagrams.push(UdpSocket::bind("127.0.0.1:0").unwrap()),
                "bind v6" => datagrams.push(UdpSocket::bind("[::1]:0").unwrap()),
                "close" => datagrams.clear(),
                "connect" => datagrams[0].connect("127.0.0.1:9").unwrap(),
                "listen" => streams.push(TcpListener::bind("127.0.0.1:0").unwrap()),
                "end" => streams.clear(),
                // Its port is the kernel's choice.
                "ask" => {
                    let (kind, any) = (
                        rustix::net::SocketType::DGRAM,
                        rustix::net::AddressFamily::INET,
                    );
                    let socket = rustix::net::socket(any, kind, None).unwrap();
                    let to: std::net::SocketAddr = "127.0.0.1:9".parse().unwrap();
                    let flags = rustix::net::SendFlags::empty();
                    rustix::net::sendto(&socket, b"x", flags, &to).unwrap();
                    rustix::net::connect(&socket, &to).unwrap();
                }
                other => panic!("{other}"),
            }
            println!("done");
        }
    }

    #[test]
    fn what_listens_and_what_is_bound_is_heard_of_and_clients_are_not() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root to load programs");
            return;
        }
        let signal = ListenSignal::load().unwrap();
        assert!(!signal.heard());
        let Some(group) = Group::make() else {
            println!("skipped: no control groups of version 2");
            return;
        };
        let opened = std::fs::File::open(&group.0).unwrap();
        // As many engines before this one as the kernel takes programs, and one more.
        for _ in 0..65 {
            let earlier = ListenSignal::load().unwrap();
            earlier.attach_to(opened.as_fd()).unwrap();
        }
        signal.attach_to(opened.as_fd()).unwrap();
        for kind in [STREAMS, BOUND[0], BOUND[1], RELEASED] {
            assert_eq!(bpf::attached(opened.as_fd(), kind).unwrap().len(), 1);
        }
        let name = "cgroup::listens::tests::a_process_in_a_group";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(GROUP, &group.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut asks = child.stdin.take().unwrap();
        assert!(said.any(|line| line.unwrap() == "ready"));
        for (step, heard) in [
            ("bind", true),
            ("close", true),
            ("bind v6", true),
            ("close", true),
            ("ask", false),
            ("bind", true),
            ("connect", false),
            ("close", false),
            ("listen", true),
            ("end", true),
        ] {
            writeln!(asks, "{step}").unwrap();
            assert_eq!(said.next().unwrap().unwrap(), "done");
            assert_eq!(signal.heard(), heard, "{step}");
        }
        drop(asks);
        assert!(child.wait().unwrap().success());
    }
}
