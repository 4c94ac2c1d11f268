//! Fetching the Debian packages that an image is made of, each pinned by its hash.
//!
//! ```text
//! inputs/<package>-<hash>.deb, <package>-<hash>/     fetched and unpacked
//! inputs/<package>-<pinned hash>.instead.json        what was taken when Debian no longer had the pinned one
//! apt/                                               apt's lists of our own, so that nobody needs root
//! ```

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::cache::{Cache, remove_all, sha256_file};
use super::spec::Package;
use crate::cmd;

/// Where packages come from, and where they are kept.
pub struct Debian<'a> {
    /// Where they are kept.
    pub cache: &'a Cache,
    apt_get: OsString,
}

/// Why a package could not be had.
enum Refused {
    /// Debian has none of this version.
    NoSuchVersion,
    /// Anything else, in apt's words.
    Failed(String),
}

impl<'a> Debian<'a> {
    /// Packages by this system's apt.
    pub fn new(cache: &'a Cache) -> Self {
        Self {
            cache,
            apt_get: "apt-get".into(),
        }
    }

    /// Packages by another program in apt's place.
    #[cfg(test)]
    pub fn by(cache: &'a Cache, apt_get: &Path) -> Self {
        Self {
            cache,
            apt_get: apt_get.into(),
        }
    }

    /// Fetches a pinned package into the cache and unpacks it.
    ///
    /// If Debian no longer has that version, the newest of the same package is taken, now and until the pin
    /// changes, and a line says so. Returns the folder and what was really used.
    pub fn unpacked(&self, pin: &Package) -> Result<(PathBuf, Package)> {
        let pinned = self.place(pin, &pin.deb_sha256, "");
        if pinned.is_dir() {
            return Ok((pinned, pin.clone()));
        }
        if let Some(found) = self.taken_instead(pin) {
            return Ok(found);
        }
        self.cache.lock()?;
        let (deb, used) = self.fetched(pin)?;
        let folder = self.place(pin, &used.deb_sha256, "");
        self.cache.once(&folder, |to| {
            cmd::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(to))
        })?;
        if used.deb_sha256 != pin.deb_sha256 {
            let note = serde_json::to_vec_pretty(&used)?;
            super::cache::write_whole(&self.note(pin), &note)?;
        }
        Ok((folder, used))
    }

    fn place(&self, pin: &Package, sha256: &str, ending: &str) -> PathBuf {
        let name = format!("{}-{}{ending}", pin.package, &sha256[..16]);
        self.cache.inputs().join(name)
    }

    fn note(&self, pin: &Package) -> PathBuf {
        self.place(pin, &pin.deb_sha256, ".instead.json")
    }

    /// What an earlier call had to take instead of the pinned version, if it is still there.
    fn taken_instead(&self, pin: &Package) -> Option<(PathBuf, Package)> {
        let note = fs::read(self.note(pin)).ok()?;
        let used: Package = serde_json::from_slice(&note).ok()?;
        let folder = used
            .has_hash()
            .then(|| self.place(pin, &used.deb_sha256, ""))?;
        folder.is_dir().then(|| {
            say_instead(pin, &used);
            (folder, used)
        })
    }

    /// The package's file: the pinned one where it can be had, else the newest.
    fn fetched(&self, pin: &Package) -> Result<(PathBuf, Package)> {
        let stored = self.place(pin, &pin.deb_sha256, ".deb");
        if stored.is_file() && sha256_file(&stored)? == pin.deb_sha256 {
            return Ok((stored, pin.clone()));
        }
        eprintln!("image: fetching {} {}", pin.package, pin.version);
        let wanted = format!("{}={}", pin.package, pin.version);
        let deb = match self.download(&wanted, Lists::Systems) {
            Ok(deb) => deb,
            // The system's lists may be old or absent: that says nothing about Debian yet.
            Err(_) => {
                self.update()?;
                match self.download(&wanted, Lists::Own) {
                    Ok(deb) => deb,
                    Err(Refused::Failed(words)) => {
                        bail!("cannot fetch {wanted}: {words}\n\nhint: is there a network?")
                    }
                    Err(Refused::NoSuchVersion) => self.newest(pin)?,
                }
            }
        };
        let used = describe(&deb)?;
        ensure!(
            used.package == pin.package,
            "apt-get gave {} for {wanted}",
            used.package
        );
        ensure!(
            used.version != pin.version || used.deb_sha256 == pin.deb_sha256,
            "{wanted} has sha256 {}, image.toml pins {}: the mirror gave another file than the one that was pinned",
            used.deb_sha256,
            pin.deb_sha256
        );
        let path = self.place(pin, &used.deb_sha256, ".deb");
        fs::rename(&deb, &path)?;
        if used.version != pin.version {
            say_instead(pin, &used);
        }
        Ok((path, used))
    }

    fn newest(&self, pin: &Package) -> Result<PathBuf> {
        self.download(&pin.package, Lists::Own).map_err(|refused| {
            let words = match refused {
                Refused::NoSuchVersion => "Debian has none of any version".to_owned(),
                Refused::Failed(words) => words,
            };
            anyhow::anyhow!(
                "Debian no longer has {} {}, and its newest cannot be fetched: {words}",
                pin.package,
                pin.version
            )
        })
    }

    fn update(&self) -> Result<()> {
        eprintln!("image: asking Debian what it has");
        let own = self.own_lists();
        for folder in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(own.join(folder))?;
        }
        let mut apt = self.apt(Lists::Own);
        let output = apt.args(["-qq", "update"]).output().context("apt-get")?;
        ensure!(
            output.status.success(),
            "Debian's package lists cannot be had: {}\n\nhint: is there a network?",
            words_of(&output.stderr)
        );
        Ok(())
    }

    /// Downloads one package and returns its file.
    fn download(&self, what: &str, lists: Lists) -> Result<PathBuf, Refused> {
        let failed = |error: &dyn std::fmt::Display| Refused::Failed(error.to_string());
        let folder = self.cache.build("download");
        remove_all(&folder)
            .and_then(|()| Ok(fs::create_dir_all(&folder)?))
            .map_err(|e| failed(&e))?;
        let mut apt = self.apt(lists);
        apt.args(["-qq", "download", what]).current_dir(&folder);
        let output = apt.output().map_err(|e| failed(&e))?;
        let words = words_of(&output.stderr);
        if !output.status.success() {
            // Not in the lists, or in the lists but no longer on the mirror.
            let gone = [
                "was not found",
                "Unable to locate package",
                "404  Not Found",
            ];
            return Err(if gone.iter().any(|sign| words.contains(sign)) {
                Refused::NoSuchVersion
            } else {
                Refused::Failed(words)
            });
        }
        the_deb_in(&folder).map_err(|e| failed(&e))
    }

    fn own_lists(&self) -> PathBuf {
        self.cache.build("apt")
    }

    fn apt(&self, lists: Lists) -> Command {
        let mut apt = Command::new(&self.apt_get);
        // As root, apt would drop its privileges to a user who cannot write here.
        apt.args(["-o", "APT::Sandbox::User=root"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        if lists == Lists::Own {
            let own = self.own_lists();
            for (key, folder) in [
                ("Dir::State::Lists", own.join("lists")),
                ("Dir::Cache", own),
            ] {
                apt.arg("-o").arg(format!("{key}={}", folder.display()));
            }
        }
        apt
    }
}

/// Whose lists of packages apt goes by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// Those of the machine, which only root may renew.
    Systems,
    /// Ours.
    Own,
}

fn say_instead(pin: &Package, used: &Package) {
    eprintln!(
        "image: Debian no longer has {} {}; taking the newest of the series, {} (sha256 {}): put both into vm-image/image.toml",
        pin.package, pin.version, used.version, used.deb_sha256
    );
}

/// Name, version and hash of a package's file.
fn describe(deb: &Path) -> Result<Package> {
    let field = |name: &str| -> Result<String> {
        let text = run_quiet("dpkg-deb", &["-f", &deb.to_string_lossy(), name])?;
        Ok(text.trim().to_owned())
    };
    Ok(Package {
        package: field("Package")?,
        version: field("Version")?,
        deb_sha256: sha256_file(deb)?,
    })
}

fn words_of(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).trim().to_owned()
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

#[cfg(test)]
#[path = "debian_tests.rs"]
mod tests;
