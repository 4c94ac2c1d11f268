//! `cargo xtask image --check`: boots what was built, without our programs, and asks the kernel for everything
//! that the guest relies on (`vm-image/check/probe.rs` does the asking).
//!
//! Under plain emulation, so that it runs on any machine; both kernel images and both kinds of machine.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lighter_platform::disk_template;

use super::cpio::Archive;
use super::disk;
use crate::packages::{self, Package, package};
use crate::{cmd, paths};

/// What the disk is grown to: beyond the template, within what group descriptors are reserved for.
const GROWN: u64 = 300 << 30;
/// What the host's file may take after the boot: the template, the journal's use and the probe's few files.
const ALLOCATED: u64 = 64 << 20;
/// A kernel that hangs is stopped by the host after so many seconds, many times what a boot takes.
const LIMIT: &str = "120";

/// How one boot differs from another.
struct Boot {
    name: &'static str,
    kernel: &'static str,
    machine: &'static [&'static str],
    disk: &'static str,
    append: &'static str,
    /// The clock the kernel must have chosen. Without ACPI and KVM nothing but the timer chip tells how fast the
    /// TSC runs, and on a busy host that fails: microvm takes what it gets.
    clock: &'static str,
}

const BOOTS: [Boot; 3] = [
    Boot {
        name: "q35-vmlinux",
        kernel: "vmlinux",
        machine: &["q35,hpet=off,sata=off,smbus=off"],
        disk: "virtio-blk-pci",
        append: "",
        clock: "tsc",
    },
    Boot {
        name: "q35-bzimage",
        kernel: "bzImage",
        machine: &["q35"],
        disk: "virtio-blk-pci",
        append: "lapic_timer_khz=1000000 mitigations=off",
        clock: "tsc",
    },
    Boot {
        name: "microvm-vmlinux",
        kernel: "vmlinux",
        machine: &["microvm,acpi=off"],
        disk: "virtio-blk-device",
        append: "",
        clock: "",
    },
];

/// Boots the image in each way and fails with the kernel's words where something is missing.
pub fn run(image: &Path) -> Result<()> {
    packages::ensure(&[
        Package {
            name: "qemu-system-x86",
            suite: Some("bookworm-backports"),
        },
        package("erofs-utils"),
    ])?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let initramfs = initramfs(folder.path())?;
    for boot in &BOOTS {
        boot_once(boot, image, &initramfs, folder.path())?;
    }
    Ok(())
}

fn boot_once(boot: &Boot, image: &Path, initramfs: &Path, folder: &Path) -> Result<()> {
    let (console, disk_path) = (folder.join("console"), folder.join("disk"));
    let disk = File::create(&disk_path)?;
    let started = Instant::now();
    disk_template::expand(File::open(image.join(disk::TEMPLATE))?, &disk)
        .context("the data disk's template")?;
    let expanded = started.elapsed();
    disk.set_len(GROWN)?;
    let started = Instant::now();
    let mut qemu = Command::new("timeout");
    qemu.args([
        LIMIT,
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "1024",
    ])
    .args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-machine",
    ])
    .args(boot.machine)
    .arg("-kernel")
    .arg(image.join(boot.kernel))
    .arg("-initrd")
    .arg(initramfs)
    .arg("-append")
    .arg(format!("console=ttyS0 {}", boot.append))
    .arg("-serial")
    .arg(format!("file:{}", console.display()))
    .arg("-drive")
    .arg(format!(
        "file={},if=none,id=data,format=raw,discard=unmap,cache=writeback",
        disk_path.display()
    ))
    .args(["-device", &format!("{},drive=data", boot.disk)])
    .stdin(Stdio::null());
    let ended = cmd::run(&mut qemu);
    let words = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
    ensure!(
        ended.is_ok()
            && words
                .lines()
                .any(|line| line.trim_end() == "check: 0 failed"),
        "{} did not pass:\n{words}",
        boot.name
    );
    ensure!(
        words.contains(&format!("clock {}", boot.clock)),
        "{}: the kernel's clock is not {}:\n{words}",
        boot.name,
        boot.clock
    );
    passes_fsck(&disk_path)?;
    let allocated = disk.metadata()?.blocks() * 512;
    ensure!(
        allocated < ALLOCATED,
        "{}: growing the disk allocated {} MiB",
        boot.name,
        allocated >> 20
    );
    eprintln!(
        "image: {} passed in {} ms; disk made in {} ms, {} MiB allocated after growth",
        boot.name,
        started.elapsed().as_millis(),
        expanded.as_millis(),
        allocated >> 20
    );
    for line in words
        .lines()
        .filter(|line| line.starts_with("ok boot") || line.starts_with("ok growth"))
    {
        eprintln!("image:   {line}");
    }
    Ok(())
}

/// Replays the journal and checks the disk: only the counters that a restart leaves behind may be corrected.
fn passes_fsck(disk: &Path) -> Result<()> {
    let mut fsck = Command::new("e2fsck");
    fsck.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["-f", "-y"])
        .arg(disk);
    let output = fsck.output().context("cannot run e2fsck")?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let questions = words
        .lines()
        .filter(|l| l.starts_with("Fix?") || l.contains("<y>"))
        .count();
    let counters = words
        .lines()
        .filter(|l| l.starts_with("Free ") && l.contains(" count wrong ("))
        .count();
    ensure!(
        output.status.code().is_some_and(|code| code <= 1) && questions <= counters,
        "the grown disk is damaged:\n{words}"
    );
    Ok(())
}

/// The probe as PID 1, and a layer for it to mount.
fn initramfs(folder: &Path) -> Result<PathBuf> {
    let probe = folder.join("probe");
    let mut rustc = Command::new("rustc");
    rustc.args([
        "--edition",
        "2024",
        "-O",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "strip=symbols",
        "-o",
    ]);
    cmd::run(
        rustc
            .arg(&probe)
            .arg(paths::root().join("vm-image/check/probe.rs")),
    )?;
    let layer = folder.join("layer");
    fs::create_dir(&layer)?;
    fs::write(layer.join("hello"), "from the layer\n")?;
    fs::write(layer.join("gone"), "")?;
    let erofs = folder.join("layer.erofs");
    cmd::run(
        Command::new("mkfs.erofs")
            .arg("--quiet")
            .arg(&erofs)
            .arg(&layer)
            .stdout(Stdio::null()),
    )?;
    let mut archive = Archive::new(Vec::new());
    for name in ["dev", "proc", "run", "sys", "data"] {
        archive.directory(name, 0o755)?;
    }
    archive.character_device("dev/console", 0o600, (5, 1))?;
    archive.file("init", 0o755, &fs::read(&probe)?)?;
    archive.file("layer.erofs", 0o644, &fs::read(&erofs)?)?;
    let path = folder.join("initramfs.cpio");
    fs::write(&path, archive.finish()?)?;
    Ok(path)
}
