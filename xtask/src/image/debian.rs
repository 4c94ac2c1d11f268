//! Fetching the Debian packages that an image is made of, each pinned by its hash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::cache::{Cache, remove_all, sha256_file};
use super::spec::Package;
use crate::cmd;

fn apt(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null());
    cmd::run(&mut command)
}

/// Fetches a pinned package into the cache and unpacks it.
///
/// If the mirror has moved on, the newest version of the same package is taken, and a line says so.
/// Returns the folder and what was really used.
pub fn unpacked(cache: &Cache, pin: &Package) -> Result<(PathBuf, Package)> {
    let folder_of = |sha: &str| {
        cache
            .inputs()
            .join(format!("{}-{}", pin.package, &sha[..16]))
    };
    let pinned = folder_of(&pin.deb_sha256);
    if pinned.is_dir() {
        return Ok((pinned, pin.clone()));
    }
    cache.lock()?;
    let (deb, used) = fetched(cache, pin)?;
    let folder = folder_of(&used.deb_sha256);
    cache.once(&folder, |to| {
        cmd::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(to))
    })?;
    Ok((folder, used))
}

fn fetched(cache: &Cache, pin: &Package) -> Result<(PathBuf, Package)> {
    let stored = |sha: &str| {
        cache
            .inputs()
            .join(format!("{}-{}.deb", pin.package, &sha[..16]))
    };
    let path = stored(&pin.deb_sha256);
    if path.is_file() && sha256_file(&path)? == pin.deb_sha256 {
        return Ok((path, pin.clone()));
    }
    let folder = cache.build("download");
    remove_all(&folder)?;
    fs::create_dir_all(&folder)?;
    eprintln!("image: fetching {} {}", pin.package, pin.version);
    let pinned = format!("{}={}", pin.package, pin.version);
    if download(&folder, &pinned).is_err() {
        eprintln!("image: Debian no longer has {pinned}, taking the newest of the same series");
        apt(&["update", "-qq"])?;
        download(&folder, &pin.package)?;
    }
    let deb = the_deb_in(&folder)?;
    let sha = sha256_file(&deb)?;
    let version = run_quiet("dpkg-deb", &["-f", &deb.to_string_lossy(), "Version"])?
        .trim()
        .to_owned();
    if version == pin.version {
        ensure!(
            sha == pin.deb_sha256,
            "{pinned} has sha256 {sha}, image.toml pins {}",
            pin.deb_sha256
        );
    }
    let path = stored(&sha);
    fs::rename(&deb, &path)?;
    Ok((
        path,
        Package {
            package: pin.package.clone(),
            version,
            deb_sha256: sha,
        },
    ))
}

fn download(folder: &Path, what: &str) -> Result<()> {
    // As root, apt would drop its privileges to a user who cannot write here.
    let args = ["-qq", "-o", "APT::Sandbox::User=root", "download", what];
    cmd::run(
        Command::new("apt-get")
            .args(args)
            .current_dir(folder)
            .stderr(Stdio::null()),
    )
}

fn the_deb_in(folder: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            return Ok(path);
        }
    }
    bail!("apt-get download left no package in {}", folder.display())
}

/// Runs a command and returns what it printed.
pub fn run_quiet(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {args:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
