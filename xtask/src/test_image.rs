//! The image that the folder tests run: Debian's gcc and make, PostgreSQL and Redis, in one layer.
//!
//! Made of packages as they are, without their installation scripts, and kept in the cache: the
//! tests need programs that people really run on shared folders, and there is no registry to ask.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::{cmd, image_archive, packages};

/// Raised when the way of building changes in a way that changes the result.
const RECIPE: u32 = 3;
/// The name it is loaded under.
const TAG: &str = "lighter-test/debian:latest";
/// What is asked for; apt adds what these need.
const PACKAGES: &[&str] = &[
    "bash",
    "coreutils",
    "findutils",
    "gcc",
    "grep",
    "libc6-dev",
    "make",
    "mawk",
    "postgresql-15",
    "redis-server",
    "sed",
    "util-linux",
];
/// Needed by name and never by what the tests run: the compiler's sanitizers, PostgreSQL's JIT and Perl.
const LEFT_OUT: &[&str] = &[
    "libasan",
    "libgprofng",
    "libllvm",
    "liblsan",
    "libperl",
    "libtsan",
    "libubsan",
    "libz3",
    "locales",
    "perl",
];
/// The same within the packages: an image that is loaded into every test machine is to be small.
const PRUNED: &[&str] = &[
    "usr/bin/x86_64-linux-gnu-dwp",
    "usr/bin/x86_64-linux-gnu-ld.gold",
    "usr/bin/x86_64-linux-gnu-lto-dump-12",
    "usr/lib/gcc/x86_64-linux-gnu/12/libasan.a",
    "usr/lib/gcc/x86_64-linux-gnu/12/libtsan.a",
    "usr/lib/gcc/x86_64-linux-gnu/12/lto1",
    "usr/lib/postgresql/15/lib/bitcode",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
];
/// What installation scripts would have made.
const LINKS: &[(&str, &str)] = &[
    ("bin/sh", "bash"),
    ("usr/bin/awk", "mawk"),
    ("usr/bin/cc", "gcc"),
];
const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nredis:x:998:998::/:/bin/false\npostgres:x:999:999::/:/bin/bash\n",
    ),
    ("etc/group", "root:x:0:\nredis:x:998:\npostgres:x:999:\n"),
];

/// The archive for `docker load`, built if it was not yet.
///
/// # Errors
///
/// When apt or dpkg-deb fails; a half-made archive is never returned.
pub fn archive(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("test-image");
    let archive = folder.join("debian.tar");
    let stamp = folder.join("recipe");
    let recipe = format!("{RECIPE} {}", PACKAGES.join(" "));
    if archive.is_file() && fs::read_to_string(&stamp).is_ok_and(|have| have == recipe) {
        return Ok(archive);
    }
    eprintln!("building the tests' image from Debian packages (once)");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for name in ["lists/partial", "archives/partial", "root"] {
        fs::create_dir_all(folder.join(name))?;
    }
    download(&folder)?;
    let root = folder.join("root");
    unpack(&folder.join("archives"), &root)?;
    complete(&root)?;
    let config = json!({
        "Cmd": ["bash"],
        "Env": ["PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    });
    image_archive::write(&root, TAG, &config, &archive)?;
    for name in ["lists", "archives", "root"] {
        fs::remove_dir_all(folder.join(name))?;
    }
    fs::write(stamp, recipe)?;
    Ok(archive)
}

/// All packages with what they need, as on a system that has none.
fn download(folder: &Path) -> Result<()> {
    let nothing = folder.join("status");
    File::create(&nothing)?;
    let mut apt = packages::apt();
    for (key, value) in [
        ("Dir::State::status", nothing.display().to_string()),
        ("Dir::Cache", folder.display().to_string()),
        ("APT::Install-Recommends", "false".to_owned()),
        ("APT::Sandbox::User", "root".to_owned()),
    ] {
        apt.arg("-o").arg(format!("{key}={value}"));
    }
    apt.args(["-y", "install", "--download-only"])
        .args(PACKAGES)
        .stdout(std::process::Stdio::null());
    cmd::run(&mut apt)
}

fn unpack(debs: &Path, root: &Path) -> Result<()> {
    for deb in fs::read_dir(debs)? {
        let deb = deb?.path();
        let name = deb.file_name().unwrap_or_default().to_string_lossy();
        if !name.ends_with(".deb") || LEFT_OUT.iter().any(|left| name.starts_with(left)) {
            continue;
        }
        cmd::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(root))?;
    }
    Ok(())
}

fn complete(root: &Path) -> Result<()> {
    for pruned in PRUNED {
        let path = root.join(pruned);
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if path.exists() {
            fs::remove_file(path)?;
        }
    }
    for (name, target) in LINKS {
        symlink(target, root.join(name)).with_context(|| (*name).to_owned())?;
    }
    for (name, text) in FILES {
        fs::write(root.join(name), text)?;
    }
    for folder in ["dev", "proc", "sys", "root", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    ensure!(
        root.join("usr/lib/postgresql/15/bin/postgres").is_file(),
        "Debian's postgresql-15 has no `postgres`"
    );
    Ok(())
}
