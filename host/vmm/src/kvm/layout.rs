//! Where things are in the guest's physical addresses, in bytes.
//!
//! ```text
//!   0 ─ boot's tables, command line ─ 0x9_fc00 ┄ 0xf_0000 MP table ┄ 1 MiB kernel … initramfs ─ LOW_END
//!   LOW_END ─ devices' registers ─ interrupt controllers ─ 4 GiB ─ the rest of the memory
//! ```

/// What the PVH entry is told first.
pub const START_INFO: u64 = 0x6000;
/// Where the initial file system is.
pub const MODULES: u64 = 0x6040;
/// Which addresses are memory.
pub const MEMORY_MAP: u64 = 0x7000;
/// The kernel's words.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// The most the kernel takes of them, with the end.
pub const COMMAND_LINE_MAX: usize = 2048;
/// The end of what the kernel may use below its first MiB.
pub const BASE_END: u64 = 0x9_fc00;
/// Where the kernel looks for the MP table.
pub const MP_TABLE: u64 = 0xf_0000;
/// From here on the kernel and everything else.
pub const HIGH_START: u64 = 0x10_0000;
/// Memory below 4 GiB ends here at the latest.
pub const LOW_END: u64 = 0xd000_0000;
/// The registers of the devices.
pub const DEVICES: u64 = 0xd000_0000;
/// Memory goes on here.
pub const HIGH_MEMORY: u64 = 1 << 32;
/// The interrupt controllers, where every PC has them.
pub const IO_APIC: u32 = 0xfec0_0000;
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// Pages that KVM uses for itself on processors that need them.
pub const TSS: usize = 0xfffb_d000;
pub const IDENTITY_MAP: u64 = 0xfffb_c000;

/// Inputs of the interrupt controller.
pub const INTERRUPTS: u8 = 24;
/// The serial port's.
pub const SERIAL_INTERRUPT: u32 = 4;
/// Those of devices, in order; what a PC has given to its own is left out.
pub const DEVICE_INTERRUPTS: [u32; 16] =
    [5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22];
