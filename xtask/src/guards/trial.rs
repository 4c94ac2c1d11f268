//! A guard's test with the guard and without it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::list::{Guard, Test};

/// How long one test may take. Without its guard it may well wait for what never comes.
const LIMIT: Duration = Duration::from_secs(300);

/// What came of taking a guard out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The test failed.
    Held,
    /// The test passed.
    Unnoticed,
    /// The edit does not compile.
    DoesNotBuild,
    /// The test did not come to an end.
    NoEnd,
}

impl Outcome {
    /// For the table.
    pub fn words(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Unnoticed => "NOT NOTICED",
            Self::DoesNotBuild => "DOES NOT BUILD",
            Self::NoEnd => "NO END",
        }
    }
}

/// What one run of tests said of each.
type Results = BTreeMap<String, bool>;

/// Tries guards in a tree of their own.
pub struct Trials {
    tree: PathBuf,
    target: PathBuf,
}

impl Trials {
    /// In this copy of the tree, compiled into `target`.
    pub fn new(tree: PathBuf, target: PathBuf) -> Self {
        Self { tree, target }
    }

    /// Fails unless the test of every guard passes while the guard is there.
    ///
    /// # Errors
    ///
    /// When one does not.
    pub fn all_pass(&self, guards: &[Guard]) -> Result<()> {
        let mut binaries: BTreeMap<(&str, &str), Vec<&Test>> = BTreeMap::new();
        for Guard { test, .. } in guards {
            let tests = binaries.entry((&test.package, &test.binary)).or_default();
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
        // All of them at once: what is compiled here is not compiled again.
        let mut bad = Vec::new();
        for ((package, binary), tests) in binaries {
            println!("with all guards: {package} {binary}");
            if !self.builds(tests[0])? {
                bad.push(format!("{package} {binary} does not compile as it is"));
                continue;
            }
            let results = self.results(&tests)?;
            for test in tests {
                match results.get(&test.name) {
                    Some(true) => {}
                    Some(false) => bad.push(format!("{} fails as it is", test.name)),
                    None => bad.push(format!("{} does not end, or is not there", test.name)),
                }
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        bail!("{}", bad.join("; "))
    }

    /// Takes the guard out, runs its test, puts the guard back.
    ///
    /// # Errors
    ///
    /// When a file cannot be changed or changed back, or cargo cannot be run.
    pub fn without(&self, guard: &Guard) -> Result<Outcome> {
        let mut before: Vec<(PathBuf, String)> = Vec::new();
        for edit in &guard.edits {
            let path = self.tree.join(&edit.file);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let after = edit.applied(&text)?;
            fs::write(&path, after).with_context(|| path.display().to_string())?;
            before.push((path, text));
        }
        let outcome = self.outcome(guard);
        // The first text of a file that was changed twice is written last.
        for (path, text) in before.iter().rev() {
            fs::write(path, text).with_context(|| path.display().to_string())?;
        }
        outcome
    }

    fn outcome(&self, guard: &Guard) -> Result<Outcome> {
        if !self.builds(&guard.test)? {
            return Ok(Outcome::DoesNotBuild);
        }
        let results = self.results(&[&guard.test])?;
        Ok(match results.get(&guard.test.name) {
            Some(false) => Outcome::Held,
            Some(true) => Outcome::Unnoticed,
            None => Outcome::NoEnd,
        })
    }

    fn cargo(&self, test: &Test) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["test", "--quiet"])
            .args(test.target())
            .current_dir(self.tree.join(&test.package))
            .env("CARGO_TARGET_DIR", &self.target)
            .env_remove("LIGHTER_LONG")
            .stdin(Stdio::null())
            .process_group(0);
        cargo
    }

    fn builds(&self, test: &Test) -> Result<bool> {
        let log = self.log("build")?;
        let mut cargo = self.cargo(test);
        cargo.arg("--no-run").stdout(log.try_clone()?).stderr(log);
        Ok(cargo.status().context("cargo")?.success())
    }

    /// Runs these tests of one binary.
    fn results(&self, tests: &[&Test]) -> Result<Results> {
        let first = tests.first().context("no test")?;
        let mut cargo = self.cargo(first);
        cargo
            .args(["--", "--exact", "--test-threads=2", "--format=pretty"])
            .args(tests.iter().map(|test| &test.name))
            .stdout(Stdio::piped())
            .stderr(self.log("stderr")?);
        let mut child = cargo.spawn().context("cargo")?;
        let mut stdout = child.stdout.take().context("no output")?;
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            // What came before a broken end is looked at all the same.
            let _ = stdout.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let end = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > end {
                let group = format!("-{}", child.id());
                Command::new("kill")
                    .args(["-KILL", "--", &group])
                    .status()?;
                child.wait()?;
                return Ok(Results::new());
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let text = reader.join().unwrap_or_default();
        fs::write(self.place().join("stdout"), &text)?;
        let mut results = results_in(&text);
        if tests.len() == 1
            && results.is_empty()
            && !status.success()
            && text.contains("running 1 test")
        {
            // It took the harness with it, as an overflowing stack does.
            results.insert(first.name.clone(), false);
        }
        Ok(results)
    }

    fn place(&self) -> &Path {
        self.tree.parent().unwrap_or(&self.tree)
    }

    fn log(&self, name: &str) -> Result<fs::File> {
        let path = self.place().join(name);
        fs::File::create(&path).with_context(|| path.display().to_string())
    }
}

/// Names and whether they passed, out of the harness's lines.
fn results_in(text: &str) -> Results {
    let lines = text.lines().filter_map(|line| {
        let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
        match result {
            "ok" => Some((name.to_owned(), true)),
            "FAILED" => Some((name.to_owned(), false)),
            _ => None,
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::list::Edit;

    /// A package of one function with a guard in it, and its test.
    fn package(dir: &Path) -> Trials {
        let tree = dir.join("tree");
        fs::create_dir_all(tree.join("one/src")).expect("made");
        let manifest =
            "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
        fs::write(tree.join("one/Cargo.toml"), manifest).expect("written");
        let source = "pub fn halved(n: u32) -> Option<u32> {\n    if n % 2 == 1 {\n        return None;\n    }\n    \
                      Some(n / 2)\n}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn odd() {\n        \
                      assert_eq!(super::halved(3), None);\n    }\n    #[test]\n    fn even() {\n        \
                      assert_eq!(super::halved(4), Some(2));\n    }\n}\n";
        fs::write(tree.join("one/src/lib.rs"), source).expect("written");
        Trials::new(tree, dir.join("target"))
    }

    #[test]
    fn a_test_that_takes_its_process_along_has_failed() {
        let dir = tempfile::tempdir().expect("a folder");
        let trials = package(dir.path());
        let abort = guard("std::process::abort();", "odd");
        assert_eq!(trials.without(&abort).expect("tried"), Outcome::Held);
    }

    fn guard(replace: &str, test: &str) -> Guard {
        Guard {
            name: "odd".into(),
            incidents: vec!["x".into()],
            edits: vec![Edit {
                file: "one/src/lib.rs".into(),
                find: "return None;".into(),
                replace: replace.into(),
            }],
            test: Test {
                package: "one".into(),
                binary: "lib".into(),
                name: format!("tests::{test}"),
            },
        }
    }

    #[test]
    fn a_guard_is_held_unnoticed_or_no_rust_without_its_edit_and_comes_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let trials = package(dir.path());
        let without = |replace, test| trials.without(&guard(replace, test)).expect("tried");
        trials
            .all_pass(&[guard("", "odd"), guard("", "even")])
            .expect("both pass");
        assert_eq!(without("", "odd"), Outcome::Held);
        assert_eq!(without("", "even"), Outcome::Unnoticed);
        assert_eq!(without("return;", "odd"), Outcome::DoesNotBuild);
        trials.all_pass(&[guard("", "odd")]).expect("it is back");
        assert!(trials.all_pass(&[guard("", "none")]).is_err());
    }

    #[test]
    fn results_are_the_harnesss_lines() {
        let text = "\nrunning 2 tests\ntest a::b ... ok\ntest c ... FAILED\nx ... ok\ntest d ... ignored\n";
        let found = results_in(text);
        assert_eq!(found.get("a::b"), Some(&true));
        assert_eq!(found.get("c"), Some(&false));
        assert_eq!(found.len(), 2);
    }
}
