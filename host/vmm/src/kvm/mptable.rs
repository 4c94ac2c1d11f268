//! The MP table: how many processors there are, and which interrupt comes in where.
//!
//! By the Intel MultiProcessor Specification 1.4, chapter 4. The guest has no ACPI tables; this is all it is told.

use vm_memory::{Bytes as _, GuestAddress};

use super::error::Error;
use super::layout::{INTERRUPTS, IO_APIC, LOCAL_APIC, MP_TABLE};
use crate::ring::Memory;

const SPECIFICATION: u8 = 4;
/// The version of the local interrupt controller, and of the shared one.
const APIC: u8 = 0x14;
const ENABLED: u8 = 1;
const BOOTS: u8 = 2;
/// The table's own bus, on which interrupts are edges that rise.
const BUS: u8 = 0;
/// Kinds of entries.
const PROCESSOR: u8 = 0;
const BUS_ENTRY: u8 = 1;
const IO_APIC_ENTRY: u8 = 2;
const INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;
/// Kinds of interrupts.
const VECTORED: u8 = 0;
const NON_MASKABLE: u8 = 1;
const EXTERNAL: u8 = 3;
const ALL_PROCESSORS: u8 = 0xff;

/// Writes the table for so many processors.
pub fn write(memory: &Memory, processors: u8) -> Result<(), Error> {
    let pointer = pointer();
    let table = table(processors);
    let at = GuestAddress(MP_TABLE);
    memory
        .write_slice(&pointer, at)
        .and_then(|()| memory.write_slice(&table, GuestAddress(MP_TABLE + pointer.len() as u64)))
        .map_err(|error| Error::Memory(error.to_string()))
}

/// What the kernel searches for; the table is right behind it.
fn pointer() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(b"_MP_");
    bytes[4..8].copy_from_slice(&(MP_TABLE as u32 + 16).to_le_bytes());
    // Its length in units of 16 bytes, and the version.
    bytes[8] = 1;
    bytes[9] = SPECIFICATION;
    bytes[10] = checksum(&bytes);
    bytes
}

fn table(processors: u8) -> Vec<u8> {
    let io_apic = processors;
    let mut entries = Vec::new();
    for id in 0..processors {
        let flags = if id == 0 { ENABLED | BOOTS } else { ENABLED };
        entries.push([&[PROCESSOR, id, APIC, flags][..], &[0; 16]].concat());
    }
    entries.push([&[BUS_ENTRY, BUS][..], b"ISA   "].concat());
    let address = IO_APIC.to_le_bytes();
    entries.push([&[IO_APIC_ENTRY, io_apic, APIC, ENABLED][..], &address].concat());
    for line in 0..INTERRUPTS {
        entries.push(vec![INTERRUPT, VECTORED, 0, 0, BUS, line, io_apic, line]);
    }
    entries.push(vec![LOCAL_INTERRUPT, EXTERNAL, 0, 0, BUS, 0, 0, 0]);
    let line = [
        LOCAL_INTERRUPT,
        NON_MASKABLE,
        0,
        0,
        BUS,
        0,
        ALL_PROCESSORS,
        1,
    ];
    entries.push(line.to_vec());

    let count = entries.len() as u16;
    let entries = entries.concat();
    let mut table = b"PCMP".to_vec();
    let header = 44;
    table.extend((header + entries.len() as u16).to_le_bytes());
    table.extend([SPECIFICATION, 0]);
    table.extend(b"LIGHTER ");
    table.extend(b"MACHINE     ");
    table.extend([0; 6]);
    table.extend(count.to_le_bytes());
    table.extend(LOCAL_APIC.to_le_bytes());
    table.extend([0; 4]);
    table.extend(entries);
    table[7] = checksum(&table);
    table
}

/// What makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    sum.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_zero_and_lengths_are_right() {
        let zero = |bytes: &[u8]| assert_eq!(checksum(bytes), 0);
        zero(&pointer());
        for processors in [1, 2, 64] {
            let table = table(processors);
            zero(&table);
            let said = u16::from_le_bytes([table[4], table[5]]);
            assert_eq!(usize::from(said), table.len());
            let count = usize::from(u16::from_le_bytes([table[34], table[35]]));
            let others = 2 + usize::from(INTERRUPTS) + 2;
            assert_eq!(count, usize::from(processors) + others);
            assert_eq!(table.len(), 44 + 20 * usize::from(processors) + 8 * others);
        }
    }
}
