//! What a test run came to: on the screen, and as JSON for whoever closes an issue with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::libtest::Outcome;
use super::runner::{self, Ran};
use crate::{bench, paths};

/// How many of the slowest tests are shown.
const SLOWEST: usize = 15;

/// Where a run's results, skips, counts and seeds are collected, and what was asked for.
pub struct Notes {
    /// Whether the large counts were asked for.
    pub long: bool,
    only: Option<String>,
    seed: u64,
    folder: tempfile::TempDir,
}

impl Notes {
    /// Nothing noted yet. Without a seed one is made.
    ///
    /// # Errors
    ///
    /// When there can be no folder for the notes.
    pub fn new(seed: Option<u64>, long: bool, only: Option<&str>) -> Result<Self> {
        fs::create_dir_all(paths::target())?;
        let folder = tempfile::Builder::new()
            .prefix("test-notes-")
            .tempdir_in(paths::target())
            .context("no folder for the tests' notes")?;
        // Short enough to be typed again; which number it is does not matter.
        let made = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() % 1_000_000_000;
        Ok(Self {
            long,
            only: only.map(str::to_owned),
            seed: seed.unwrap_or(u64::try_from(made)?),
            folder,
        })
    }

    /// Tells the tests where to note what.
    pub fn tell(&self, test: &mut Command) {
        test.env(runner::RESULTS, self.file("results"))
            .env("LIGHTER_TEST_LOOPS", self.file("loops"))
            .env("LIGHTER_TEST_SKIPS", self.file("skips"))
            .env("LIGHTER_TEST_SEED", self.seed.to_string())
            .env("PROPTEST_RNG_SEED", self.seed.to_string());
    }

    /// Counts something that was left out before any test ran.
    ///
    /// # Errors
    ///
    /// When it cannot be noted.
    pub fn skip(&self, reason: &str) -> Result<()> {
        fs::write(self.file("skips"), format!("{reason}\n")).context("a skip")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        // No file: nothing was noted.
        let text = fs::read_to_string(self.file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Prints what the run came to and writes it down.
    ///
    /// # Errors
    ///
    /// When a note cannot be read or the report not be written.
    pub fn finish(&self, took: Duration, outcome: &Result<()>) -> Result<()> {
        let parse = |line: &String| serde_json::from_str::<Ran>(line).context("a result");
        let ran: Vec<Ran> = self
            .lines("results")
            .iter()
            .map(parse)
            .collect::<Result<_>>()?;
        let parse = |line: &String| serde_json::from_str::<Value>(line).context("a count");
        let loops: Vec<Value> = self
            .lines("loops")
            .iter()
            .map(parse)
            .collect::<Result<_>>()?;
        let report = Report {
            ran,
            loops,
            skips: self.lines("skips"),
        };
        report.print(took);
        let mut all = report.to_json();
        if let Some(all) = all.as_object_mut() {
            all.extend([
                (
                    "tests_asked_for".into(),
                    json!(self.only.as_deref().unwrap_or("all")),
                ),
                (
                    "counts".into(),
                    json!(if self.long { "long" } else { "short" }),
                ),
                ("seed".into(), json!(self.seed)),
                ("machine".into(), json!(bench::machine::describe())),
                ("seconds".into(), json!(took.as_secs())),
                (
                    "failure".into(),
                    json!(outcome.as_ref().err().map(|e| format!("{e:#}"))),
                ),
            ]);
        }
        let name = if self.long {
            "test-long.json"
        } else {
            "test.json"
        };
        let path = paths::target().join(name);
        fs::write(&path, serde_json::to_string_pretty(&all)?)
            .with_context(|| path.display().to_string())?;
        println!(
            "wrote {}; the same choices again: --seed {}",
            path.display(),
            self.seed
        );
        Ok(())
    }
}

struct Report {
    ran: Vec<Ran>,
    loops: Vec<Value>,
    skips: Vec<String>,
}

impl Report {
    fn tests(&self) -> impl Iterator<Item = (&Ran, &Outcome)> {
        let all = self.ran.iter();
        all.flat_map(|ran| ran.tests.iter().map(move |test| (ran, test)))
    }

    fn number(&self, result: &str) -> usize {
        self.tests()
            .filter(|(_, test)| test.result == result)
            .count()
    }

    fn failures(&self) -> Vec<(&Ran, &Outcome)> {
        self.tests().filter(|(_, test)| test.is_bad()).collect()
    }

    fn flaky(&self) -> impl Iterator<Item = (&Ran, &Outcome)> {
        self.tests().filter(|(_, test)| test.result == "flaky")
    }

    fn print(&self, took: Duration) {
        let mut binaries: Vec<&Ran> = self.ran.iter().collect();
        binaries.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        println!("\ntime by binary:");
        for ran in binaries.iter().filter(|ran| !ran.tests.is_empty()) {
            println!(
                "{:>8.1} s  {} ({} tests)",
                ran.seconds,
                ran.binary,
                ran.tests.len()
            );
        }
        let mut tests: Vec<_> = self.tests().collect();
        tests.sort_by(|a, b| {
            b.1.seconds
                .unwrap_or(0.0)
                .total_cmp(&a.1.seconds.unwrap_or(0.0))
        });
        println!("slowest tests:");
        for (ran, test) in tests.iter().take(SLOWEST) {
            let seconds = test.seconds.map_or("?".to_owned(), |s| format!("{s:.1}"));
            println!("{seconds:>8} s  {} {}", ran.binary, test.name);
        }
        for line in &self.skips {
            println!("SKIP {line}");
        }
        for (ran, test) in self.flaky() {
            println!("FLAKY {} {}\n{}", ran.binary, test.name, test.said);
        }
        for (ran, test) in self.failures() {
            println!(
                "{} {} {}",
                test.result.to_uppercase(),
                ran.binary,
                test.name
            );
        }
        for ran in self.ran.iter().filter(|ran| ran.code != 0) {
            println!("FAILED {} ended with {}", ran.binary, ran.code);
        }
        println!(
            "{} passed; {} flaky; {} failed; {} unfinished; {} ignored; {} skipped; {} s in all",
            self.number("ok"),
            self.number("flaky"),
            self.number("failed"),
            self.number("unfinished"),
            self.number("ignored"),
            self.skips.len(),
            took.as_secs()
        );
    }

    fn to_json(&self) -> Value {
        let loops = self.loops_by_test();
        let of = |ran: &Ran, test: &Outcome| {
            let package = ran.binary.split('/').next().unwrap_or_default();
            let key = (package.to_owned(), test.name.clone());
            loops.get(&key).cloned().unwrap_or_default()
        };
        let tests = self.tests().map(|(ran, test)| {
            json!({
                "binary": ran.binary, "name": test.name, "result": test.result,
                "seconds": test.seconds, "loops": of(ran, test),
            })
        });
        let named = |(ran, test): (&Ran, &Outcome)| json!({ "binary": ran.binary, "name": test.name, "said": test.said });
        let failures = self.failures().into_iter().map(named);
        let flaky: Vec<Value> = self.flaky().map(named).collect();
        let binaries = self
            .ran
            .iter()
            .map(|ran| json!({ "binary": ran.binary, "seconds": ran.seconds, "code": ran.code }));
        // On one CPU a test does not know its name: what it reported stands apart, with its place.
        let unnamed = self.loops.iter().filter(|note| note["test"].is_null());
        json!({
            "passed": self.number("ok"), "flaky": flaky.len(), "failed": self.number("failed"),
            "unfinished": self.number("unfinished"), "ignored": self.number("ignored"),
            "skipped": self.skips, "binaries": binaries.collect::<Vec<_>>(),
            "flaky_tests": flaky, "failures": failures.collect::<Vec<_>>(), "tests": tests.collect::<Vec<_>>(),
            "other_loops": unnamed.collect::<Vec<_>>(),
        })
    }

    /// What each test reported, by its package and name.
    fn loops_by_test(&self) -> BTreeMap<(String, String), Vec<Value>> {
        let mut by_test: BTreeMap<_, Vec<Value>> = BTreeMap::new();
        for note in &self.loops {
            let word = |field: &str| note[field].as_str().unwrap_or_default().to_owned();
            let mut short = note.clone();
            if let Some(short) = short.as_object_mut() {
                short.remove("package");
                short.remove("test");
            }
            let notes = by_test.entry((word("package"), word("test"))).or_default();
            // A test may ask again and again in a loop of its own.
            if !notes.contains(&short) {
                notes.push(short);
            }
        }
        by_test
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let test = |name: &str, result: &str| Outcome {
            name: name.to_owned(),
            result: result.to_owned(),
            seconds: Some(2.5),
            said: "words".to_owned(),
        };
        let ran = Ran {
            binary: "lighter-tests/faults".to_owned(),
            seconds: 9.0,
            code: 101,
            tests: vec![
                test("a", "ok"),
                test("m::b", "failed"),
                test("c", "unfinished"),
            ],
        };
        let note = |what: Value| {
            let mut line = json!({ "package": "lighter-tests", "test": "m::b", "place": "b.rs:3" });
            if let (Some(line), Some(what)) = (line.as_object_mut(), what.as_object()) {
                line.extend(what.clone());
            }
            line
        };
        Report {
            ran: vec![ran],
            loops: vec![
                note(json!({ "count": 200 })),
                note(json!({ "count": 200 })),
                note(json!({ "seed": 17 })),
            ],
            skips: vec!["d: no tmux".to_owned()],
        }
    }

    #[test]
    fn a_tests_counts_seed_and_time_stand_with_it() {
        let json = report().to_json();
        let b = &json["tests"][1];
        assert_eq!(b["name"], "m::b");
        assert_eq!(b["seconds"], 2.5);
        let loops = json!([{ "place": "b.rs:3", "count": 200 }, { "place": "b.rs:3", "seed": 17 }]);
        assert_eq!(b["loops"], loops);
        assert_eq!(json["tests"][0]["loops"], json!([]));
    }

    #[test]
    fn failures_are_those_that_failed_and_those_that_never_ended() {
        let json = report().to_json();
        assert_eq!(json["failures"][0]["name"], "m::b");
        assert_eq!(json["failures"][0]["said"], "words");
        assert_eq!(json["failures"][1]["name"], "c");
        assert_eq!((&json["passed"], &json["failed"]), (&json!(1), &json!(1)));
        assert_eq!(json["skipped"], json!(["d: no tmux"]));
    }
}
