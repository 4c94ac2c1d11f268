//! The checklist `contest.toml`: tests that another project has for runtimes, and ours that ask the same.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Checklist {
    group: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    /// Files and functions in them.
    #[serde(default)]
    tests: Vec<String>,
    /// Why it does not apply.
    reason: Option<String>,
}

/// Whether the file has this test.
fn exists(root: &Path, named: &str) -> bool {
    let Some((file, function)) = named.split_once("::") else {
        return false;
    };
    let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let head = format!("fn {function}() {{");
    text.split("#[test]")
        .skip(1)
        .any(|part| part.lines().take(3).any(|line| line.ends_with(&head)))
}

#[test]
fn each_group_has_tests_that_exist_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace");
    let text = include_str!("../contest.toml");
    let list: Checklist = toml::from_str(text).expect("the checklist");
    let mut names = BTreeSet::new();
    for group in &list.group {
        assert!(names.insert(&group.name), "{} twice", group.name);
        assert!(
            group.tests.is_empty() == group.reason.is_some(),
            "{}: tests or a reason, one of them",
            group.name
        );
        for test in &group.tests {
            assert!(
                exists(root, test),
                "{}: there is no test {test}",
                group.name
            );
        }
    }
    assert!(!exists(root, "tests/src/contest.rs::exists"), "not a test");
}
