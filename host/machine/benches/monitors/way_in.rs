//! QEMU's way in: our backend finds this program under QEMU's name in `PATH`, and it becomes QEMU.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::Result;

const NAME: &str = "qemu-system-x86_64";
/// QEMU itself, where the outer machine has it.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// A machine without PCI, ACPI, and what a guest of ours does not use.
const MICROVM: &str = "microvm,memory-backend=ram,acpi=off,pic=off,pit=off,rtc=on,usb=off,pcie=off,isa-serial=on,\
    auto-kernel-cmdline=on,graphics=off,dump-guest-core=off";

/// Whether this is called in QEMU's place.
pub fn is_named(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|name| name == NAME)
}

/// Becomes QEMU.
pub fn pass_on(arguments: &[String]) -> Result<()> {
    let mut previous = "";
    let changed = arguments.iter().map(|word| {
        let changed = changed(previous, word);
        previous = word;
        changed
    });
    let changed: Vec<String> = changed.collect();
    Err(Command::new(QEMU).args(changed).exec().into())
}

/// A word of our backend's for the board `q35`, as `microvm` has it.
fn changed(previous: &str, word: &str) -> String {
    match previous {
        "-machine" => MICROVM.to_owned(),
        // Devices are on virtio-mmio there.
        "-device" => word.replacen("-pci", "-device", 1),
        // There is neither a bus nor a table to look for.
        "-append" => format!("{word} acpi=off pci=off"),
        _ => word.to_owned(),
    }
}
