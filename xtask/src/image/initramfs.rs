//! The first and only root file system of the guest: our programs, the built-in image and empty folders.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::guest::PROGRAMS;

/// Folders, each after its parent. Most are places to mount on; containers never see any of them.
const FOLDERS: [(&str, u32); 20] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/share", 0o755),
    ("usr/share/lighter", 0o755),
    ("var", 0o755),
    ("var/lib", 0o755),
    ("var/lib/docker", 0o710),
    ("var/log", 0o755),
    ("var/run", 0o755),
    ("var/tmp", 0o1777),
    ("lib", 0o755),
    ("lib/modules", 0o755),
];

/// Where the built-in image lies.
const HELLO: &str = "usr/share/lighter/hello.tar";

/// Writes `initramfs.cpio.zst` and the unpacked `initramfs.cpio` into the folder `to`.
///
/// Machines are started with the unpacked one: unpacking costs the guest a tenth of its boot, the host nothing.
pub fn write(programs: &Path, hello: &Path, to: &Path) -> Result<()> {
    let mut archive = Archive::new(Vec::new());
    for (name, mode) in FOLDERS {
        archive.directory(name, mode)?;
    }
    // The kernel opens it as PID 1's standard streams before anything is mounted.
    archive.character_device("dev/console", 0o600, (5, 1))?;
    archive.character_device("dev/null", 0o666, (1, 3))?;
    for program in &PROGRAMS {
        archive.file(program.path, 0o755, &read(&programs.join(program.name))?)?;
    }
    archive.file(HELLO, 0o644, &read(hello)?)?;
    let archive = archive.finish()?;
    write_file(&to.join("initramfs.cpio.zst"), &super::compress(&archive)?)?;
    write_file(&to.join("initramfs.cpio"), &archive)
}

fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
