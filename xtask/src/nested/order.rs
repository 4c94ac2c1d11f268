//! What the outer machine runs, in which order.
//!
//! Two kinds: programs of the shell, which share one Lighter, and tests of our test programs, each of which makes the
//! machines it needs. A test more of the first kind is a file in `tests/` and a line in [`SCRIPTS`]; of the second a line
//! in [`super::suites::SUITES`], if it is in a program that is not there yet.

use super::outcome::Line;
use super::suites::Suite;

/// Tests of one Lighter. The first and the last are its frame: it comes up, it goes down.
const SCRIPTS: &[(&str, &str)] = &[
    ("boots_to_ready", include_str!("tests/boots_to_ready.sh")),
    ("hello_container", include_str!("tests/hello_container.sh")),
    ("docker_runs", include_str!("tests/docker_runs.sh")),
    (
        "two_processors_work",
        include_str!("tests/two_processors_work.sh"),
    ),
    (
        "container_stream_is_exact",
        include_str!("tests/container_stream_is_exact.sh"),
    ),
    (
        "folder_is_shared",
        include_str!("tests/folder_is_shared.sh"),
    ),
    ("confined", include_str!("tests/confined.sh")),
    (
        "idle_machine_sleeps",
        include_str!("tests/idle_machine_sleeps.sh"),
    ),
    (COMPOSE, include_str!("tests/compose_application.sh")),
    (
        "guest_panic_is_told",
        include_str!("tests/guest_panic_is_told.sh"),
    ),
    (
        "four_processors_work",
        include_str!("tests/four_processors_work.sh"),
    ),
    (
        "killed_machine_keeps_its_disk",
        include_str!("tests/killed_machine_keeps_its_disk.sh"),
    ),
    ("goes_down", include_str!("tests/goes_down.sh")),
];
/// The one that wants the applications' image and compose.
pub const COMPOSE: &str = "compose_application";
/// What those share, at [`LIBRARY_PLACE`].
pub const LIBRARY: &str = include_str!("tests/lib.sh");
/// Where they read it.
pub const LIBRARY_PLACE: &str = "tests/lib.sh";

/// One test.
pub struct Test {
    /// By which it is reported.
    pub name: String,
    /// What runs it.
    pub command: String,
    /// The program's text, where it is one of the shell.
    pub script: Option<&'static str>,
    /// Whether it is one of `lighter` itself, which must be there then.
    pub lighter: bool,
}

/// Where the program that measures is in the outer machine.
pub const BENCHMARK: &str = "bin/monitors";

/// Where it stands in QEMU's place.
pub const WAY_IN: &str = "way-in/qemu-system-x86_64";

/// Every monitor measured once.
pub fn measurement(number: usize) -> Test {
    Test {
        name: format!("measured_{number}"),
        command: format!("env PATH=/way-in:/bin:/usr/bin /{BENCHMARK} /image /suites/guest.cpio"),
        script: None,
        lighter: false,
    }
}

/// The tests with one of `only`'s parts (commas between) in their names, and the frame of those that need one.
pub fn of(suites: &[Suite], only: Option<&str>) -> Vec<Test> {
    let wanted =
        |name: &str| only.is_none_or(|parts| parts.split(',').any(|part| name.contains(part)));
    let mut tests: Vec<Test> = suites
        .iter()
        .flat_map(Suite::tests)
        .filter(|test| wanted(&test.name))
        .collect();
    let of_one_lighter = SCRIPTS.iter().any(|(name, _)| wanted(name));
    for (name, text) in SCRIPTS {
        if of_one_lighter && (is_frame(name) || wanted(name)) {
            tests.push(Test {
                name: (*name).to_owned(),
                command: format!("/tests/{name}"),
                script: Some(text),
                lighter: true,
            });
        }
    }
    tests
}

/// Those of `tests` that have not ended yet, and the frame of those that need one.
pub fn left<'a>(tests: &'a [Test], lines: &[Line]) -> Vec<&'a Test> {
    let ended = |test: &Test| {
        lines
            .iter()
            .any(|line| matches!(line, Line::Ended { name, .. } if *name == test.name))
    };
    let of_one_lighter = tests.iter().any(|test| test.lighter && !ended(test));
    let frame = |test: &Test| of_one_lighter && is_frame(&test.name);
    tests
        .iter()
        .filter(|test| !ended(test) || frame(test))
        .collect()
}

/// Whether it is the first or the last of those of one Lighter.
fn is_frame(name: &str) -> bool {
    let ends = [SCRIPTS.first(), SCRIPTS.last()];
    ends.iter().flatten().any(|(of, _)| *of == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: Option<&str>) -> Vec<String> {
        let suite = Suite::with("contract", &["a_claim", "another"]);
        let tests = of(&[suite], only);
        tests.into_iter().map(|test| test.name).collect()
    }

    #[test]
    fn what_has_not_ended_is_run_in_the_next_machine_with_its_frame() {
        let suite = Suite::with("contract", &["a_claim", "another"]);
        let tests = of(&[suite], Some("claim,another,hello"));
        let ended = |name: &str| Line::Ended {
            name: name.to_owned(),
            how: "failed 1".to_owned(),
        };
        let names = |lines: &[Line]| -> Vec<String> {
            let left = left(&tests, lines).into_iter();
            left.map(|test| test.name.clone()).collect()
        };
        let lines = [ended("contract::a_claim"), Line::Started];
        assert_eq!(names(&lines)[..2], ["contract::another", "boots_to_ready"]);
        let lines = ["contract::a_claim", "contract::another", "boots_to_ready"];
        assert_eq!(
            names(&lines.map(ended)),
            ["boots_to_ready", "hello_container", "goes_down"]
        );
        let all = tests.iter().map(|test| ended(&test.name));
        assert!(names(&all.collect::<Vec<_>>()).is_empty());
    }

    #[test]
    fn tests_of_one_lighter_have_their_frame_and_others_need_none() {
        assert_eq!(
            names(Some("hello")),
            ["boots_to_ready", "hello_container", "goes_down"]
        );
        assert_eq!(names(Some("another")), ["contract::another"]);
        assert_eq!(names(Some("claim,other")).len(), 2);
        assert!(names(Some("nothing of that name")).is_empty());
        assert_eq!(names(None).len(), 2 + SCRIPTS.len());
    }
}
