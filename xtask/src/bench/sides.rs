//! The two sides of a benchmark and the client that drives both.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::flush::Flush;
use super::ours::{Built, Ours};
use super::peer::{Image, Peer};
use crate::{packages, paths};

/// The docker CLI and the other programs of other people, from the tests' own folder.
pub struct Tools {
    folder: PathBuf,
    /// Ours, to be started as often as needed.
    pub built: Built,
}

impl Tools {
    /// Fetches them the first time, and builds ours or takes it as built.
    ///
    /// # Errors
    ///
    /// When they cannot be had or built.
    pub fn ensure(as_built: bool) -> Result<Self> {
        let root = packages::unpacked(&paths::cache(), "sid", crate::test::CLIENTS)?;
        Ok(Self {
            folder: root.join("usr/bin"),
            built: Built::new(as_built)?,
        })
    }

    /// The folder of programs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The docker CLI.
    #[must_use]
    pub fn docker_path(&self) -> PathBuf {
        self.folder.join("docker")
    }

    /// Runs docker against a socket and returns what it printed.
    ///
    /// # Errors
    ///
    /// When it fails, with what it said.
    pub fn docker(&self, socket: &str, args: &[&str]) -> Result<String> {
        let out = Command::new(self.docker_path())
            .args(["-H", socket])
            .args(args)
            .env("DOCKER_CONFIG", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .context("docker")?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(out.status.success(), "docker {args:?} on {socket}: {said}");
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// How long docker took, in milliseconds.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn timed(&self, socket: &str, args: &[&str]) -> Result<f64> {
        let start = Instant::now();
        self.docker(socket, args)?;
        Ok(milliseconds(start))
    }
}

/// Both sides, running, with the built-in image under the name `busybox`.
pub struct Sides<'a> {
    /// Ours.
    pub ours: Ours<'a>,
    /// The peer.
    pub peer: Peer,
}

impl<'a> Sides<'a> {
    /// Starts both on disks with these flushes.
    ///
    /// # Errors
    ///
    /// When either does not come up.
    pub fn start(tools: &'a Tools, image: &Image, flush: &Flush) -> Result<Self> {
        let ours = Ours::new(&tools.built, flush)?;
        ours.lighter(&["up"])?;
        let peer = image.start(&tools.docker_path(), flush)?;
        let sides = Self { ours, peer };
        give_busybox(tools, &sides.ours.socket(), &[&sides.peer.socket()])?;
        Ok(sides)
    }
}

/// Gives the built-in image of ours to the others, under the name `busybox` everywhere.
///
/// # Errors
///
/// When one does not take it.
pub fn give_busybox(tools: &Tools, ours: &str, others: &[&str]) -> Result<()> {
    tools.docker(ours, &["tag", "lighter/hello", "busybox"])?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("busybox.tar").display().to_string();
    tools.docker(ours, &["save", "-o", &archive, "busybox"])?;
    for other in others {
        tools.docker(other, &["load", "-q", "-i", &archive])?;
    }
    Ok(())
}

/// Since then.
#[must_use]
pub fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}
