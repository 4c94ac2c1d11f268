//! A kernel of four instructions, whose processor can do nothing but give up.

use std::path::{Path, PathBuf};

/// Where it is loaded: the first address above a PC's firmware.
const START: u32 = 0x10_0000;
/// Where its parts are in the file, which is loaded as it is.
const NOTE: u32 = 0xb0;
const CODE: u32 = 0xd0;
const NO_TABLE: u32 = 0xe0;
const END: u32 = 0x100;

/// Writes it as an ELF file that the PVH protocol starts (a note of Xen's, type 18, with the entry's address).
pub fn kernel(dir: &Path) -> PathBuf {
    let mut file = header();
    // Everything, readable and executable; then the note.
    file.extend(segment(1, 5, 0, END));
    file.extend(segment(4, 4, NOTE, 24));
    assert_eq!(file.len(), NOTE as usize);
    for word in [4, 8, 18] {
        file.extend(u32::to_le_bytes(word));
    }
    file.extend(b"Xen\0");
    file.extend(u64::from(START + CODE).to_le_bytes());
    file.resize(CODE as usize, 0);
    file.extend(code());
    file.resize(END as usize, 0);
    let path = dir.join("triple-fault");
    std::fs::write(&path, file).unwrap();
    path
}

/// The head of an ELF file for x86-64 with two segments.
fn header() -> Vec<u8> {
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    for half in [2, 62] {
        head.extend(u16::to_le_bytes(half));
    }
    head.extend(1_u32.to_le_bytes());
    for word in [u64::from(START + CODE), 64, 0] {
        head.extend(word.to_le_bytes());
    }
    head.extend(0_u32.to_le_bytes());
    for half in [64, 56, 2, 64, 0, 0] {
        head.extend(u16::to_le_bytes(half));
    }
    head
}

fn segment(kind: u32, flags: u32, from: u32, size: u32) -> Vec<u8> {
    let mut entry = [kind, flags].map(u32::to_le_bytes).concat();
    let (address, from, size) = (u64::from(START + from), u64::from(from), u64::from(size));
    for word in [from, address, address, size, size, 4] {
        entry.extend(word.to_le_bytes());
    }
    entry
}

/// An interrupt for which there is no table, and none for the faults that follow.
fn code() -> Vec<u8> {
    let table = (START + NO_TABLE).to_le_bytes();
    // cli; lidt [table]; int3; hlt
    let code = [&[0xfa, 0x0f, 0x01, 0x1d], &table[..], &[0xcc, 0xf4]];
    code.concat()
}
