//! `cargo xtask test`: every check and every named test, with small counts.
//!
//! `cargo xtask test long [NAME]` runs the same tests with the large counts and writes what
//! happened as JSON. Order: what fails fastest comes first.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::packages::{self, Package, package};
use crate::{cmd, image, paths, rooms, try_it};

/// Clients and servers of other people that drive Lighter in the tests.
pub const CLIENTS: &[&str] = &[
    "docker-cli",
    "docker-compose",
    "docker.io",
    "containerd",
    "docker-registry",
];

const NEEDED: &[Package] = &[
    package("tmux"),
    // The reference daemon's: Debian 12's runc, because newer ones need a newer glibc.
    package("runc"),
    package("skopeo"),
    package("iptables"),
    package("busybox-static"),
    package("e2fsprogs"),
    package("fakeroot"),
    Package {
        name: "qemu-system-x86",
        suite: Some("bookworm-backports"),
    },
];

/// Run every check and every test; `long` with the large counts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `long` for the large counts
    #[arg(value_parser = ["long"])]
    counts: Option<String>,
    /// Only tests whose names contain this
    name: Option<String>,
}

/// Runs the tests.
///
/// # Errors
///
/// When any check or test fails.
pub fn run(args: &Args) -> Result<()> {
    let root = &paths::root();
    let long = args.counts.is_some();
    let only = args.name.as_deref();
    let started = Instant::now();
    if only.is_none() {
        checks(root)?;
    }
    packages::ensure(NEEDED)?;
    let clients = packages::unpacked(&paths::cache(), "sid", CLIENTS)?;
    image::run(&image::Args::default())?;
    let lighter = try_it::build()?;
    let skips = paths::cache().join("test-skips.txt");
    let _ = std::fs::remove_file(&skips);

    let mut test = Command::new(env!("CARGO"));
    test.args(["test", "--workspace", "--no-fail-fast"])
        .current_dir(root);
    test.env("LIGHTER_IMAGE_DIR", paths::cache().join("image/current"))
        .env("LIGHTER_TEST_BIN", &lighter)
        .env("LIGHTER_TEST_DOCKER", clients.join("usr/bin/docker"))
        .env("LIGHTER_TEST_TOOLS", clients.join("usr/bin"))
        .env("LIGHTER_TEST_SKIPS", &skips);
    if long {
        test.env("LIGHTER_LONG", "1");
    }
    if let Some(name) = only {
        test.args(["--", name]);
    }
    let outcome = cmd::run(&mut test);
    report_skips(&skips);
    println!("tests took {} s", started.elapsed().as_secs());
    if long {
        write_report(root, only, started, &outcome, &skips)?;
    }
    outcome
}

/// What needs no machine: rules, format, lints, licences.
fn checks(root: &Path) -> Result<()> {
    rooms::run(&rooms::Args {})?;
    cmd::run(
        Command::new(env!("CARGO"))
            .args(["fmt", "--all", "--check"])
            .current_dir(root),
    )?;
    cmd::run(
        Command::new(env!("CARGO"))
            .args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ])
            .current_dir(root),
    )?;
    deny(root)
}

/// Licences, bans and sources by cargo-deny, which is installed into the cache once.
fn deny(root: &Path) -> Result<()> {
    let tools = paths::cache().join("tools");
    let deny = tools.join("bin/cargo-deny");
    if !deny.exists() {
        eprintln!("installing cargo-deny into {}", tools.display());
        cmd::run(
            Command::new(env!("CARGO"))
                .args(["install", "cargo-deny", "--locked", "--quiet", "--root"])
                .arg(&tools)
                .env_remove("CARGO_TARGET_DIR"),
        )?;
    }
    let check = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command
            .args(["--log-level", "error", "check"])
            .args(what)
            .current_dir(root);
        command
    };
    cmd::run(&mut check(&["licenses", "bans", "sources"]))?;
    let advisories = check(&["advisories"]).output().context("cargo-deny")?;
    let said = String::from_utf8_lossy(&advisories.stderr);
    if advisories.status.success() {
        println!("advisories: none");
    } else if said.contains("failed to fetch advisory database") || said.contains("fetch") {
        println!("SKIP advisories: the advisory database cannot be had here");
    } else {
        bail!("advisories:\n{said}");
    }
    Ok(())
}

fn report_skips(skips: &Path) {
    let text = std::fs::read_to_string(skips).unwrap_or_default();
    for line in text.lines() {
        println!("SKIP {line}");
    }
    println!("{} tests skipped", text.lines().count());
}

/// `target/test-long.json`: counts, time, failures.
fn write_report(
    root: &Path,
    only: Option<&str>,
    started: Instant,
    outcome: &Result<()>,
    skips: &Path,
) -> Result<()> {
    let skipped = std::fs::read_to_string(skips).unwrap_or_default();
    let report = serde_json::json!({
        "tests": only.unwrap_or("all"),
        "counts": "long",
        "seconds": started.elapsed().as_secs(),
        "skipped": skipped.lines().collect::<Vec<_>>(),
        "failure": outcome.as_ref().err().map(|e| format!("{e:#}")),
    });
    let path: PathBuf = root.join("target/test-long.json");
    std::fs::create_dir_all(root.join("target"))?;
    std::fs::write(&path, serde_json::to_string_pretty(&report)?)?;
    println!("wrote {}", path.display());
    Ok(())
}
