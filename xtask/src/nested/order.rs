//! What the outer machine runs, in which order.
//!
//! Two kinds: programs of the shell, which share one Lighter, and tests of our test programs, each of which makes the
//! machines it needs. A test more of the first kind is a file in `tests/` and a line in [`SCRIPTS`]; of the second a line
//! in [`super::suites::SUITES`], if it is in a program that is not there yet.

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
    let (first, last) = (SCRIPTS.first(), SCRIPTS.last());
    let frame = |name: &str| [first, last].iter().flatten().any(|(of, _)| *of == name);
    for (name, text) in SCRIPTS {
        if of_one_lighter && (frame(name) || wanted(name)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: Option<&str>) -> Vec<String> {
        let suite = Suite::with("contract", &["a_claim", "another"]);
        let tests = of(&[suite], only);
        tests.into_iter().map(|test| test.name).collect()
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
