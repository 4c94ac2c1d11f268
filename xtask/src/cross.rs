//! `cargo xtask cross`: are the host crates sound for the systems this machine cannot run?
//!
//! With rustup's targets where they are installed; else with Debian's own Rust in a root of its
//! own under the cache, which can build `std` for a target from source.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages::{self, package};
use crate::{cmd, paths};

/// The crates that run on every host.
const HOST: &[&str] = &[
    "lighter-protocol",
    "lighter-platform",
    "lighter-machine",
    "lighter-daemon",
    "lighter-cli",
];

struct Target {
    triple: &'static str,
    /// `check` where there is no linker for the target.
    verb: &'static str,
}

const TARGETS: &[Target] = &[
    Target {
        triple: "aarch64-apple-darwin",
        verb: "check",
    },
    Target {
        triple: "x86_64-pc-windows-gnu",
        verb: "build",
    },
];

/// Check the host crates for macOS and build them for Windows.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Checks for macOS and builds for Windows.
///
/// # Errors
///
/// When a target does not compile.
pub fn run(_args: &Args) -> Result<()> {
    let root = &paths::root();
    for target in TARGETS {
        println!("{} for {}", target.verb, target.triple);
        if rustup_has(target.triple) {
            let mut cargo = Command::new(env!("CARGO"));
            cargo
                .args([target.verb, "--quiet", "--target", target.triple])
                .current_dir(root);
            cmd::run(cargo.args(packages_args()))?;
        } else {
            in_debian_root(root, target)?;
        }
    }
    Ok(())
}

fn packages_args() -> Vec<&'static str> {
    HOST.iter().flat_map(|name| ["--package", name]).collect()
}

fn rustup_has(triple: &str) -> bool {
    let list = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .output();
    list.is_ok_and(|o| {
        String::from_utf8_lossy(&o.stdout)
            .lines()
            .any(|l| l == triple)
    })
}

const SUITE: &str = "forky";
const TOOLCHAIN: &str = "rustc cargo rust-src gcc libc6-dev gcc-mingw-w64-x86-64-win32 pkg-config";

/// Runs cargo of Debian's Rust in its root, with the tree bound read-write at /src.
fn in_debian_root(root: &Path, target: &Target) -> Result<()> {
    if !packages::is_root() {
        bail!(
            "without rustup's target {0} this needs a root of Debian's Rust, which only root can make\n\n\
             hint: `rustup target add {0}`, or run this with sudo",
            target.triple
        );
    }
    packages::ensure(&[package("debootstrap")])?;
    let debian = debian_root()?;
    let out = paths::cache().join("cross-target");
    std::fs::create_dir_all(&out)?;
    let words: Vec<String> = packages_args().iter().map(|w| (*w).to_owned()).collect();
    let cargo = format!(
        "cd /src && exec cargo {} --quiet -Zbuild-std=std,panic_abort --target {} {}",
        target.verb,
        target.triple,
        words.join(" ")
    );
    // A mount namespace of its own: nothing stays mounted when this ends.
    let script = r#"
        mount --bind "$2" "$1/src"; mount --bind "$3" "$1/out"
        mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"
        exec chroot "$1" env -i HOME=/root PATH=/usr/bin:/bin RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=/out \
            CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc-win32 sh -c "$4"
    "#;
    cmd::run(
        Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "bash",
                "-euc",
                script,
                "cross",
            ])
            .arg(&debian)
            .arg(root)
            .arg(&out)
            .arg(cargo),
    )
}

/// Makes the root with Debian's Rust the first time; about three minutes.
fn debian_root() -> Result<PathBuf> {
    let debian = paths::cache().join("cross-root");
    if debian.join("usr/bin/cargo").exists() {
        return Ok(debian);
    }
    eprintln!(
        "making a root with Debian {SUITE}'s Rust in {}: about 3 minutes",
        debian.display()
    );
    let script = Path::new("/usr/share/debootstrap/scripts").join(SUITE);
    if !script.exists() {
        std::os::unix::fs::symlink("sid", &script).with_context(|| script.display().to_string())?;
    }
    let lock = std::fs::File::create(debian.with_extension("lock"))?;
    lock.lock().context("cannot lock the root's folder")?;
    if debian.join("usr/bin/cargo").exists() {
        return Ok(debian);
    }
    let new = debian.with_extension("new");
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    std::fs::create_dir_all(&new)?;
    let mirror = packages::mirror();
    cmd::run(
        Command::new("debootstrap")
            .args(["--variant=minbase", "--include=ca-certificates", SUITE])
            .arg(&new)
            .arg(&mirror)
            .stdout(std::process::Stdio::null()),
    )?;
    let certificates = "etc/ssl/certs/ca-certificates.crt";
    std::fs::copy(Path::new("/").join(certificates), new.join(certificates))?;
    let install = format!(
        "apt-get -o Acquire::Check-Valid-Until=false update -qq && DEBIAN_FRONTEND=noninteractive \
         apt-get -o Acquire::Check-Valid-Until=false install -y -qq --no-install-recommends {TOOLCHAIN} >/dev/null"
    );
    cmd::run(
        Command::new("chroot")
            .arg(&new)
            .args(["sh", "-c", &install]),
    )?;
    std::fs::copy(Path::new("/").join(certificates), new.join(certificates))?;
    for dir in ["src", "out"] {
        std::fs::create_dir_all(new.join(dir))?;
    }
    std::fs::rename(&new, &debian)?;
    Ok(debian)
}
