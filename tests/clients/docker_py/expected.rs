//! The list of the suite's tests: what each comes to on dockerd, and why ours need not do the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use lighter_tests::env;

use crate::docker_py::suite::Ran;

/// One line: what dockerd makes of a test, what ours makes of it, and the reason if one does not pass.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    dockerd: String,
    ours: String,
    reason: Option<String>,
}

/// How many of the slowest tests are told.
const SLOWEST: usize = 10;

/// The whole list, by test.
#[derive(Debug)]
pub struct Expected(BTreeMap<String, Line>);

impl Expected {
    /// That of the tree.
    pub fn read() -> Self {
        Self::parse(include_str!("expected.txt"))
    }

    fn parse(text: &str) -> Self {
        let mut all = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let mut words = line.splitn(4, ' ');
            let mut word = || words.next().map(str::to_owned);
            let (Some(dockerd), Some(ours), Some(name)) = (word(), word(), word()) else {
                panic!("`{line}` is no line of the list");
            };
            let reason = word();
            assert!(
                (dockerd == "passed" && ours == "passed") || reason.is_some(),
                "{name} does not pass, and no reason is told"
            );
            let twice = all.insert(
                name,
                Line {
                    dockerd,
                    ours,
                    reason,
                },
            );
            assert!(twice.is_none(), "`{line}` is there twice");
        }
        Self(all)
    }

    /// Says what ours came to in numbers, and fails the test for every line that is not so.
    pub fn check_ours(&self, test: &str, ran: &BTreeMap<String, Ran>) {
        for (reason, number) in self.excluded() {
            env::skip(test, &format!("{number} of docker-py's tests: {reason}"));
        }
        self.check(ran, |line| &line.ours);
    }

    /// Fails the test for every line of dockerd's that is not so.
    pub fn check_reference(&self, ran: &BTreeMap<String, Ran>) {
        self.check(ran, |line| &line.dockerd);
    }

    fn check(&self, ran: &BTreeMap<String, Ran>, expected: fn(&Line) -> &str) {
        let wrong = self.wrong(ran, expected);
        // Not by `println`, which the harness keeps of a test that passes.
        let told = writeln!(std::io::stdout(), "{}", self.summary(ran, wrong.len()));
        told.expect("standard output");
        assert!(
            wrong.is_empty(),
            "{} differ:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }

    fn wrong(&self, ran: &BTreeMap<String, Ran>, expected: fn(&Line) -> &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, ran) in ran {
            let (outcome, why) = (&ran.outcome, &ran.why);
            let said = match self.0.get(name).map(expected) {
                None => "not in the list",
                Some(expected) if expected != outcome => expected,
                Some(_) => continue,
            };
            wrong.push(format!("{name}: {outcome}, expected: {said}\n{why}"));
        }
        let missing = self.0.keys().filter(|name| !ran.contains_key(*name));
        wrong.extend(missing.map(|name| format!("{name}: in the list, did not run")));
        wrong
    }

    /// How many of ours need not pass, by the reason.
    fn excluded(&self) -> BTreeMap<&str, usize> {
        let mut reasons = BTreeMap::new();
        for line in self.0.values().filter(|line| line.ours != "passed") {
            *reasons
                .entry(line.reason.as_deref().unwrap_or_default())
                .or_default() += 1;
        }
        reasons
    }

    fn summary(&self, ran: &BTreeMap<String, Ran>, wrong: usize) -> String {
        let passed = ran.values().filter(|ran| ran.outcome == "passed").count();
        let seconds: f64 = ran.values().map(|ran| ran.seconds).sum();
        let excluded: usize = self.excluded().values().sum();
        let mut text = format!(
            "docker-py: {} tests in {seconds:.0} s: {passed} passed, {excluded} excluded, {wrong} not as expected",
            ran.len(),
        );
        let mut slow: Vec<_> = ran.iter().collect();
        slow.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        for (name, ran) in slow.iter().take(SLOWEST) {
            // A string takes everything.
            let _ = write!(text, "\n{:>6.1} s {name}", ran.seconds);
        }
        text
    }
}

#[test]
fn what_is_not_as_the_list_says_is_named() {
    let list = Expected::parse(
        "# comment\npassed passed a::one\npassed passed a::two\npassed failed a::three builds it\n\
         failed failed a::four no hub\npassed passed a::five\n",
    );
    let ran = |outcome: &str| Ran {
        outcome: outcome.to_owned(),
        why: "because".to_owned(),
        seconds: 1.0,
    };
    let all = [
        ("a::one", "passed"),
        ("a::two", "failed"),
        ("a::three", "passed"),
        ("a::four", "failed"),
        ("a::new", "passed"),
    ];
    let all = all
        .map(|(name, outcome)| (name.to_owned(), ran(outcome)))
        .into();
    assert_eq!(
        list.wrong(&all, |line| &line.ours),
        [
            "a::new: passed, expected: not in the list\nbecause",
            "a::three: passed, expected: failed\nbecause",
            "a::two: failed, expected: passed\nbecause",
            "a::five: in the list, did not run",
        ]
    );
    let of_dockerd = list.wrong(&all, |line| &line.dockerd);
    assert!(
        !of_dockerd.iter().any(|line| line.contains("a::three")),
        "{of_dockerd:?}"
    );
    let summary = list.summary(&all, 4);
    let line = "docker-py: 5 tests in 5 s: 3 passed, 2 excluded, 4 not as expected\n";
    assert!(summary.starts_with(line), "{summary}");
    assert_eq!(list.excluded(), [("builds it", 1), ("no hub", 1)].into());
}
