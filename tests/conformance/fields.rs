//! Every field that dockerd emits, we emit.

use serde_json::Value;

use crate::{both, normal};

/// Fields that depend on the host's kernel or on what an engine is, not on the API.
const NOT_OURS: &[&str] = &[
    ".CDISpecDirs",
    ".Containerd",
    ".FirewallBackend",
    ".Components[].Details",
    // Of the first control groups, and of containerd and runc, which are not here.
    ".KernelMemoryTCP",
    ".Runtimes",
    // Not in a program that is the same whenever it is built.
    ".BuildTime",
];

fn missing(args: &[&str], test: &str) -> Vec<String> {
    let Some(both) = both(test) else {
        return Vec::new();
    };
    let reference = both.reference();
    let parse = |text: String| -> Value { serde_json::from_str(&text).expect("JSON") };
    let ours = normal::shape(&parse(both.ours.docker(args).ok().out()));
    let theirs = normal::shape(&parse(reference.docker(args).ok().out()));
    theirs
        .into_iter()
        .filter(|field| !ours.contains(field) && !NOT_OURS.iter().any(|n| field.starts_with(n)))
        .collect()
}

fn prepare(test: &str) {
    let Some(both) = both(test) else { return };
    let args = [
        "create",
        "--name",
        test,
        "--network",
        "none",
        "-v",
        "fields:/v",
        "busybox",
        "true",
    ];
    both.ours.docker(&args).ok();
    both.reference().docker(&args).ok();
}

#[test]
fn container_inspect_has_every_field() {
    let name = "container_inspect_has_every_field";
    prepare(name);
    assert_eq!(
        missing(&["inspect", "-f", "{{json .}}", name], name),
        Vec::<String>::new()
    );
}

#[test]
fn image_inspect_has_every_field() {
    let name = "image_inspect_has_every_field";
    assert_eq!(
        missing(&["image", "inspect", "-f", "{{json .}}", "busybox"], name),
        Vec::<String>::new()
    );
}

#[test]
fn info_has_every_field() {
    assert_eq!(
        missing(&["info", "-f", "{{json .}}"], "info_has_every_field"),
        Vec::<String>::new()
    );
}

#[test]
fn version_has_every_field() {
    assert_eq!(
        missing(
            &["version", "-f", "{{json .Server}}"],
            "version_has_every_field"
        ),
        Vec::<String>::new()
    );
}
