//! `cargo xtask test`: every check and every named test, with small counts.
//!
//! `cargo xtask test long [NAME]` runs the same tests with the large counts. Both write what happened
//! (counts, seed, the time of each test, failures) as JSON. Order: what fails fastest comes first.
//!
//! `cargo xtask test nested [NAME]` runs those of [`nested`], which take minutes and are in neither.
//!
//! `cargo xtask test sanitized [NAME]` runs those of [`sanitized`] with another compiler's flags.
//!
//! `cargo xtask test guards [NAME]` takes out each guard of [`guards`], and wants its test to fail.
//!
//! cargo runs the tests; in place of each test binary it starts [`runner`], which follows the binary's
//! words by [`libtest`]; [`report`] puts everything together. How a test reports its counts and
//! seeds stands at the top of `tests/src/lib.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::packages::{self, Package, package};
use crate::{
    cmd, docker_py, guards, image, inner_image, nested, paths, rooms, sanitized, test_image, try_it,
};

mod libtest;
mod report;
pub mod runner;

/// Clients and servers of other people that drive Lighter in the tests.
pub const CLIENTS: &[&str] = &[
    "docker-cli",
    "docker-compose",
    "docker.io",
    "containerd",
    "docker-registry",
];

/// Docker CLIs of other generations: suite and package.
const OTHER_DOCKERS: [(&str, &str); 2] = [("bookworm", "docker.io"), ("trixie", "docker-cli")];

const NEEDED: &[Package] = &[
    package("tmux"),
    // The reference daemon's: Debian 12's runc, because newer ones need a newer glibc.
    package("runc"),
    package("skopeo"),
    package("iptables"),
    package("busybox-static"),
    package("e2fsprogs"),
    package("fakeroot"),
    package("cpio"),
    package("python3-venv"),
    Package {
        name: "qemu-system-x86",
        suite: Some("bookworm-backports"),
    },
];

/// Cases of each generated test in a long run; ordinarily it is proptest's own number.
const GENERATED_CASES: &str = "100000";

/// Run every check and every test; `long` with the large counts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `long` for the large counts, `nested` for the tests under KVM inside an emulated machine, `sanitized` for
    /// those of devices under the address sanitizer, `guards` to see each guard's test fail without it, or only
    /// tests whose names contain this
    #[arg(value_name = "long|nested|sanitized|guards|NAME")]
    counts_or_name: Option<String>,
    /// Only tests whose names contain this
    name: Option<String>,
    /// Make the random choices of an earlier run again
    #[arg(long)]
    seed: Option<u64>,
    /// Run a test that fails once more, by itself, and name it as flaky if it passes then
    #[arg(long)]
    retry: bool,
}

impl Args {
    /// Whether the large counts are wanted, and the part of a name.
    fn chosen(&self) -> Result<(bool, Option<&str>)> {
        match (self.counts_or_name.as_deref(), self.name.as_deref()) {
            (Some("long"), name) => Ok((true, name)),
            (name, None) => Ok((false, name)),
            (Some(name), Some(more)) => bail!("one NAME, not two: `{name}` and `{more}`"),
            (None, Some(_)) => bail!("a NAME without what comes before it"),
        }
    }
}

/// Runs the tests.
///
/// # Errors
///
/// When any check or test fails.
pub fn run(args: &Args) -> Result<()> {
    if args.counts_or_name.as_deref() == Some("nested") {
        packages::ensure(NEEDED)?;
        return nested::run(args.name.as_deref());
    }
    if args.counts_or_name.as_deref() == Some("sanitized") {
        return sanitized::run(args.name.as_deref());
    }
    if args.counts_or_name.as_deref() == Some("guards") {
        packages::ensure(NEEDED)?;
        return guards::run(args.name.as_deref());
    }
    let (long, only) = args.chosen()?;
    let started = Instant::now();
    let left_out = match only {
        None => checks(&paths::root())?,
        Some(_) => None,
    };
    let run = Run::prepare(args.seed, long, only)?;
    if let Some(reason) = left_out {
        run.notes.skip(reason)?;
    }
    let mut command = run.command(only)?;
    if args.retry {
        command.env(runner::RETRY, "1");
    }
    let outcome = cmd::run(&mut command);
    run.notes.finish(started.elapsed(), &outcome)?;
    outcome
}

/// Everything that the tests need, made.
struct Run {
    image: image::InUse,
    clients: PathBuf,
    debian: PathBuf,
    apps: PathBuf,
    inner: PathBuf,
    docker_py: PathBuf,
    other_dockers: Vec<PathBuf>,
    /// A program of another kind than the machine's.
    i386: PathBuf,
    lighter: PathBuf,
    notes: report::Notes,
}

impl Run {
    fn prepare(seed: Option<u64>, long: bool, only: Option<&str>) -> Result<Self> {
        packages::ensure(NEEDED)?;
        let clients = packages::unpacked(&paths::cache(), "sid", CLIENTS)?;
        Ok(Self {
            inner: inner_image::archive(&paths::cache(), &clients)?,
            clients,
            debian: test_image::archive(&paths::cache(), &test_image::DEBIAN)?,
            apps: test_image::archive(&paths::cache(), &test_image::APPS)?,
            docker_py: docker_py::folder(&paths::cache())?,
            other_dockers: OTHER_DOCKERS
                .iter()
                .map(|(suite, package)| {
                    let root = packages::unpacked(&paths::cache(), suite, &[package])?;
                    Ok(root.join("usr/bin/docker"))
                })
                .collect::<Result<_>>()?,
            i386: packages::unpacked_foreign(&paths::cache(), "sid", "i386", &["busybox-static"])?,
            image: image::make(&image::Args::default())?,
            lighter: try_it::build()?,
            notes: report::Notes::new(seed, long, only)?,
        })
    }

    fn command(&self, only: Option<&str>) -> Result<Command> {
        let program = std::env::current_exe().context("where is this program?")?;
        let runner = toml::Value::from(vec![
            toml::Value::from(program.display().to_string()),
            toml::Value::from("test-binary"),
        ]);
        let mut test = Command::new(env!("CARGO"));
        test.args(["test", "--workspace", "--no-fail-fast", "--config"])
            .arg(format!("target.'cfg(unix)'.runner = {runner}"))
            .current_dir(paths::root());
        // The image by its own name: another checkout that shares the cache may move `current`.
        test.env("LIGHTER_IMAGE_DIR", &self.image.path)
            .env("LIGHTER_TEST_BIN", &self.lighter)
            .env("LIGHTER_TEST_DOCKER", self.clients.join("usr/bin/docker"))
            .env("LIGHTER_TEST_DEBIAN", &self.debian)
            .env("LIGHTER_TEST_APPS", &self.apps)
            .env("LIGHTER_TEST_INNER", &self.inner)
            .env("LIGHTER_TEST_DOCKER_PY", &self.docker_py)
            .env("LIGHTER_TEST_TOOLS", self.clients.join("usr/bin"))
            .env(
                "LIGHTER_TEST_OTHER_DOCKERS",
                std::env::join_paths(&self.other_dockers)?,
            )
            .env(
                "LIGHTER_TEST_I386_BUSYBOX",
                self.i386.join("usr/bin/busybox"),
            );
        self.notes.tell(&mut test);
        if self.notes.long {
            test.env("LIGHTER_LONG", "1")
                .env("PROPTEST_CASES", GENERATED_CASES);
        } else {
            test.env_remove("LIGHTER_LONG");
        }
        if let Some(name) = only {
            test.args(["--", name]);
        }
        Ok(test)
    }
}

/// What needs no machine: rules, format, lints, licences. What was left out and why, if anything was.
fn checks(root: &Path) -> Result<Option<&'static str>> {
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
fn deny(root: &Path) -> Result<Option<&'static str>> {
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
    match (advisories.status.success(), is_without_database(&said)) {
        (true, _) => println!("advisories: none"),
        (false, true) => {
            return Ok(Some("advisories: the advisory database cannot be had here"));
        }
        (false, false) => bail!("advisories:\n{said}"),
    }
    Ok(None)
}

/// Whether cargo-deny failed for want of its database, not for what is in it.
fn is_without_database(said: &str) -> bool {
    said.contains("failed to fetch advisory database")
        || said.contains("failed to load advisory database")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advisory_is_no_missing_database() {
        assert!(is_without_database(
            "[ERROR] failed to fetch advisory database https://example/db"
        ));
        assert!(!is_without_database(
            "error[vulnerability]: prefetch of a failed fetch overflows"
        ));
    }

    fn args(words: &[&str]) -> Args {
        let word = |at: usize| words.get(at).map(|w| (*w).to_owned());
        Args {
            counts_or_name: word(0),
            name: word(1),
            seed: None,
            retry: false,
        }
    }

    #[test]
    fn long_is_a_word_of_its_own_and_a_name_stands_for_itself() {
        let chosen = |words: &[&str]| {
            let args = args(words);
            let (long, name) = args.chosen().expect("chosen");
            (long, name.map(str::to_owned))
        };
        assert_eq!(chosen(&[]), (false, None));
        assert_eq!(chosen(&["long"]), (true, None));
        assert_eq!(chosen(&["long", "walls"]), (true, Some("walls".into())));
        assert_eq!(chosen(&["walls"]), (false, Some("walls".into())));
        assert!(args(&["walls", "more"]).chosen().is_err());
    }
}
