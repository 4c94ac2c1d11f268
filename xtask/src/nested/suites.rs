//! Our test programs in the outer machine: built here, run there with the backend `kvm`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::order::Test;
use crate::{cmd, paths};

/// The program that measures.
const BENCHMARK: &str = "monitors";
/// The crate whose test programs are run.
const PACKAGE: &str = "lighter-machine";
/// Its programs, what of each is not for this machine, and what is run with its large count.
const SUITES: &[Rule] = &[
    Rule {
        program: "contract",
        left_out: &[],
        long: &[],
    },
    Rule {
        program: "process",
        left_out: &["old_qemu_is_refused_with_the_package_to_install"],
        long: &[],
    },
    Rule {
        program: "vsock",
        left_out: &["round_trip_is_reported"],
        long: &["gibibyte_comes_back_byte_for_byte_and_both_ends_have_its_digest"],
    },
    Rule {
        program: "confined",
        left_out: &[],
        long: &[],
    },
    Rule {
        program: "figures",
        left_out: &[],
        long: &[],
    },
    Rule {
        program: "kill",
        left_out: &[],
        long: &[],
    },
    Rule {
        program: "power",
        left_out: &[],
        long: &[],
    },
];

/// Those whose machines are those of `lighter` itself.
const OF_LIGHTER: &[&str] = &["confined", "figures"];
/// Optimised, as every instruction is emulated; quickly linked, as each change builds them anew. Not in `Cargo.toml`, of
/// which every change builds the guest anew.
const PROFILE: &[&str] = &[
    "profile.nested.inherits='release'",
    "profile.nested.lto='off'",
    "profile.nested.codegen-units=16",
    "profile.nested.panic='unwind'",
];

struct Rule {
    program: &'static str,
    left_out: &'static [&'static str],
    long: &'static [&'static str],
}

/// One test program.
pub struct Suite {
    /// Its name.
    pub program: &'static str,
    /// The file, on this machine.
    pub file: PathBuf,
    tests: Vec<String>,
    long: &'static [&'static str],
}

impl Suite {
    /// Where the program is in the outer machine.
    pub fn place(&self) -> String {
        format!("/suites/{}", self.program)
    }

    /// Each of its tests by itself, so that each has its time and its own end.
    pub fn tests(&self) -> impl Iterator<Item = Test> {
        self.tests.iter().map(|name| {
            let long = if self.long.contains(&name.as_str()) {
                "env LIGHTER_LONG=1 "
            } else {
                ""
            };
            Test {
                name: format!("{}::{name}", self.program),
                command: format!("{long}{} --exact {name} --nocapture", self.place()),
                script: None,
                lighter: OF_LIGHTER.contains(&self.program),
            }
        })
    }

    /// One that is not there, for a test of what is made of it.
    #[cfg(test)]
    pub fn with(program: &'static str, tests: &[&str]) -> Self {
        Self {
            program,
            file: PathBuf::new(),
            tests: tests.iter().map(|name| (*name).to_owned()).collect(),
            long: &[],
        }
    }
}

/// Builds the programs, and in `guest` the initial file system with what their machines run.
pub fn build(guest: &Path) -> Result<Vec<Suite>> {
    write_guest(guest)?;
    let built = programs()?;
    let suite = |rule: &Rule| {
        let file = built.iter().find(|(name, _)| name == rule.program);
        let (_, file) = file.with_context(|| format!("{PACKAGE} has no {}", rule.program))?;
        let mut tests = list(file, &[])?;
        let ignored = list(file, &["--ignored"])?;
        for name in rule.left_out.iter().chain(rule.long) {
            ensure!(tests.contains(*name), "{} has no {name}", rule.program);
        }
        tests.retain(|name| !ignored.contains(name) && !rule.left_out.contains(&name.as_str()));
        Ok(Suite {
            program: rule.program,
            file: file.clone(),
            tests: tests.into_iter().collect(),
            long: rule.long,
        })
    };
    SUITES.iter().map(suite).collect()
}

/// The program that measures, and in `guest` what its machines run.
pub fn benchmark(guest: &Path) -> Result<PathBuf> {
    write_guest(guest)?;
    let built = built(&["--bench", BENCHMARK])?;
    let mut files = built.into_iter().filter(|(name, _)| name == BENCHMARK);
    let file = files.next().map(|(_, file)| file);
    file.with_context(|| format!("{PACKAGE} has no {BENCHMARK}"))
}

fn write_guest(guest: &Path) -> Result<()> {
    let source = paths::root().join("host/machine/tests/guest/init.rs");
    lighter_tests::initramfs::write(&source, guest)
}

/// The names and files of the test programs.
fn programs() -> Result<Vec<(String, PathBuf)>> {
    let words = SUITES.iter().flat_map(|rule| ["--test", rule.program]);
    built(&words.collect::<Vec<_>>())
}

/// The names and files of these programs, optimised as the product is.
fn built(which: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(PROFILE.iter().flat_map(|words| ["--config", words]))
        .args(["test", "--profile", "nested", "--package", PACKAGE])
        .arg("--no-run")
        .args(which)
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(paths::root())
        .stderr(Stdio::inherit());
    let output = cargo.output().with_context(|| cmd::line(&cargo))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", cmd::line(&cargo), output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    let messages = text
        .lines()
        .map(serde_json::from_str::<serde_json::Value>)
        .collect::<Result<Vec<_>, _>>()?;
    let programs = messages.iter().filter_map(|message| {
        let name = message["target"]["name"].as_str()?;
        Some((name.to_owned(), message["executable"].as_str()?.into()))
    });
    Ok(programs.collect())
}

/// What a test program says its tests are.
fn list(program: &Path, arguments: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = Command::new(program);
    command
        .args(["--list", "--format", "terse"])
        .args(arguments);
    let output = command.output().with_context(|| cmd::line(&command))?;
    ensure!(output.status.success(), "`{}` failed", cmd::line(&command));
    let text = String::from_utf8(output.stdout)?;
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}
