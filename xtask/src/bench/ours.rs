//! Our side of a benchmark: a Lighter in a home of its own, of the size the peer has.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::flush::Flush;
use super::processes;
use crate::image::{self, InUse};
use crate::try_it;

/// What is measured: made once for all rows of a benchmark, so that they are of the same sources.
pub struct Built {
    image: InUse,
    lighter: PathBuf,
}

impl Built {
    /// Builds everything, or takes what was built last.
    ///
    /// # Errors
    ///
    /// When a build fails, or nothing was built.
    pub fn new(as_built: bool) -> Result<Self> {
        let (image, lighter) = if as_built {
            let lighter = try_it::built();
            ensure!(
                lighter.is_file(),
                "{} was not built yet: leave out --as-built",
                lighter.display()
            );
            (image::current()?, lighter)
        } else {
            (image::make(&image::Args::default())?, try_it::build()?)
        };
        Ok(Self { image, lighter })
    }

    /// The `lighter` program.
    #[must_use]
    pub fn lighter(&self) -> &Path {
        &self.lighter
    }

    /// The kernel as QEMU starts it.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.image.path.join("vmlinux")
    }
}

/// A Lighter with 2 CPUs.
pub struct Ours<'a> {
    environment: Option<(&'static str, PathBuf)>,
    built: &'a Built,
    home: PathBuf,
}

impl<'a> Ours<'a> {
    /// Writes the settings for as much memory as the peer has, 2 GiB; starts nothing. Its disk's flushes are as
    /// given.
    ///
    /// # Errors
    ///
    /// When there can be no folder for it.
    pub fn new(built: &'a Built, flush: &Flush) -> Result<Self> {
        Self::with_memory(built, flush, "2GiB")
    }

    /// The same for another memory, as the setting is written.
    ///
    /// # Errors
    ///
    /// As [`Ours::new`].
    pub fn with_memory(built: &'a Built, flush: &Flush, memory: &str) -> Result<Self> {
        // Short: the path of a unix socket has 108 bytes.
        let home = tempfile::Builder::new()
            .prefix("ltb")
            .tempdir_in("/tmp")?
            .keep();
        std::fs::create_dir_all(home.join("config"))?;
        let settings = format!("cpus = 2\nmemory = \"{memory}\"\n");
        std::fs::write(home.join("config/config.toml"), settings)?;
        Ok(Self {
            environment: flush
                .environment()
                .map(|(name, path)| (name, path.to_owned())),
            built,
            home,
        })
    }

    /// The docker socket, as docker takes it.
    #[must_use]
    pub fn socket(&self) -> String {
        format!("unix://{}", self.socket_path().display())
    }

    /// The docker socket.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.home.join("run/docker.sock")
    }

    /// Its host processes: daemon, machine, files, QEMU.
    ///
    /// # Errors
    ///
    /// When /proc cannot be read.
    pub fn processes(&self) -> Result<Vec<u32>> {
        processes::of_home(&self.home)
    }

    /// Runs a `lighter` command.
    ///
    /// # Errors
    ///
    /// When it fails, with what it said.
    pub fn lighter(&self, args: &[&str]) -> Result<String> {
        let out = Command::new(&self.built.lighter)
            .args(args)
            .env("LIGHTER_HOME", &self.home)
            .env("HOME", &self.home)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("LIGHTER_IMAGE_DIR", &self.built.image.path)
            .stdin(Stdio::null())
            .output()
            .context("lighter")?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(out.status.success(), "lighter {args:?}: {said}");
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

impl Drop for Ours<'_> {
    fn drop(&mut self) {
        if self.lighter(&["down"]).is_ok() {
            // Only a folder in /tmp; the figures are already taken.
            let _ = std::fs::remove_dir_all(&self.home);
        }
    }
}
