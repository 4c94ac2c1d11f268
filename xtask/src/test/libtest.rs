//! Names, results and times out of what a test binary prints.
//!
//! The stable test harness prints a line when a test ends and nothing when it begins. But it begins
//! tests in the order of its list, as many at a time as there are threads, the next as soon as one
//! ends: so with the list known, each beginning is known. Should a test end that by this cannot have
//! begun, no time of that binary is believed any more.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// One test as it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its path within the binary.
    pub name: String,
    /// `ok`, `failed`, `ignored`, `unfinished` if the binary ended before it, or `flaky` if it passed
    /// only the second time.
    pub result: String,
    /// How long it ran, where that is known.
    pub seconds: Option<f64>,
    /// What it said, if it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said: String,
}

impl Outcome {
    /// Whether it failed, or never came to its end.
    pub fn is_bad(&self) -> bool {
        self.result == "failed" || self.result == "unfinished"
    }
}

/// Follows the lines of one test binary.
pub struct Follower {
    outcomes: Vec<Outcome>,
    clock: Clock,
    /// The failed test whose words are being printed.
    speaking: Option<usize>,
}

impl Follower {
    /// `list` as `--list --format terse` prints it; empty for a program without the harness, which
    /// runs one test after the other.
    pub fn new(list: &str, threads: usize, now: Instant) -> Self {
        let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
        let waiting: VecDeque<String> = names.map(str::to_owned).collect();
        Self {
            outcomes: Vec::new(),
            clock: Clock::new(waiting, threads, now),
            speaking: None,
        }
    }

    /// Takes the next line.
    pub fn line(&mut self, line: &str, now: Instant) {
        if let Some(name) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.speaking = self.outcomes.iter().position(|o| o.name == name);
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.speaking = None;
        } else if let Some(at) = self.speaking {
            self.outcomes[at].said.push_str(line);
            self.outcomes[at].said.push('\n');
        } else if let Some((name, result)) = ended(line) {
            let seconds = self.clock.ended(name, now);
            self.outcomes.push(Outcome {
                name: name.to_owned(),
                result: result.to_owned(),
                seconds: seconds.map(|s| s.as_secs_f64()),
                said: String::new(),
            });
        }
    }

    /// Everything there is to know, once the binary has ended.
    pub fn finish(mut self, now: Instant) -> Vec<Outcome> {
        let begun = self.clock.running.iter();
        let begun = begun.map(|(name, began)| (name, Some((now - *began).as_secs_f64())));
        let waiting = self.clock.waiting.iter().map(|name| (name, None));
        for (name, seconds) in begun.chain(waiting) {
            self.outcomes.push(Outcome {
                name: name.clone(),
                result: "unfinished".to_owned(),
                seconds,
                said: String::new(),
            });
        }
        if !self.clock.believed {
            for outcome in &mut self.outcomes {
                outcome.seconds = None;
            }
        }
        for outcome in &mut self.outcomes {
            outcome.said = outcome.said.trim().to_owned();
        }
        self.outcomes
    }
}

/// The name and result in `test NAME ... ok`.
fn ended(line: &str) -> Option<(&str, &'static str)> {
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let result = match result {
        "ok" => "ok",
        "FAILED" => "failed",
        _ if result.starts_with("ignored") => "ignored",
        _ => return None,
    };
    Some((name.strip_suffix(" - should panic").unwrap_or(name), result))
}

/// When tests began.
struct Clock {
    waiting: VecDeque<String>,
    running: BTreeMap<String, Instant>,
    threads: usize,
    /// Without a list: when the test before ended.
    last: Option<Instant>,
    believed: bool,
}

impl Clock {
    fn new(waiting: VecDeque<String>, threads: usize, now: Instant) -> Self {
        let mut clock = Self {
            last: waiting.is_empty().then_some(now),
            waiting,
            running: BTreeMap::new(),
            threads,
            believed: true,
        };
        clock.begin(now);
        clock
    }

    fn begin(&mut self, now: Instant) {
        while self.running.len() < self.threads {
            let Some(next) = self.waiting.pop_front() else {
                return;
            };
            self.running.insert(next, now);
        }
    }

    fn ended(&mut self, name: &str, now: Instant) -> Option<Duration> {
        if let Some(last) = self.last.replace(now) {
            return Some(now - last);
        }
        self.last = None;
        let Some(began) = self.running.remove(name) else {
            self.believed = false;
            return None;
        };
        self.begin(now);
        Some(now - began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn seconds(outcomes: &[Outcome]) -> Vec<(&str, &str, Option<f64>)> {
        let shown = outcomes
            .iter()
            .map(|o| (o.name.as_str(), o.result.as_str(), o.seconds));
        shown.collect()
    }

    #[test]
    fn each_test_begins_when_one_before_it_ends() {
        let start = Instant::now();
        let mut follower = Follower::new("a: test\nb: test\nc: test\n\n", 2, start);
        follower.line("running 3 tests", start);
        follower.line("test b ... ok", at(start, 1));
        follower.line("test a ... FAILED", at(start, 3));
        follower.line("test c - should panic ... ok", at(start, 5));
        let outcomes = follower.finish(at(start, 5));
        let expected = [
            ("b", "ok", Some(1.0)),
            ("a", "failed", Some(3.0)),
            ("c", "ok", Some(4.0)),
        ];
        assert_eq!(seconds(&outcomes), expected);
    }

    #[test]
    fn an_order_that_cannot_be_leaves_no_time_believed() {
        let start = Instant::now();
        let mut follower = Follower::new("a: test\nb: test\n", 1, start);
        follower.line("test b ... ok", at(start, 1));
        follower.line("test a ... ok", at(start, 2));
        let outcomes = follower.finish(at(start, 2));
        assert!(outcomes.iter().all(|o| o.seconds.is_none()));
    }

    #[test]
    fn a_failed_tests_words_are_kept_with_it() {
        let start = Instant::now();
        let mut follower = Follower::new("m::a: test\n", 2, start);
        for line in [
            "test m::a ... FAILED",
            "",
            "failures:",
            "",
            "---- m::a stdout ----",
            "thread 'm::a' panicked",
            "test x ... ok",
            "",
            "",
            "failures:",
            "    m::a",
            "",
            "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            follower.line(line, start);
        }
        let outcomes = follower.finish(start);
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        assert_eq!(outcomes[0].said, "thread 'm::a' panicked\ntest x ... ok");
    }

    #[test]
    fn what_was_running_when_the_binary_died_is_named() {
        let start = Instant::now();
        let mut follower = Follower::new("a: test\nb: test\nc: test\n", 1, start);
        follower.line("test a ... ignored, needs root", start);
        let outcomes = follower.finish(at(start, 9));
        let expected = [
            ("a", "ignored", Some(0.0)),
            ("b", "unfinished", Some(9.0)),
            ("c", "unfinished", None),
        ];
        assert_eq!(seconds(&outcomes), expected);
    }

    #[test]
    fn programs_without_the_harness_run_one_after_the_other() {
        let start = Instant::now();
        let mut follower = Follower::new("", 2, start);
        follower.line("test first (uid 0) ... ok", at(start, 1));
        follower.line("test second ... ok", at(start, 3));
        let outcomes = follower.finish(at(start, 4));
        let expected = [
            ("first (uid 0)", "ok", Some(1.0)),
            ("second", "ok", Some(2.0)),
        ];
        assert_eq!(seconds(&outcomes), expected);
    }
}
