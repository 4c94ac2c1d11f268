//! Puts kernel, initial file system, command line and what the PVH entry is told into the guest's memory.
//!
//! The protocol is Xen's (`xen/include/public/arch-x86/hvm/start_info.h`), as Linux takes it.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};

use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator as _, BootParams};
use linux_loader::loader::KernelLoader as _;
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::error::Error;
use super::layout::{
    BASE_END, COMMAND_LINE, COMMAND_LINE_MAX, HIGH_START, MEMORY_MAP, MODULES, START_INFO,
};
use super::source::Source;
use crate::ring::Memory;

const MAGIC: u32 = 0x336e_c578;
/// The version with a memory map.
const VERSION: u32 = 1;
/// A range of addresses that is memory.
const RAM: u32 = 1;
const PAGE: u64 = 4096;

/// Loads everything; returns the address at which the first processor begins.
pub fn load(
    memory: &Memory,
    kernel: &File,
    initramfs: &File,
    command_line: &str,
) -> Result<GuestAddress, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Kernel(error.to_string());
    let mut source = Source::new(kernel, memory);
    let loaded = Elf::load(memory, None, &mut source, Some(GuestAddress(HIGH_START)))
        .map_err(|error| wrong(&error))?;
    let PvhBootCapability::PvhEntryPresent(entry) = loaded.pvh_boot_cap else {
        return Err(wrong(&"it has no PVH entry"));
    };
    let module = load_initramfs(memory, initramfs, loaded.kernel_end)?;
    let mut line = command_line.as_bytes().to_vec();
    line.push(0);
    if line.len() > COMMAND_LINE_MAX {
        return Err(wrong(&"its command line is too long"));
    }
    memory
        .write_slice(&line, GuestAddress(COMMAND_LINE))
        .map_err(|error| wrong(&error))?;
    let map = memory_map(memory);
    let info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        nr_modules: 1,
        modlist_paddr: MODULES,
        cmdline_paddr: COMMAND_LINE,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: map.len() as u32,
        ..hvm_start_info::default()
    };
    let mut parameters = BootParams::new(&info, GuestAddress(START_INFO));
    parameters.set_sections(&map, GuestAddress(MEMORY_MAP));
    parameters.set_modules(&[module], GuestAddress(MODULES));
    PvhBootConfigurator::write_bootparams(&parameters, memory).map_err(|error| wrong(&error))?;
    Ok(entry)
}

/// Puts it at the end of the low memory, where nothing is in its way.
fn load_initramfs(
    memory: &Memory,
    mut initramfs: &File,
    kernel_end: u64,
) -> Result<hvm_modlist_entry, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Kernel(error.to_string());
    let size = initramfs.metadata().map_err(|error| wrong(&error))?.len();
    let low = memory.iter().next().map_or(0, |region| region.len());
    let from = low.checked_sub(size).map(|at| at / PAGE * PAGE);
    let from = from.filter(|from| *from >= kernel_end);
    let from =
        from.ok_or_else(|| wrong(&"it and the initial file system do not fit into memory"))?;
    initramfs
        .seek(SeekFrom::Start(0))
        .map_err(|error| wrong(&error))?;
    let length = usize::try_from(size).map_err(|error| wrong(&error))?;
    memory
        .read_exact_volatile_from(
            GuestAddress(from),
            &mut Source::new(initramfs, memory),
            length,
        )
        .map_err(|error| wrong(&error))?;
    Ok(hvm_modlist_entry {
        paddr: from,
        size,
        ..hvm_modlist_entry::default()
    })
}

/// What is memory: below the tables of a PC's firmware, above them, and beyond the devices.
fn memory_map(memory: &Memory) -> Vec<hvm_memmap_table_entry> {
    let ram = |addr, size| hvm_memmap_table_entry {
        addr,
        size,
        type_: RAM,
        reserved: 0,
    };
    let mut map = vec![ram(0, BASE_END)];
    for region in memory.iter() {
        let start = region.start_addr().0.max(HIGH_START);
        let end = region.start_addr().0 + region.len();
        map.push(ram(start, end.saturating_sub(start)));
    }
    map
}
