//! What a flush of the disk costs: as on this machine, or 5 ms, which laptops pay.
//!
//! Both virtual machines run on QEMU with raw files and write-back caches, so that each flush a guest asks for is
//! one `fdatasync` of QEMU's. A small library put before QEMU's own delays that call, on both sides alike; it
//! needs no privilege and no kernel module.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{self, package};
use crate::{cmd, paths};

const QEMU: &str = "qemu-system-x86_64";

const DELAY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
static int late(const char *name, int fd) {
    const struct timespec five_ms = { 0, 5000000 };
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    nanosleep(&five_ms, 0);
    return real(fd);
}
int fdatasync(int fd) { return late("fdatasync", fd); }
int fsync(int fd) { return late("fsync", fd); }
"#;

/// The QEMU that both sides start.
pub struct Flush {
    qemu: PathBuf,
    folder: Option<tempfile::TempDir>,
}

impl Flush {
    /// This machine's own flushes.
    #[must_use]
    pub fn own() -> Self {
        Self {
            qemu: PathBuf::from(QEMU),
            folder: None,
        }
    }

    /// Flushes that take 5 ms more.
    ///
    /// # Errors
    ///
    /// When the library cannot be made.
    pub fn of_5_ms() -> Result<Self> {
        packages::ensure(&[package("gcc"), package("libc6-dev")])?;
        let folder = tempfile::Builder::new().prefix("flush5ms-").tempdir()?;
        let (source, library) = (folder.path().join("late.c"), folder.path().join("late.so"));
        std::fs::write(&source, DELAY)?;
        cmd::run(
            Command::new("gcc")
                .args(["-O2", "-shared", "-fPIC", "-o"])
                .args([&library, &source]),
        )?;
        let qemu = folder.path().join(QEMU);
        let real = find(QEMU).context("no QEMU on the search path")?;
        let script = format!(
            "#!/bin/sh\nLD_PRELOAD={} exec {} \"$@\"\n",
            library.display(),
            real.display()
        );
        std::fs::write(&qemu, script)?;
        for path in [folder.path(), &qemu] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))?;
        }
        Ok(Self {
            qemu,
            folder: Some(folder),
        })
    }

    /// The program to start in QEMU's place.
    #[must_use]
    pub fn qemu(&self) -> &Path {
        &self.qemu
    }

    /// For ours, which takes QEMU's place from the environment; nothing where it is the usual one.
    #[must_use]
    pub fn environment(&self) -> Option<(&'static str, &Path)> {
        self.folder
            .is_some()
            .then_some(("LIGHTER_QEMU", self.qemu.as_path()))
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// A folder for what a benchmark puts on the disk: below the cache, since /tmp may be memory.
///
/// # Errors
///
/// When it cannot be made.
pub fn scratch() -> Result<tempfile::TempDir> {
    let parent = paths::cache().join("bench");
    std::fs::create_dir_all(&parent)?;
    tempfile::tempdir_in(&parent).with_context(|| parent.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flush_waits_and_still_flushes() {
        let flush = Flush::of_5_ms().expect("a library");
        let library = flush.qemu().with_file_name("late.so");
        let folder = tempfile::tempdir().expect("a folder");
        // `sync -d FILE` is one fdatasync; strace would see it, but the time alone proves the library is in.
        let start = std::time::Instant::now();
        let file = folder.path().join("f");
        std::fs::write(&file, "x").expect("written");
        for _ in 0..10 {
            let done = Command::new("sync")
                .arg("-d")
                .arg(&file)
                .env("LD_PRELOAD", &library)
                .status();
            assert!(done.expect("sync").success());
        }
        assert!(start.elapsed() >= std::time::Duration::from_millis(50));
    }
}
