//! The house rules that a compiler does not hold: which room may depend on which, where `unsafe`
//! and `cfg(target_os)` may stand, how long a file may grow, and whether the README names every room.
//!
//! Called by `cargo xtask rooms` and, through it, by `cargo xtask test`. It only reads the tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;

/// Which rooms a room may depend on (normal dependencies; tests and xtask are outside the house).
const ARROWS: &[(&str, &[&str])] = &[
    ("lighter-protocol", &[]),
    ("lighter-platform", &[]),
    ("lighter-vmm", &["lighter-platform"]),
    ("lighter-files", &["lighter-platform", "lighter-protocol"]),
    (
        "lighter-net",
        &["lighter-platform", "lighter-protocol", "lighter-vmm"],
    ),
    (
        "lighter-machine",
        &["lighter-vmm", "lighter-platform", "lighter-protocol"],
    ),
    (
        "lighter-daemon",
        &[
            "lighter-machine",
            "lighter-files",
            "lighter-net",
            "lighter-platform",
            "lighter-protocol",
        ],
    ),
    // The one program of the host: its hidden subcommands are the other processes.
    (
        "lighter-cli",
        &[
            "lighter-daemon",
            "lighter-machine",
            "lighter-files",
            "lighter-net",
            "lighter-platform",
        ],
    ),
    ("lighter-init", &[]),
    ("lighter-runtime", &[]),
    ("lighter-network", &["lighter-protocol"]),
    ("lighter-images", &[]),
    (
        "lighter-engine",
        &[
            "lighter-images",
            "lighter-network",
            "lighter-runtime",
            "lighter-init",
        ],
    ),
    ("lighter-api", &["lighter-engine"]),
    (
        "lighter-agent",
        &[
            "lighter-api",
            "lighter-engine",
            "lighter-images",
            "lighter-init",
            "lighter-network",
            "lighter-protocol",
            "lighter-runtime",
        ],
    ),
];

/// Crates that may use every room, and that no room uses.
const OUTSIDE: &[&str] = &["xtask", "lighter-tests", "lighter-fuzz"];

/// Rooms whose sources may hold `unsafe` blocks (`sys` folders inside platform are checked by path).
const UNSAFE_ROOMS: &[&str] = &[
    "host/vmm/",
    "host/files/",
    "host/machine/src/linux/",
    "host/machine/tests/",
    "host/net/src/linux/",
    "host/platform/src/sys/",
    "guest-agent/init/",
    "guest-agent/runtime/",
    "tests/",
    // PID 1 of the boot test: compiled alone, outside the workspace.
    "vm-image/check/",
];

/// Places where code may ask which operating system it is compiled for.
const OS_PLACES: &[&str] = &[
    "host/platform/src/sys",
    "host/platform/src/lib.rs",
    // The one place that chooses a backend, and what stands in where there is none.
    "host/machine/src/lib.rs",
    "host/machine/src/absent/",
    "host/machine/src/launch.rs",
    "host/machine/src/linux/",
    "host/machine/tests/",
    "host/vmm/src/lib.rs",
    "host/vmm/tests/",
    "host/files/src/lib.rs",
    "host/files/tests/",
    "host/net/src/lib.rs",
];

/// Longest a source file may be, in lines without its tests. Tables are listed with the reason.
const MAX_LINES: usize = 600;
const LONG_FILES: &[(&str, &str)] = &[];

/// Check the house rules that no compiler holds.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Checks every rule and prints each breach.
///
/// # Errors
///
/// If there was a breach.
pub fn run(_args: &Args) -> Result<()> {
    let root = &paths::root();
    let mut breaches = Vec::new();
    check_arrows(root, &mut breaches)?;
    let files = sources(root)?;
    for (path, text) in &files {
        check_file(path, text, &mut breaches);
    }
    check_readme(root, &mut breaches)?;
    for breach in &breaches {
        eprintln!("rooms: {breach}");
    }
    if breaches.is_empty() {
        println!("rooms: {} files keep the house rules", files.len());
        Ok(())
    } else {
        bail!("{} breaches of the house rules", breaches.len())
    }
}

fn check_arrows(root: &Path, breaches: &mut Vec<String>) -> Result<()> {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let manifest: toml::Table = read_toml(&root.join("Cargo.toml"))?;
    let members = manifest["workspace"]["members"]
        .as_array()
        .context("workspace.members")?;
    for member in members.iter().filter_map(|m| m.as_str()) {
        let table = read_toml(&root.join(member).join("Cargo.toml"))?;
        let name = table["package"]["name"]
            .as_str()
            .context("package.name")?
            .to_owned();
        if OUTSIDE.contains(&name.as_str()) {
            continue;
        }
        let Some(may) = allowed.get(name.as_str()) else {
            breaches.push(format!("{name} has no entry in the table of arrows"));
            continue;
        };
        for dependency in room_dependencies(&table) {
            if !may.contains(&dependency.as_str()) {
                breaches.push(format!("{name} may not depend on {dependency}"));
            }
        }
        check_lints(member, &table, &manifest, breaches);
    }
    Ok(())
}

/// The rooms named under `[dependencies]` and `[target.*.dependencies]`.
fn room_dependencies(table: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    let mut take = |section: Option<&toml::Value>| {
        if let Some(names) = section.and_then(|s| s.as_table()) {
            found.extend(names.keys().filter(|n| n.starts_with("lighter-")).cloned());
        }
    };
    take(table.get("dependencies"));
    if let Some(targets) = table.get("target").and_then(|t| t.as_table()) {
        for target in targets.values() {
            take(target.get("dependencies"));
        }
    }
    found
}

/// A crate either takes the workspace's lints or repeats them all but `unsafe_code`.
fn check_lints(
    member: &str,
    table: &toml::Table,
    workspace: &toml::Table,
    breaches: &mut Vec<String>,
) {
    let Some(lints) = table.get("lints") else {
        breaches.push(format!("{member} has no [lints]"));
        return;
    };
    if lints.get("workspace").is_some() {
        return;
    }
    if !UNSAFE_ROOMS.iter().any(|room| room.starts_with(member)) {
        breaches.push(format!(
            "{member} has lints of its own but is no room for unsafe code"
        ));
    }
    let shared = &workspace["workspace"]["lints"];
    for group in ["rust", "clippy"] {
        let empty = toml::Table::new();
        let ours = lints
            .get(group)
            .and_then(|g| g.as_table())
            .unwrap_or(&empty);
        for (lint, level) in shared[group].as_table().unwrap_or(&empty) {
            if lint != "unsafe_code" && ours.get(lint) != Some(level) {
                breaches.push(format!("{member} does not repeat the lint {group}.{lint}"));
            }
        }
    }
}

fn check_file(path: &str, text: &str, breaches: &mut Vec<String>) {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let lines = if path.contains("/tests/") {
        0
    } else {
        code.lines().count()
    };
    if lines > MAX_LINES && !LONG_FILES.iter().any(|(file, _)| file == &path) {
        breaches.push(format!(
            "{path} has {lines} lines without tests (at most {MAX_LINES})"
        ));
    }
    let asks_os = [
        "cfg(target_os",
        "cfg(unix)",
        "cfg(windows)",
        "cfg(not(target_os",
    ];
    let os_free = path.starts_with("host/") || path.starts_with("protocol/");
    if os_free
        && !OS_PLACES.iter().any(|place| path.starts_with(place))
        && asks_os.iter().any(|needle| code.contains(needle))
    {
        breaches.push(format!(
            "{path} asks for the operating system outside its rooms"
        ));
    }
    let has_unsafe = code.lines().any(|l| {
        let l = l.trim_start();
        !l.starts_with("//")
            && (["unsafe {", "unsafe fn", "unsafe impl"]
                .iter()
                .any(|word| l.starts_with(word) || l.contains(&format!(" {word}"))))
    });
    if has_unsafe && !UNSAFE_ROOMS.iter().any(|room| path.starts_with(room)) {
        breaches.push(format!("{path} holds unsafe code outside its rooms"));
    }
    if path.ends_with("lib.rs") && !text.starts_with("//!") {
        breaches.push(format!(
            "{path} does not open with a header that says what it is"
        ));
    }
    for (number, line) in text.lines().enumerate() {
        let todo = concat!("TO", "DO");
        if line.contains(todo) && !line.contains('#') {
            breaches.push(format!(
                "{path}:{} has a {todo} without a reference",
                number + 1
            ));
        }
    }
}

/// The README's map names every top-level folder that holds code.
fn check_readme(root: &Path, breaches: &mut Vec<String>) -> Result<()> {
    let readme = std::fs::read_to_string(root.join("README.md")).context("README.md")?;
    for folder in [
        "host",
        "guest-agent",
        "vm-image",
        "tests",
        "installer",
        "protocol",
        "xtask",
        "docs",
    ] {
        if root.join(folder).exists() && !readme.contains(&format!("{folder}/")) {
            breaches.push(format!("README.md does not name {folder}/"));
        }
    }
    Ok(())
}

/// Every Rust source of the tree with its path from the root.
fn sources(root: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = [
        "protocol",
        "host",
        "guest-agent",
        "tests",
        "xtask",
        "vm-image",
    ]
    .iter()
    .map(|d| root.join(d))
    .filter(|d| d.exists())
    .collect();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path)?;
                let name = path.strip_prefix(root).context("outside the tree")?;
                found.push((name.to_string_lossy().replace('\\', "/"), text));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read_toml(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}
