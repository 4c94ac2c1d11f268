//! Chooses between the processor's virtualisation and translation in software.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use crate::{Accelerator, Error};

/// The kernel's virtualisation.
const DEVICE: &str = "/dev/kvm";

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
        Some(why) => Err(missing(why)),
    }
}

/// That a backend was asked for which needs KVM, where there is none for this reason.
pub fn missing(why: String) -> Error {
    Error::Missing {
        what: "the processor's virtualisation".into(),
        hint: why,
    }
}

/// The kernel's virtualisation, open.
///
/// # Errors
/// [`Error::System`] with what the kernel says.
#[cfg(target_arch = "x86_64")]
pub fn open() -> Result<File, Error> {
    let opened = File::options().read(true).write(true).open(DEVICE);
    opened.map_err(|e| Error::system(format!("open `{DEVICE}`"), e))
}

/// Why KVM is not used on this host, and what would change that; nothing where it is.
pub fn without_kvm() -> Option<String> {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let device = || File::options().read(true).write(true).open(DEVICE);
    reason(&flags, || device().map(drop), way_in, kvm_runs)
}

/// The choice itself. The device is asked only where the processor can, and for a reason only where
/// no guest ran.
fn reason(
    cpuinfo: &str,
    device: impl FnOnce() -> io::Result<()>,
    way_in: impl FnOnce() -> String,
    runs: impl FnOnce() -> bool,
) -> Option<String> {
    if !processor_can(cpuinfo) {
        return Some(
            "this processor offers no virtualisation (no `vmx` or `svm` among its flags): switch it \
             on in the firmware, or let the host above this machine nest it"
                .into(),
        );
    }
    if runs() {
        return None;
    }
    Some(match device() {
        Ok(()) => format!("`{DEVICE}` opens but runs no guest here"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            format!("this user may not open `{DEVICE}`: {}", way_in())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("there is no `{DEVICE}`: load the module `kvm_intel` or `kvm_amd`")
        }
        Err(error) => format!("`{DEVICE}` does not open: {error}"),
    })
}

/// What lets this user open the device.
fn way_in() -> String {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let facts = std::fs::metadata(DEVICE);
    let facts = facts.map(|facts| (facts.mode(), facts.gid()));
    way_of(facts.unwrap_or_default(), &groups)
}

/// The same, by the device's mode and group, and the system's groups (group(5)).
fn way_of((mode, gid): (u32, u32), groups: &str) -> String {
    const FOR_GROUP: u32 = 0o060;
    let named = |line: &str| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(gid)).then(|| name.to_owned())
    };
    // Whoever is in the group of root can do more than open a device.
    let group = (mode & FOR_GROUP == FOR_GROUP && gid != 0).then(|| groups.lines().find_map(named));
    match group.flatten() {
        Some(group) => format!(
            "add it to the group `{group}` with `sudo usermod -aG {group} $USER` and log in again"
        ),
        None => format!(
            "it is for no group; `sudo setfacl -m u:$USER:rw {DEVICE}` lets this user in until the next boot"
        ),
    }
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
        let fails = |kind: io::ErrorKind| move || Err(kind.into());
        let way_in = || "ask for it".to_owned();
        assert_eq!(reason(CAN, || Ok(()), way_in, || true), None);
        // That the device opens proves nothing, with or without the flag.
        let why = reason("", || Ok(()), way_in, never).unwrap();
        assert!(why.contains("vmx"), "{why}");
        let why = reason(CAN, || Ok(()), way_in, || false).unwrap();
        assert!(why.contains("runs no guest"), "{why}");
        let why = reason(CAN, fails(io::ErrorKind::PermissionDenied), way_in, || {
            false
        })
        .unwrap();
        assert_eq!(why, "this user may not open `/dev/kvm`: ask for it");
        let why = reason(CAN, fails(io::ErrorKind::NotFound), way_in, || false).unwrap();
        assert!(why.contains("kvm_amd"), "{why}");
        let why = reason(CAN, fails(io::ErrorKind::ResourceBusy), way_in, || false).unwrap();
        assert!(why.contains("does not open"), "{why}");
    }

    #[test]
    fn the_group_that_may_is_named_with_the_command() {
        let groups = "root:x:0:\nkvm:x:104:ann\nvirt:x:36:\n";
        let way = way_of((0o20_660, 36), groups);
        assert!(
            way.contains("group `virt`") && way.contains("sudo usermod -aG virt $USER"),
            "{way}"
        );
        // No group helps where none may, where it is root's, or where it has no name.
        for facts in [
            (0o20_600, 104),
            (0o20_640, 104),
            (0o20_660, 0),
            (0o20_660, 7),
        ] {
            let way = way_of(facts, groups);
            assert!(way.contains("sudo setfacl -m u:$USER:rw /dev/kvm"), "{way}");
        }
    }
}
