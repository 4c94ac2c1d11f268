//! Chooses between the processor's virtualisation and translation in software.

use crate::{Accelerator, Error};

/// KVM where it works, else TCG.
///
/// That `/dev/kvm` opens proves nothing: there are hosts where it interprets the guest's kernel
/// instruction by instruction and gives up on ordinary ones. So the processor must say that it can,
/// and then a guest of one instruction must run.
pub fn choose() -> Accelerator {
    match without_kvm() {
        None => Accelerator::Kvm,
        Some(_) => Accelerator::Tcg,
    }
}

/// Whether KVM runs machines here.
///
/// # Errors
/// [`Error::Missing`] with what would change that.
pub fn check() -> Result<(), Error> {
    match without_kvm() {
        None => Ok(()),
        Some(why) => Err(Error::Missing {
            what: "the processor's virtualisation".into(),
            hint: why.into(),
        }),
    }
}

/// Why KVM is not used on this host, and what would change that; nothing where it is.
pub fn without_kvm() -> Option<&'static str> {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    reason(
        &flags,
        || std::fs::File::open("/dev/kvm").map(drop),
        kvm_runs,
    )
}

/// The choice itself. The device is asked only where the processor can, and for a reason only where
/// no guest ran.
fn reason(
    cpuinfo: &str,
    device: impl FnOnce() -> std::io::Result<()>,
    runs: impl FnOnce() -> bool,
) -> Option<&'static str> {
    if !processor_can(cpuinfo) {
        return Some(
            "this processor offers no virtualisation (no `vmx` or `svm` among its flags): switch it \
             on in the firmware, or let the host above this machine nest it",
        );
    }
    if runs() {
        return None;
    }
    Some(match device() {
        Ok(()) => "`/dev/kvm` opens but runs no guest here",
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            "this user may not open `/dev/kvm`: add it to the group `kvm` with `sudo usermod -aG kvm \
             $USER` and log in again"
        }
        Err(_) => "there is no `/dev/kvm`: load the module `kvm_intel` or `kvm_amd`",
    })
}

fn processor_can(cpuinfo: &str) -> bool {
    let mut lines = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    lines.any(|line| {
        line.split_whitespace()
            .any(|flag| flag == "vmx" || flag == "svm")
    })
}

#[cfg(target_arch = "x86_64")]
fn kvm_runs() -> bool {
    run_halt().unwrap_or(false)
}

#[cfg(not(target_arch = "x86_64"))]
fn kvm_runs() -> bool {
    // The flags above are x86's; other processors have no probe yet and are translated.
    false
}

/// Runs `hlt` in real mode.
#[cfg(target_arch = "x86_64")]
fn run_halt() -> Result<bool, kvm_ioctls::Error> {
    use kvm_bindings::kvm_userspace_memory_region;
    use kvm_ioctls::{Kvm, VcpuExit};
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    const PAGE: usize = 4096;
    const HLT: u8 = 0xf4;
    let vm = Kvm::new()?.create_vm()?;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh private mapping at an address of the kernel's choice meets nothing else.
    let page = unsafe { mmap_anonymous(std::ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE) }
        .map_err(|e| kvm_ioctls::Error::new(e.raw_os_error()))?;
    // SAFETY: the page was mapped writable above and is not shared with anybody yet.
    unsafe { page.cast::<u8>().write(HLT) };
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: PAGE as u64,
        userspace_addr: page as u64,
    };
    // SAFETY: the region is the page above, which stays mapped until the machine is dropped.
    unsafe { vm.set_user_memory_region(region)? };
    let halted = (|| {
        let mut cpu = vm.create_vcpu(0)?;
        let mut special = cpu.get_sregs()?;
        (special.cs.base, special.cs.selector) = (0, 0);
        cpu.set_sregs(&special)?;
        let mut registers = cpu.get_regs()?;
        (registers.rip, registers.rflags) = (0, 2);
        cpu.set_regs(&registers)?;
        Ok(matches!(cpu.run()?, VcpuExit::Hlt))
    })();
    drop(vm);
    // SAFETY: mapped above, and the only user was the machine dropped just now.
    _ = unsafe { munmap(page, PAGE) };
    halted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_must_be_a_whole_word() {
        assert!(processor_can("processor\t: 0\nflags\t\t: fpu vmx ssse3\n"));
        assert!(processor_can("flags\t\t: fpu svm\n"));
        assert!(!processor_can(
            "flags\t\t: fpu svm_lock xvmx\nbugs\t\t: vmx\n"
        ));
        assert!(!processor_can(""));
    }

    #[test]
    fn kvm_is_chosen_only_where_flags_and_probe_agree_and_else_the_way_is_named() {
        const CAN: &str = "flags\t\t: fpu svm\n";
        let never = || -> bool { panic!("nothing is probed on a processor that cannot") };
        let fails = |kind: std::io::ErrorKind| move || Err(kind.into());
        assert_eq!(reason(CAN, || Ok(()), || true), None);
        // That the device opens proves nothing, with or without the flag.
        let why = reason("", || Ok(()), never).unwrap();
        assert!(why.contains("vmx"), "{why}");
        let why = reason(CAN, || Ok(()), || false).unwrap();
        assert!(why.contains("runs no guest"), "{why}");
        let denied = fails(std::io::ErrorKind::PermissionDenied);
        let why = reason(CAN, denied, || false).unwrap();
        assert!(
            why.contains("group `kvm`") && why.contains("sudo usermod -aG kvm"),
            "{why}"
        );
        let why = reason(CAN, fails(std::io::ErrorKind::NotFound), || false).unwrap();
        assert!(why.contains("kvm_amd"), "{why}");
    }
}
