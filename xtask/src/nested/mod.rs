//! `cargo xtask test nested`: Lighter under real KVM, on a machine that has none.
//!
//! ```text
//! this machine ── QEMU, TCG, a CPU with SVM ──► outer machine: Debian's kernel, /dev/kvm
//!   ▲                                               │ runs /tests/*: our `lighter`, QEMU with -accel kvm
//!   └────────── second serial line: outcomes ◄──────┘
//! ```
//!
//! The outer machine is one kernel and one initramfs: modules, programs with their libraries, the
//! image, and a test program a file. A test of another program (our own VMM) is a file more in
//! `tests/` and a line more in [`root::PROGRAMS`]. Takes about two minutes, so `cargo xtask test`
//! leaves it out.

mod outcome;
mod root;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::image::cache::Cache;
use crate::image::debian::{Debian, run_quiet};
use crate::image::spec::Package;
use crate::{image, paths, try_it};

const SPEC: &str = include_str!("outer.toml");
/// Longest the whole machine may run.
const LIMIT: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    meta_package: String,
    modules: Vec<String>,
    kernel: Package,
}

/// Builds the outer machine, runs it and reports; `only` is a part of the tests' names.
///
/// # Errors
///
/// When something cannot be built, a test failed, or the machine ended before it had run them all.
pub fn run(only: Option<&str>) -> Result<()> {
    let spec: Spec = toml::from_str(SPEC).context("outer.toml is not as it should be")?;
    let image = image::make(&image::Args::default())?;
    let lighter = try_it::build()?;
    let kernel = kernel(&spec)?;
    let folder = paths::cache().join("nested");
    fs::create_dir_all(&folder)?;
    let initramfs = folder.join("initramfs.cpio");
    let parts = root::Parts {
        modules: modules(&kernel, &spec.modules)?,
        lighter,
        image: image.path.clone(),
        only,
    };
    let wanted = root::write(&parts, &initramfs)?;
    if wanted.is_empty() {
        bail!("no nested test has that in its name");
    }
    let started = Instant::now();
    let log = folder.join("console.log");
    let outcomes = boot(
        &only_file(&kernel.join("boot"), "vmlinuz-")?,
        &initramfs,
        &log,
    )?;
    let failed = outcome::report(&wanted, &outcomes);
    println!("nested tests took {} s", started.elapsed().as_secs());
    if failed > 0 {
        let console = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let lines: Vec<&str> = console.lines().collect();
        for line in &lines[lines.len().saturating_sub(200)..] {
            eprintln!("| {line}");
        }
        bail!(
            "{failed} nested tests failed; the outer machine's console is in {}",
            log.display()
        );
    }
    Ok(())
}

/// The unpacked kernel package.
fn kernel(spec: &Spec) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let debian = Debian::new(&cache);
    let unknown = match debian.unpacked(&spec.kernel) {
        Ok((folder, _)) => return Ok(folder),
        Err(error) => error,
    };
    let depends = run_quiet("apt-cache", &["depends", &spec.meta_package])?;
    let newest = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .with_context(|| format!("apt knows no {}", spec.meta_package))?;
    if newest == spec.kernel.package {
        return Err(unknown);
    }
    eprintln!("nested: taking {newest} instead of {}", spec.kernel.package);
    let package = Package {
        package: newest.to_owned(),
        // No such version and no such hash: the newest of that name is taken.
        version: "0".to_owned(),
        deb_sha256: "0".repeat(64),
    };
    Ok(debian.unpacked(&package)?.0)
}

fn modules(kernel: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    let version = only_file(&kernel.join("lib/modules"), "")?;
    let found = names.iter().map(|name| version.join("kernel").join(name));
    Ok(found.collect())
}

fn only_file(folder: &Path, prefix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with(prefix))
        {
            return Ok(path);
        }
    }
    bail!("there is no {prefix}* in {}", folder.display())
}

/// Runs the outer machine to its end and returns what came over its second serial line.
fn boot(kernel: &Path, initramfs: &Path, log: &Path) -> Result<Vec<outcome::Line>> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ])
    // Every number here is one that Debian's kernel and its kvm-amd work with under TCG.
    .args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "EPYC,+svm,+npt",
        "-machine",
        "q35",
    ])
    .args(["-smp", "2", "-m", "4096", "-kernel"])
    .arg(kernel)
    .arg("-initrd")
    .arg(initramfs)
    .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
    .arg("-serial")
    .arg(format!("file:{}", log.display()))
    .arg("-chardev")
    .arg(format!("socket,id=tests,fd={}", theirs.as_raw_fd()))
    .args(["-serial", "chardev:tests"])
    .stdin(Stdio::null())
    .stderr(File::create(log.with_extension("qemu"))?);
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?;
    let mut child = qemu
        .spawn()
        .context("qemu-system-x86_64 could not be started")?;
    drop(theirs);
    let pid = child.id();
    let (ended, over) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if over.recv_timeout(LIMIT).is_err() {
            eprintln!("nested: the outer machine is still running after {LIMIT:?}: it is ended");
            // Fails only if it has just ended by itself.
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    });
    let lines = outcome::read(ours);
    child.wait()?;
    let _ = ended.send(());
    let _ = guard.join();
    lines
}
