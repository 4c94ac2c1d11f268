//! The real kernel with the real init, watched over its serial console.
//!
//! Uses the image that `cargo xtask image` made last; without one, or without QEMU, the tests say
//! so and pass.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

fn image() -> Option<PathBuf> {
    let named = std::env::var_os("LIGHTER_IMAGE_DIR").map(PathBuf::from);
    let cached =
        || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/lighter/image/current"));
    let image = named.or_else(cached)?;
    image.join("initramfs.cpio.zst").exists().then_some(image)
}

/// A machine that is killed with its handle.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // `timeout` passes a termination on to QEMU; a kill it could not.
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// Boots with a disk or without; gives init's lines up to the one that contains `last`.
fn boot(disk: Option<&Path>, last: &str) -> Option<Vec<String>> {
    let Some(image) = image() else {
        eprintln!("skipped: no image; run `cargo xtask image`");
        return None;
    };
    // A machine that never says the word must not keep the tests for ever.
    let mut qemu = Command::new("timeout");
    qemu.args(["--signal=TERM", "90", "qemu-system-x86_64"]);
    qemu.args([
        "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "512",
    ])
    .args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ])
    .args([
        "-serial",
        "stdio",
        "-append",
        "console=ttyS0 quiet loglevel=1 panic=-1 reboot=t",
    ])
    .args([Path::new("-kernel"), &image.join("vmlinux")])
    .args([Path::new("-initrd"), &image.join("initramfs.cpio.zst")]);
    if let Some(disk) = disk {
        let drive = format!("file={},if=none,id=d,format=raw", disk.display());
        qemu.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=d"]);
    }
    if Command::new("qemu-system-x86_64")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        eprintln!("skipped: no qemu-system-x86_64; install `qemu-system-x86`");
        return None;
    }
    let mut machine = Machine(
        qemu.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = Vec::new();
    for line in BufReader::new(machine.0.stdout.take().unwrap()).split(b'\n') {
        let line = String::from_utf8_lossy(&line.unwrap())
            .trim_end()
            .to_owned();
        // The firmware's last words have no end of line.
        if let Some((_, line)) = line.split_once("lighter-init: ") {
            lines.push(line.to_owned());
        }
        if line.contains(last) {
            return Some(lines);
        }
    }
    panic!("the machine ended without {last:?}: {lines:?}");
}

#[test]
fn machine_without_a_disk_says_so_and_starts_its_agent() {
    let Some(lines) = boot(None, "the agent starts") else {
        return;
    };
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "there is no data disk (/dev/vda)");
}

#[test]
fn disk_that_is_no_file_system_is_named() {
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk");
    File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    let Some(lines) = boot(Some(&disk), "the agent starts") else {
        return;
    };
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("the data disk (/dev/vda) cannot be mounted: "),
        "{lines:?}"
    );
}

#[test]
fn good_disk_is_not_worth_a_word() {
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk");
    File::create(&disk).unwrap().set_len(1 << 30).unwrap();
    let made = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-O", "project,quota,verity"])
        .args(["-E", "quotatype=usrquota:grpquota:prjquota"])
        .arg(&disk)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no mke2fs; install `e2fsprogs`");
        return;
    }
    let Some(lines) = boot(Some(&disk), "the agent starts") else {
        return;
    };
    assert_eq!(lines.len(), 1, "{lines:?}");
}
