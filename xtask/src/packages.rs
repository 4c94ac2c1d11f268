//! Debian packages: those the system must have, and those unpacked beside it for tests.
//!
//! Called by the tasks before they need a tool. Installing names what is missing first; without
//! root the command to type is the error.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cmd;

/// A package the system must have, and the suite it must come from if not the system's own.
#[derive(Clone, Copy)]
pub struct Package {
    /// Its name in Debian.
    pub name: &'static str,
    /// A suite such as `bookworm-backports`.
    pub suite: Option<&'static str>,
}

/// A package of the system's own suite.
#[must_use]
pub const fn package(name: &'static str) -> Package {
    Package { name, suite: None }
}

/// Installs those of `wanted` that are missing, naming them.
///
/// # Errors
///
/// When apt fails, or packages are missing and this is not root: the message is the command to type.
pub fn ensure(wanted: &[Package]) -> Result<()> {
    let missing: Vec<Package> = wanted.iter().copied().filter(|p| !installed(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|p| p.name).collect();
    if !is_root() {
        bail!(
            "these packages are missing: {0}\n\nhint: sudo apt-get install {0}",
            names.join(" ")
        );
    }
    eprintln!("installing with apt-get: {}", names.join(" "));
    for suite in missing.iter().filter_map(|p| p.suite) {
        add_suite(suite)?;
    }
    cmd::run(apt().arg("update"))?;
    for package in &missing {
        let mut install = apt();
        install.args(["install", "-y", "--no-install-recommends"]);
        if let Some(suite) = package.suite {
            install.args(["-t", suite]);
        }
        cmd::run(install.arg(package.name))?;
    }
    Ok(())
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "-o", "Dpkg::Use-Pty=0"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

/// Installed, and (for a package from another suite) at least at that suite's version.
fn installed(package: &Package) -> bool {
    let shown = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Version}", package.name])
        .stderr(Stdio::null())
        .output();
    let Ok(shown) = shown else { return false };
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let Some(version) = text.strip_prefix("installed ") else {
        return false;
    };
    // A backport carries `~bpo` in its version; the release's own package does not. Debian 13 and
    // later need no backport, and their version says 13 or above.
    package.suite.is_none_or(|suite| {
        !suite.ends_with("-backports") || version.contains("~bpo") || !is_bookworm()
    })
}

fn is_bookworm() -> bool {
    std::fs::read_to_string("/etc/os-release")
        .is_ok_and(|t| t.contains("VERSION_CODENAME=bookworm"))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|o| o.stdout.starts_with(b"0\n"))
}

/// Adds a suite of the system's own mirror to apt's sources.
fn add_suite(suite: &str) -> Result<()> {
    let known = Command::new("apt-cache")
        .arg("policy")
        .output()
        .context("apt-cache")?;
    if String::from_utf8_lossy(&known.stdout).contains(&format!(" {suite}/main ")) {
        return Ok(());
    }
    let file = format!("/etc/apt/sources.list.d/lighter-{suite}.list");
    let line = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror());
    eprintln!("adding {suite} to apt's sources in {file}");
    std::fs::write(&file, line).with_context(|| file.clone())
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The mirror this system uses, so that tests work behind a mirror of one's own.
pub fn mirror() -> String {
    let mut texts = vec![std::fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    if let Ok(parts) = std::fs::read_dir("/etc/apt/sources.list.d") {
        let parts = parts.flatten().map(|part| part.path());
        texts.extend(parts.filter_map(|path| std::fs::read_to_string(path).ok()));
    }
    texts
        .iter()
        .flat_map(|text| text.split_whitespace())
        .find(|word| word.starts_with("http") && word.ends_with("/debian"))
        .unwrap_or("http://deb.debian.org/debian")
        .to_owned()
}

/// Packages of another suite, unpacked (not installed) into a folder of the cache: real clients
/// and servers of another Debian for the tests. Returns the folder.
///
/// # Errors
///
/// When apt or dpkg-deb fails; a half-made folder is never returned.
pub fn unpacked(cache: &Path, suite: &str, names: &[&str]) -> Result<PathBuf> {
    let root = cache.join("debian").join(suite);
    let stamp = root.join(".packages");
    let wanted = names.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(root.join("root"));
    }
    eprintln!("fetching from Debian {suite}: {}", names.join(" "));
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    for dir in ["lists/partial", "archives/partial", "debs", "root"] {
        std::fs::create_dir_all(root.join(dir))?;
    }
    let sources = root.join("sources.list");
    std::fs::write(
        &sources,
        format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()),
    )?;
    let private = |command: &mut Command| {
        for (key, value) in [
            ("Dir::Etc::SourceList", sources.display().to_string()),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            (
                "Dir::State::Lists",
                root.join("lists").display().to_string(),
            ),
            ("Dir::Cache", root.display().to_string()),
            ("Acquire::Check-Valid-Until", "false".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            command.arg("-o").arg(format!("{key}={value}"));
        }
    };
    let mut update = apt();
    private(&mut update);
    cmd::run(update.arg("update"))?;
    let mut download = apt();
    private(&mut download);
    cmd::run(
        download
            .arg("download")
            .args(names)
            .current_dir(root.join("debs")),
    )?;
    for deb in std::fs::read_dir(root.join("debs"))? {
        cmd::run(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(deb?.path())
                .arg(root.join("root")),
        )?;
    }
    std::fs::write(&stamp, wanted)?;
    Ok(root.join("root"))
}
