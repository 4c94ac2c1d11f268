//! Trimming a file system of the kernel's own, on a loop device: what the file below it holds.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lighter_init::disk;
use tempfile::TempDir;

/// An ext4 of 8 GiB in a sparse file.
struct Disk {
    dir: TempDir,
}

impl Disk {
    /// None where there are no loop devices.
    fn new() -> Option<Self> {
        let disk = Self {
            dir: TempDir::new().unwrap(),
        };
        fs::File::create(disk.file())
            .unwrap()
            .set_len(8 << 30)
            .unwrap();
        fs::create_dir(disk.root()).unwrap();
        let made = Command::new("mke2fs")
            .args([
                "-q",
                "-t",
                "ext4",
                "-E",
                "lazy_itable_init=1,lazy_journal_init=1",
            ])
            .arg(disk.file())
            .status();
        assert!(made.unwrap().success());
        let mount = Command::new("mount")
            .args(["-o", "loop,noinit_itable"])
            .args([disk.file(), disk.root()])
            .status();
        mount.unwrap().success().then_some(disk)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The loop device, by the kernel's name of what is mounted.
    fn device(&self) -> PathBuf {
        let device = fs::metadata(self.root()).unwrap().dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let named = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).unwrap();
        Path::new("/dev").join(named.file_name().unwrap())
    }

    fn held(&self) -> u64 {
        fs::File::open(self.file()).unwrap().sync_all().unwrap();
        fs::metadata(self.file()).unwrap().blocks() * 512
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.root()).status();
    }
}

#[test]
fn room_of_what_was_removed_goes_back_and_the_rest_stays() {
    const LARGE: u64 = 64 << 20;
    let Some(disk) = Disk::new() else {
        eprintln!("skipped: there are no loop devices");
        return;
    };
    let before = disk.held();
    let bytes: Vec<u8> = (0..LARGE).map(|at| (at % 251) as u8 | 1).collect();
    for name in ["kept", "removed"] {
        fs::write(disk.root().join(name), &bytes).unwrap();
    }
    rustix::fs::syncfs(fs::File::open(disk.root()).unwrap()).unwrap();
    assert!(disk.held() >= before + 2 * LARGE);

    fs::remove_file(disk.root().join("removed")).unwrap();
    let trimmed = disk::trim(&disk.root(), &disk.device()).unwrap();

    assert!(trimmed.bytes >= LARGE, "{trimmed:?}");
    let groups = (8 << 30) / (128 << 20);
    assert!(
        (1..groups).contains(&trimmed.groups),
        "of {groups}: {trimmed:?}"
    );
    let held = disk.held();
    let most = before + LARGE + (LARGE / 4);
    assert!(
        (before + LARGE..most).contains(&held),
        "{before} before, {held} now"
    );
    assert!(fs::read(disk.root().join("kept")).unwrap() == bytes);
}
