//! The image in which dockerd runs inside a machine of ours: Debian sid's dockerd, containerd and runc with the
//! libraries they were built against, and the program that `tests/src/inner.rs` speaks to. No shell, no iptables.
//!
//! Called by `cargo xtask test` and `cargo xtask bench engine`. Kept in the cache, and made again when a package or the
//! program changes. It is loaded into emulated machines: what is not needed is not in it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lighter_tests::{inner, probe};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{image_archive, packages};

/// Raised when the way of building changes in a way that changes the result.
const RECIPE: u32 = 1;

/// Beside the packages of the clients: what those need that this system has in another version.
const PACKAGES: [&str; 5] = ["libc6", "libseccomp2", "libsystemd0", "runc", "tini-static"];
const LIBRARIES: [&str; 4] = [
    "libc.so.6",
    "libm.so.6",
    "libseccomp.so.2",
    "libsystemd.so.0",
];
const PROGRAMS: [&str; 5] = [
    "usr/sbin/dockerd",
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/sbin/runc",
    "usr/bin/tini-static",
];
const LINKS: [(&str, &str); 4] = [
    ("usr/bin/docker-init", "tini-static"),
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("var/run", "/run"),
];
const FOLDERS: [&str; 8] = ["dev", "etc", "proc", "root", "run", "sys", "tmp", "var/lib"];
const LOADER: &str = "ld-linux-x86-64.so.2";
const LIBRARY_FOLDER: &str = "usr/lib/x86_64-linux-gnu";

/// The archive for `docker load`, built if it was not yet. `clients` is the folder with sid's dockerd.
///
/// # Errors
///
/// When a package cannot be had or lacks a file; a half-made archive is never returned.
pub fn archive(cache: &Path, clients: &Path) -> Result<PathBuf> {
    let more = more(cache)?;
    let folder = cache.join("inner-image");
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("lock"))?;
    lock.lock().context("cannot lock the image of dockerd")?;
    let archive = folder.join("dockerd.tar");
    let stamp = folder.join("made-of");
    let made_of = made_of(&[clients, &more])?;
    if archive.is_file() && fs::read_to_string(&stamp).is_ok_and(|have| have == made_of) {
        return Ok(archive);
    }
    eprintln!("building the image of dockerd inside a machine (once)");
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fill(&root, clients, &more)?;
    let config = json!({
        "Entrypoint": [inner::PROGRAM],
        "Env": ["PATH=/usr/sbin:/usr/bin"],
    });
    image_archive::write(
        &root,
        &format!("{}:latest", inner::IMAGE),
        &config,
        &archive,
    )?;
    fs::remove_dir_all(&root)?;
    fs::write(stamp, made_of)?;
    Ok(archive)
}

/// Fills the folder `root` with what is in the image, for a machine that has it as its own root.
///
/// # Errors
///
/// As [`archive`].
pub fn files(cache: &Path, clients: &Path, root: &Path) -> Result<()> {
    fill(root, clients, &more(cache)?)
}

fn more(cache: &Path) -> Result<PathBuf> {
    packages::unpacked_as(cache, "sid-inner", "sid", &PACKAGES)
}

/// What the image depends on: the packages' files, the program, and how it is made.
fn made_of(roots: &[&Path]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(format!(
        "{PACKAGES:?} {LIBRARIES:?} {PROGRAMS:?} {LINKS:?} {FOLDERS:?}\n"
    ));
    hash.update(fs::read(probe::INNER).context(probe::INNER)?);
    for root in roots {
        for program in PROGRAMS {
            let Ok(meta) = fs::metadata(root.join(program)) else {
                continue;
            };
            let time = meta.modified()?.duration_since(std::time::UNIX_EPOCH)?;
            hash.update(format!("{program} {} {}\n", meta.len(), time.as_secs()));
        }
    }
    Ok(format!("{RECIPE} {}", hex::encode(hash.finalize())))
}

fn fill(root: &Path, clients: &Path, more: &Path) -> Result<()> {
    for name in ["usr/bin", "usr/sbin", "lib64", LIBRARY_FOLDER] {
        fs::create_dir_all(root.join(name))?;
    }
    for name in FOLDERS {
        fs::create_dir_all(root.join(name))?;
    }
    let copy = |name: &str, to: &str| {
        // A library's name is a link to its version, which is followed.
        let from = [clients, more].map(|from| from.join(name));
        let from = from.iter().find(|from| from.is_file());
        let from = from.with_context(|| format!("no package has {name}"))?;
        fs::copy(from, root.join(to)).with_context(|| from.display().to_string())
    };
    for program in PROGRAMS {
        copy(program, program)?;
    }
    for library in LIBRARIES {
        let name = format!("{LIBRARY_FOLDER}/{library}");
        copy(&name, &name)?;
    }
    copy(
        &format!("{LIBRARY_FOLDER}/{LOADER}"),
        &format!("lib64/{LOADER}"),
    )?;
    for (name, target) in LINKS {
        symlink(target, root.join(name)).with_context(|| name.to_owned())?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    let program = inner::PROGRAM.trim_start_matches('/');
    probe::compile(Path::new(probe::INNER), &root.join(program))
}
