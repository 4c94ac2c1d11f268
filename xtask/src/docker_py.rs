//! docker-py's own integration tests, and a Python environment that can run them.
//!
//! Called by `cargo xtask test`. Both are pinned by version and hash in `tests/clients/docker_py`,
//! come through pip from whatever index it is set up for, and lie in the cache, never in the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{cmd, paths};

/// Raised when the way of building changes in a way that changes the result.
const RECIPE: u32 = 1;
const STAMP: &str = ".made-of";

/// The folder with the tests in `suite` and the environment in `venv`, made if it was not yet.
///
/// # Errors
///
/// When Python or pip fails, or what pip gets is not what was pinned.
pub fn folder(cache: &Path) -> Result<PathBuf> {
    let pins = paths::root().join("tests/clients/docker_py");
    let folder = cache.join("docker-py");
    fs::create_dir_all(&folder)?;
    let lock = fs::File::create(folder.with_extension("lock"))?;
    lock.lock().context("cannot lock the folder of docker-py")?;
    let made_of = made_of(&pins)?;
    if fs::read_to_string(folder.join(STAMP)).is_ok_and(|have| have == made_of) {
        return Ok(folder);
    }
    eprintln!("fetching docker-py's tests through pip (once)");
    // A virtual environment knows its own path: it is made where it stays, and the stamp comes last.
    fs::remove_dir_all(&folder)?;
    fs::create_dir_all(folder.join("suite"))?;
    let python = environment(&folder, &pins.join("requirements.txt"))?;
    suite(&folder, &python, &pins.join("suite.txt"))?;
    fs::write(folder.join(STAMP), made_of)?;
    Ok(folder)
}

/// What the folder depends on: the pins, the interpreter, and how it is made.
fn made_of(pins: &Path) -> Result<String> {
    let python = Command::new("python3").arg("--version").output();
    let python = python.context("python3")?.stdout;
    let mut hash = Sha256::new();
    for name in ["requirements.txt", "suite.txt"] {
        let path = pins.join(name);
        hash.update(fs::read(&path).with_context(|| path.display().to_string())?);
    }
    Ok(format!(
        "{RECIPE} {} {}",
        hex::encode(hash.finalize()),
        String::from_utf8_lossy(&python).trim()
    ))
}

/// Makes the environment; its interpreter.
fn environment(folder: &Path, requirements: &Path) -> Result<PathBuf> {
    let venv = folder.join("venv");
    cmd::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .context("hint: Debian has Python's `venv` in python3-venv")?;
    let python = venv.join("bin/python");
    let mut install = pip(&python);
    install.args(["install", "--only-binary", ":all:", "--no-deps"]);
    cmd::run(install.args(["--require-hashes", "-r"]).arg(requirements))?;
    Ok(python)
}

/// Fetches the source archive and unpacks it. pip asks it for its name by running its `setup.py`, in
/// our environment: one of pip's own making would be of unpinned packages.
fn suite(folder: &Path, python: &Path, pin: &Path) -> Result<()> {
    let archives = tempfile::tempdir_in(folder)?;
    let mut download = pip(python);
    download.args(["download", "--no-binary", ":all:", "--no-deps"]);
    download.args(["--no-build-isolation", "--require-hashes", "-r"]);
    cmd::run(download.arg(pin).arg("-d").arg(archives.path()))?;
    let archive = fs::read_dir(archives.path())?
        .next()
        .context("pip fetched nothing")??;
    cmd::run(
        Command::new("tar")
            .args(["--strip-components=1", "-xzf"])
            .arg(archive.path())
            .arg("-C")
            .arg(folder.join("suite")),
    )
}

fn pip(python: &Path) -> Command {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "-q", "--no-input"]);
    pip.arg("--disable-pip-version-check");
    pip
}
