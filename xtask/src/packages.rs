//! Debian packages: those the system must have, and those unpacked beside it for tests.
//!
//! Called by the tasks before they need a tool. Installing names what is missing first; without
//! root the command to type is the error.

use std::collections::BTreeSet;
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
    if !has_apt() {
        bail!(
            "these programs are missing (by Debian's names of their packages): {}\n\n\
             hint: this machine has no apt-get; install them by its own means, QEMU as version 10 or newer",
            names.join(" ")
        );
    }
    if !is_root() {
        bail!(
            "these packages are missing: {}\n\nhint: {}",
            names.join(" "),
            commands_for(&missing)
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

/// What a person types, with the suite that a package must come from: Debian 12's own QEMU would not do.
fn commands_for(missing: &[Package]) -> String {
    let mut lines = Vec::new();
    let suites: BTreeSet<&str> = missing.iter().filter_map(|p| p.suite).collect();
    for suite in &suites {
        let file = list_of(suite);
        lines.push(format!(
            "echo 'deb {} {suite} main' | sudo tee {file}",
            mirror()
        ));
    }
    lines.push("sudo apt-get update".to_owned());
    for suite in std::iter::once(None).chain(suites.iter().map(|s| Some(*s))) {
        let of_suite = missing.iter().filter(|p| p.suite == suite);
        let names: Vec<&str> = of_suite.map(|p| p.name).collect();
        if !names.is_empty() {
            let from = suite.map_or(String::new(), |s| format!(" -t {s}"));
            lines.push(format!("sudo apt-get install{from} {}", names.join(" ")));
        }
    }
    lines.join("\n      ")
}

fn list_of(suite: &str) -> String {
    format!("/etc/apt/sources.list.d/lighter-{suite}.list")
}

fn has_apt() -> bool {
    let asked = Command::new("apt-get")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success())
}

/// `apt-get` that asks nothing and draws nothing.
pub fn apt() -> Command {
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

/// Whether this is root.
#[must_use]
pub fn is_root() -> bool {
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
    let file = list_of(suite);
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
    mirror_in(&texts).unwrap_or_else(|| "http://deb.debian.org/debian".to_owned())
}

/// The first Debian archive that lists of sources name, in either of apt's two forms.
fn mirror_in(texts: &[String]) -> Option<String> {
    let lines = texts.iter().flat_map(|text| text.lines());
    let named = lines.filter(|line| !line.trim_start().starts_with('#'));
    named
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.starts_with("http") && word.ends_with("/debian"))
        .map(str::to_owned)
}

/// Packages of another suite, unpacked (not installed) into a folder of the cache: real clients
/// and servers of another Debian for the tests. Returns the folder.
///
/// # Errors
///
/// When apt or dpkg-deb fails; a half-made folder is never returned.
pub fn unpacked(cache: &Path, suite: &str, names: &[&str]) -> Result<PathBuf> {
    unpack(&cache.join("debian").join(suite), suite, None, names)
}

/// As [`unpacked`], for another architecture than this machine's.
///
/// # Errors
///
/// As [`unpacked`].
pub fn unpacked_foreign(
    cache: &Path,
    suite: &str,
    architecture: &str,
    names: &[&str],
) -> Result<PathBuf> {
    let folder = cache.join("debian").join(format!("{suite}-{architecture}"));
    unpack(&folder, suite, Some(architecture), names)
}

/// As [`unpacked`], in a folder of another name, for those who need other packages of the suite.
///
/// # Errors
///
/// As [`unpacked`].
pub fn unpacked_as(cache: &Path, name: &str, suite: &str, names: &[&str]) -> Result<PathBuf> {
    unpack(&cache.join("debian").join(name), suite, None, names)
}

fn unpack(done: &Path, suite: &str, architecture: Option<&str>, names: &[&str]) -> Result<PathBuf> {
    let wanted = names.join("\n");
    let is_there = || std::fs::read_to_string(done.join(STAMP)).is_ok_and(|have| have == wanted);
    if is_there() {
        return Ok(done.join("root"));
    }
    std::fs::create_dir_all(done.parent().unwrap_or(done))?;
    let lock = std::fs::File::create(done.with_extension("lock"))?;
    lock.lock().context("cannot lock the folder of packages")?;
    // Another call may have fetched them meanwhile.
    if is_there() {
        return Ok(done.join("root"));
    }
    eprintln!("fetching from Debian {suite}: {}", names.join(" "));
    let new = done.with_extension("new");
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    fetch(&new, suite, architecture, names)?;
    std::fs::write(new.join(STAMP), wanted)?;
    // The old ones only go once the new ones are whole.
    if done.exists() {
        std::fs::remove_dir_all(done)?;
    }
    std::fs::rename(&new, done).with_context(|| done.display().to_string())?;
    Ok(done.join("root"))
}

const STAMP: &str = ".packages";

/// Fetches packages into `folder` and unpacks them into its `root`, with lists and options of our own.
fn fetch(folder: &Path, suite: &str, architecture: Option<&str>, names: &[&str]) -> Result<()> {
    for dir in ["lists/partial", "archives/partial", "debs", "root"] {
        std::fs::create_dir_all(folder.join(dir))?;
    }
    let sources = folder.join("sources.list");
    std::fs::write(
        &sources,
        format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()),
    )?;
    let own = || {
        let mut apt = apt();
        for (key, value) in [
            ("Dir::Etc::SourceList", sources.display().to_string()),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            (
                "Dir::State::Lists",
                folder.join("lists").display().to_string(),
            ),
            ("Dir::Cache", folder.display().to_string()),
            ("Acquire::Check-Valid-Until", "false".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            apt.arg("-o").arg(format!("{key}={value}"));
        }
        for key in ["APT::Architecture", "APT::Architectures::"] {
            if let Some(architecture) = architecture {
                apt.arg("-o").arg(format!("{key}={architecture}"));
            }
        }
        apt
    };
    let hint = "hint: is there a network?";
    cmd::run(own().arg("update")).context(hint)?;
    let debs = folder.join("debs");
    cmd::run(own().arg("download").args(names).current_dir(&debs)).context(hint)?;
    for deb in std::fs::read_dir(&debs)? {
        cmd::run(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(deb?.path())
                .arg(folder.join("root")),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_found_in_both_of_apts_forms() {
        let found = |text: &str| mirror_in(&[String::new(), text.to_owned()]);
        let line = "# deb http://old.example/debian x main\ndeb [arch=amd64] http://m.example/debian/ bookworm main\n";
        assert_eq!(found(line).as_deref(), Some("http://m.example/debian"));
        let stanza = "Types: deb\nURIs: https://m.example/debian\nSuites: trixie\n";
        assert_eq!(found(stanza).as_deref(), Some("https://m.example/debian"));
        assert_eq!(found("deb http://m.example/ubuntu noble main\n"), None);
    }

    #[test]
    fn who_is_not_root_is_told_where_a_package_must_come_from() {
        let qemu = Package {
            name: "qemu-system-x86",
            suite: Some("bookworm-backports"),
        };
        let said = commands_for(&[package("gcc"), qemu, package("make")]);
        assert!(said.contains("sudo apt-get install gcc make\n"), "{said}");
        assert!(
            said.ends_with("sudo apt-get install -t bookworm-backports qemu-system-x86"),
            "{said}"
        );
        assert!(said.contains("bookworm-backports main' | sudo tee /etc/apt/sources.list.d/"));
    }
}
