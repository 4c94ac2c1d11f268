//! A door for `tests/fuzz`: the bytes of a kernel, put into small memories of every shape.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::boot;
use super::layout::{COMMAND_LINE, HIGH_MEMORY, MODULES, START_INFO};
use crate::fuzz::Program;
use crate::ring::Memory;

/// Bytes of the memories: too little for anything, no room for a kernel, some, and some beyond the devices.
const MEMORIES: [&[(u64, usize)]; 4] = [
    &[(0, 0x8000)],
    &[(0, 1 << 20)],
    &[(0, 2 << 20)],
    &[(0, 2 << 20), (HIGH_MEMORY, 1 << 20)],
];
/// The most that is asked of the initial file system and of the command line.
const INITRAMFS: u32 = 4 << 20;
const LINE: u16 = 4096;

struct Door {
    memories: Vec<Memory>,
    kernel: File,
    initramfs: File,
}

impl Door {
    /// Nothing when the system gives no memory.
    fn new() -> Option<Self> {
        let memory = |pieces: &&[(u64, usize)]| {
            let pieces: Vec<_> = pieces
                .iter()
                .map(|(at, length)| (GuestAddress(*at), *length))
                .collect();
            Memory::from_ranges(&pieces).ok()
        };
        let file = || Some(File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).ok()?));
        Some(Self {
            memories: MEMORIES.iter().map(memory).collect::<Option<_>>()?,
            kernel: file()?,
            initramfs: file()?,
        })
    }
}

thread_local! {
    static DOOR: RefCell<Option<Door>> = RefCell::new(Door::new());
}

/// Loads one kernel. Before it: which memory, the initial file system's length (32 bits), the command line's (16).
///
/// # Panics
/// When what was loaded is not where the guest is told that it is.
pub fn run(bytes: &[u8]) {
    let mut program = Program::new(bytes);
    let which = usize::from(program.u8()) % MEMORIES.len();
    let initramfs = program.u32() % INITRAMFS;
    let line = "x".repeat(usize::from(program.u16() % LINE));
    DOOR.with_borrow_mut(|door| {
        let Some(door) = door else { return };
        let kernel = program.rest();
        let written = door.kernel.set_len(kernel.len() as u64);
        let written = written.and_then(|()| door.kernel.write_all_at(kernel, 0));
        if written.is_err() || door.initramfs.set_len(initramfs.into()).is_err() {
            return;
        }
        let memory = &door.memories[which];
        let loaded = boot::load(memory, &door.kernel, &door.initramfs, &line);
        if let Ok(entry) = loaded {
            check(memory, entry, initramfs.into(), &line);
        }
    });
}

/// What the guest is told is so.
fn check(memory: &Memory, entry: GuestAddress, initramfs: u64, line: &str) {
    assert!(entry.0 < HIGH_MEMORY, "an entry beyond 32 bits");
    let number = |at| memory.read_obj::<u64>(GuestAddress(at)).unwrap_or(u64::MAX);
    assert_eq!(number(START_INFO) as u32, 0x336e_c578, "no start info");
    let (at, size) = (number(MODULES), number(MODULES + 8));
    assert_eq!(size, initramfs, "another file system");
    let low = memory.iter().next().map_or(0, |region| region.len());
    let end = at.checked_add(size);
    assert!(end.is_some_and(|end| end <= low), "a file system outside");
    let mut there = vec![0xff; line.len() + 1];
    let read = memory.read_slice(&mut there, GuestAddress(COMMAND_LINE));
    assert!(read.is_ok(), "no command line");
    assert_eq!(there[..line.len()], *line.as_bytes(), "other words");
    assert_eq!(there[line.len()], 0, "words without an end");
}
