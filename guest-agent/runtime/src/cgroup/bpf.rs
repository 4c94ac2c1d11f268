//! Programs of the kernel's that are attached to groups: how they are written down, loaded, and attached, and the
//! maps that they look into.
//!
//! Called by the device filter, by the redirection of name servers, and by what hears of listeners.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::sys;

/// One eBPF instruction.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u8,
    registers: u8,
    pub(super) offset: i16,
    immediate: i32,
}

pub(super) const fn instruction(
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    immediate: i32,
) -> Instruction {
    Instruction {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    }
}

/// What a program is and where it may be attached, under the kernel's numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) program: u32,
    pub(super) attach: u32,
    /// Shown by the kernel to whoever lists programs; at most 15 bytes.
    pub(super) name: &'static str,
}

#[repr(C, align(8))]
#[derive(Default)]
struct LoadAttr {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface_index: u32,
    expected_attach_type: u32,
}

#[repr(C, align(8))]
#[derive(Default)]
struct AttachAttr {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
    // Spelt out, as the kernel refuses anything but zeros in what it does not know.
    relative: u32,
}

#[repr(C, align(8))]
#[derive(Default)]
struct MapAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    // Spelt out for the same reason.
    inner: u32,
}

#[repr(C, align(8))]
#[derive(Default)]
struct ElementAttr {
    map: u32,
    // As the structure is laid out in C.
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr`, `query`.
#[repr(C, align(8))]
#[derive(Default)]
struct QueryAttr {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    // Spelt out for the same reason.
    zero: u32,
}

#[repr(C, align(8))]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next: u32,
    flags: u32,
    zero: u32,
}

#[repr(C, align(8))]
#[derive(Default)]
struct InfoAttr {
    program: u32,
    length: u32,
    info: u64,
}

/// The most programs of a kind that the kernel lets a group have (`BPF_CGROUP_MAX_PROGS`).
const MOST_ATTACHED: usize = 64;
/// Where in `struct bpf_prog_info` the name is.
const NAME: usize = 64;

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_RINGBUF: u32 = 27;
/// Memory is taken as entries come.
const BPF_F_NO_PREALLOC: u32 = 1;
/// A group below may add a program of its own, and both must allow.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Has the kernel check a program and keep it.
pub(super) fn load(kind: Kind, program: &[Instruction]) -> sys::Result<OwnedFd> {
    let mut attr = LoadAttr {
        program_type: kind.program,
        instruction_count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        expected_attach_type: kind.attach,
        ..LoadAttr::default()
    };
    for (to, from) in attr.name.iter_mut().take(15).zip(kind.name.bytes()) {
        *to = from;
    }
    sys::bpf(BPF_PROG_LOAD, &mut attr).map(sys::own)
}

/// Attaches a program to a group. One that is attached already stays.
pub(super) fn attach(
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    kind: Kind,
) -> sys::Result<()> {
    let mut attr = AttachAttr {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: kind.attach,
        flags: BPF_F_ALLOW_MULTI,
        ..AttachAttr::default()
    };
    sys::bpf(BPF_PROG_ATTACH, &mut attr).map(drop)
}

/// Attaches a program to a group in place of those of its name, which earlier engines left there: the kernel takes 64 of
/// a kind. The last `kept` of them stay. There is no moment without one.
pub(super) fn replace(
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    kind: Kind,
    kept: usize,
) -> sys::Result<()> {
    let mut earlier = Vec::new();
    for id in attached(group, kind)? {
        let program = by_id(id)?;
        if name_of(program.as_fd())? == kind.name {
            earlier.push(program);
        }
    }
    attach(group, program, kind)?;
    earlier.truncate(earlier.len().saturating_sub(kept));
    earlier
        .iter()
        .try_for_each(|earlier| detach(group, earlier.as_fd(), kind))
}

/// The programs of a kind that a group has of its own, by the kernel's numbers for them.
pub(super) fn attached(group: BorrowedFd<'_>, kind: Kind) -> sys::Result<Vec<u32>> {
    let mut ids = [0u32; MOST_ATTACHED];
    let mut attr = QueryAttr {
        target: group.as_raw_fd() as u32,
        attach_type: kind.attach,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..QueryAttr::default()
    };
    sys::bpf(BPF_PROG_QUERY, &mut attr)?;
    Ok(ids[..ids.len().min(attr.count as usize)].to_vec())
}

fn by_id(id: u32) -> sys::Result<OwnedFd> {
    let mut attr = IdAttr {
        id,
        ..IdAttr::default()
    };
    sys::bpf(BPF_PROG_GET_FD_BY_ID, &mut attr).map(sys::own)
}

fn name_of(program: BorrowedFd<'_>) -> sys::Result<String> {
    let mut info = [0u8; NAME + 16];
    let mut attr = InfoAttr {
        program: program.as_raw_fd() as u32,
        length: info.len() as u32,
        info: info.as_mut_ptr() as u64,
    };
    sys::bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    let name = info[NAME..].split(|byte| *byte == 0).next();
    Ok(String::from_utf8_lossy(name.unwrap_or_default()).into_owned())
}

fn detach(group: BorrowedFd<'_>, program: BorrowedFd<'_>, kind: Kind) -> sys::Result<()> {
    let mut attr = AttachAttr {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: kind.attach,
        ..AttachAttr::default()
    };
    sys::bpf(BPF_PROG_DETACH, &mut attr).map(drop)
}

/// A table from numbers to numbers that programs look into, or a ring of words that they leave.
#[derive(Debug)]
pub(super) struct Map(OwnedFd);

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Map {
    /// One of at most so many entries.
    pub(super) fn new(entries: u32) -> sys::Result<Self> {
        let mut attr = MapAttr {
            kind: BPF_MAP_TYPE_HASH,
            key_size: size_of::<u64>() as u32,
            value_size: size_of::<u32>() as u32,
            max_entries: entries,
            flags: BPF_F_NO_PREALLOC,
            ..MapAttr::default()
        };
        sys::bpf(BPF_MAP_CREATE, &mut attr).map(sys::own).map(Self)
    }

    /// A ring of so many bytes, a power of two and of whole pages, for words that programs leave.
    pub(super) fn ring(bytes: u32) -> sys::Result<Self> {
        let mut attr = MapAttr {
            kind: BPF_MAP_TYPE_RINGBUF,
            max_entries: bytes,
            ..MapAttr::default()
        };
        sys::bpf(BPF_MAP_CREATE, &mut attr).map(sys::own).map(Self)
    }

    pub(super) fn set(&self, key: u64, value: u32) -> sys::Result<()> {
        let mut attr = ElementAttr {
            map: self.0.as_raw_fd() as u32,
            key: std::ptr::from_ref(&key) as u64,
            value: std::ptr::from_ref(&value) as u64,
            ..ElementAttr::default()
        };
        sys::bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
    }

    pub(super) fn remove(&self, key: u64) -> sys::Result<()> {
        let mut attr = ElementAttr {
            map: self.0.as_raw_fd() as u32,
            key: std::ptr::from_ref(&key) as u64,
            ..ElementAttr::default()
        };
        match sys::bpf(BPF_MAP_DELETE_ELEM, &mut attr) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Loads the address of the table into a register: two instructions.
    pub(super) fn load_into(&self, register: u8) -> [Instruction; 2] {
        const LOAD_IMMEDIATE_64: u8 = 0x18;
        const BPF_PSEUDO_MAP_FD: u8 = 1;
        let number = self.0.as_raw_fd();
        [
            instruction(LOAD_IMMEDIATE_64, register, BPF_PSEUDO_MAP_FD, 0, number),
            instruction(0, 0, 0, 0, 0),
        ]
    }
}
