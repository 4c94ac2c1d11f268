//! One virtual processor: how it begins, and its thread.

use std::cell::Cell;
use std::sync::Arc;

use kvm_bindings::{CpuId, Msrs, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_run, kvm_segment};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::GuestAddress;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::error::Error;
use super::layout::START_INFO;
use super::monitor::{End, Shared};
use super::ports::Ports;
use crate::mmio::Bus;

/// Protected mode, and that there is a coprocessor.
const CR0: u64 = 0x11;
/// A flag that is always set.
const RFLAGS: u64 = 2;
const CODE: u8 = 0xb;
const DATA: u8 = 0x3;
const BUSY_TASK: u8 = 0xb;
/// Memory types: write-back unless something else is said.
const MSR_MTRR_DEFAULT: u32 = 0x2ff;
const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;
const MSR_MISC_ENABLE: u32 = 0x1a0;
const FAST_STRINGS: u64 = 1;
/// The local interrupt controller's lines, and what comes in over them.
const LINE_0: usize = 0x350;
const LINE_1: usize = 0x360;
const EXTERNAL: u32 = 7 << 8;
const NON_MASKABLE: u32 = 4 << 8;

/// Interrupts a processor's thread so that it looks whether it is to end.
pub fn kick_signal() -> i32 {
    SIGRTMIN()
}

/// Sets up what every processor has, and for the first where it begins.
pub fn prepare(vcpu: &VcpuFd, cpuid: &CpuId, entry: Option<GuestAddress>) -> Result<(), Error> {
    vcpu.set_cpuid2(cpuid)
        .map_err(Error::kvm("say what a processor is"))?;
    let registers = [
        (MSR_MTRR_DEFAULT, MTRR_ENABLED_WRITE_BACK),
        (MSR_MISC_ENABLE, FAST_STRINGS),
    ];
    let registers = registers.map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..kvm_msr_entry::default()
    });
    let all = registers.len();
    let registers = Msrs::from_entries(&registers)
        .map_err(|error| Error::Memory(format!("registers of a processor: {error:?}")))?;
    let set = vcpu
        .set_msrs(&registers)
        .map_err(Error::kvm("set a processor's memory types"))?;
    if set != all {
        let refused = kvm_ioctls::Error::new(libc::EINVAL);
        return Err(Error::kvm("set a processor's memory types")(refused));
    }
    lines(vcpu)?;
    match entry {
        Some(entry) => begin(vcpu, entry),
        None => Ok(()),
    }
}

fn lines(vcpu: &VcpuFd) -> Result<(), Error> {
    let mut apic: kvm_lapic_state = vcpu
        .get_lapic()
        .map_err(Error::kvm("read a local interrupt controller"))?;
    for (at, mode) in [(LINE_0, EXTERNAL), (LINE_1, NON_MASKABLE)] {
        for (place, byte) in apic.regs[at..at + 4].iter_mut().zip(mode.to_le_bytes()) {
            *place = byte as _;
        }
    }
    vcpu.set_lapic(&apic)
        .map_err(Error::kvm("set a local interrupt controller"))
}

/// As the PVH protocol has it: protected mode without pages, flat segments, EBX at the start's information.
fn begin(vcpu: &VcpuFd, entry: GuestAddress) -> Result<(), Error> {
    let mut special = vcpu
        .get_sregs()
        .map_err(Error::kvm("read a processor's registers"))?;
    let flat = |kind, selector, limit, code_or_data: u8| kvm_segment {
        base: 0,
        limit,
        selector,
        type_: kind,
        present: 1,
        db: code_or_data,
        s: code_or_data,
        g: code_or_data,
        ..kvm_segment::default()
    };
    special.cs = flat(CODE, 0x8, 0xffff_ffff, 1);
    let data = flat(DATA, 0x10, 0xffff_ffff, 1);
    (special.ds, special.es, special.fs) = (data, data, data);
    (special.gs, special.ss) = (data, data);
    special.tr = flat(BUSY_TASK, 0x18, 0x67, 0);
    (special.cr0, special.cr4, special.efer) = (CR0, 0, 0);
    vcpu.set_sregs(&special)
        .map_err(Error::kvm("set a processor's registers"))?;
    let registers = kvm_regs {
        rip: entry.0,
        rbx: START_INFO,
        rflags: RFLAGS,
        ..kvm_regs::default()
    };
    vcpu.set_regs(&registers)
        .map_err(Error::kvm("set where a processor begins"))
}

thread_local! {
    /// What the processor of this thread shares with KVM, for the signal's handler.
    static RUN: Cell<*mut kvm_run> = const { Cell::new(std::ptr::null_mut()) };
}

/// Lets a running processor leave, and one that is about to run not begin.
extern "C" fn kicked(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let run = RUN.get();
    if !run.is_null() {
        // SAFETY: the pointer is that of this thread's own processor, and is taken away before that goes. KVM reads
        // the byte when it is entered.
        unsafe { std::ptr::addr_of_mut!((*run).immediate_exit).write_volatile(1) };
    }
}

/// Takes the signal that ends processors, once for the process.
pub fn handle_kicks() -> Result<(), Error> {
    register_signal_handler(kick_signal(), kicked).map_err(|error| Error::System {
        what: "handle the signal that ends a processor",
        source: error.into(),
    })
}

/// What a processor's thread runs until the machine ends.
pub fn run(mut vcpu: VcpuFd, bus: &Bus, ports: &Ports, shared: &Arc<Shared>) {
    RUN.set(std::ptr::from_mut(vcpu.get_kvm_run()));
    while !shared.over() {
        if let Some(end) = step(&mut vcpu, bus, ports) {
            shared.end(end);
        }
    }
    RUN.set(std::ptr::null_mut());
}

/// Runs the guest until it wants something; says when that is the end.
fn step(vcpu: &mut VcpuFd, bus: &Bus, ports: &Ports) -> Option<End> {
    match vcpu.run() {
        Ok(VcpuExit::MmioWrite(address, bytes)) => bus.write(address, bytes),
        // What devices say is read without this: nothing is here.
        Ok(VcpuExit::MmioRead(_, into)) => into.fill(0xff),
        Ok(VcpuExit::IoOut(port, bytes)) => {
            if ports.write(port, bytes) {
                return Some(End::Reset);
            }
        }
        Ok(VcpuExit::IoIn(port, into)) => ports.read(port, into),
        Ok(VcpuExit::Shutdown) => return Some(End::TripleFault),
        Ok(VcpuExit::SystemEvent(..)) => return Some(End::Reset),
        Ok(VcpuExit::Hlt | VcpuExit::Intr | VcpuExit::IrqWindowOpen) => {}
        Ok(other) => return Some(End::Failed(format!("a processor stopped: {other:?}"))),
        // Whether this is the end is looked at next: a signal that came from elsewhere must not keep the guest out.
        Err(error) if error.errno() == libc::EINTR => vcpu.set_kvm_immediate_exit(0),
        Err(error) if error.errno() == libc::EAGAIN => {}
        Err(error) => return Some(End::Failed(format!("a processor cannot run: {error}"))),
    }
    None
}
