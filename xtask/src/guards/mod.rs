//! `cargo xtask test guards [NAME]`: each guard is taken out, and the test that names it has to fail.
//!
//! The guards are data, `tests/guards.toml`: an incident or a class of them, the smallest edit that takes
//! the guard out and still compiles, and the test. The tree is copied beside the cache, with a target
//! folder of its own; first every test has to pass there, then each edit is made, the test run, and the
//! edit undone. A test that passes all the same, or an edit that does not compile, fails the run.
//!
//! Takes about a quarter of an hour on two cores, and more where nothing is compiled yet, so `cargo xtask test`
//! leaves it out; that each entry still fits the tree is an ordinary test of [`list`].

mod copy;
mod list;
mod trial;

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::paths;
use list::Guard;
use trial::{Outcome, Trials};

/// Tries every guard whose name, incidents or test contain `only`.
///
/// # Errors
///
/// When nothing is called so, a test does not pass to begin with, or a guard can be taken out unnoticed.
pub fn run(only: Option<&str>) -> Result<()> {
    let root = paths::root();
    let mut guards = list::read(&root)?;
    if let Some(only) = only {
        guards.retain(|guard| guard.is_called(only));
    }
    if guards.is_empty() {
        bail!("no guard has that in its name, its incidents or its test");
    }
    for guard in &guards {
        // A name that is none would only be found out after everything is compiled.
        if !guard.test.exists(&root)? {
            bail!("{}: there is no test {}", guard.name, guard.test.name);
        }
    }
    let place = paths::cache().join("guards");
    let tree = place.join("tree");
    copy::tree(&root, &tree)
        .with_context(|| format!("cannot copy the tree to {}", tree.display()))?;
    let started = Instant::now();
    let trials = Trials::new(tree, place.join("target"));
    trials.all_pass(&guards)?;
    let mut table = Vec::new();
    for guard in &guards {
        let outcome = trials.without(guard)?;
        println!("{:>16}  {}", outcome.words(), guard.name);
        table.push((guard, outcome));
    }
    println!("\n{}", markdown(&table));
    println!(
        "{} guards in {} s; what was said is in {}",
        table.len(),
        started.elapsed().as_secs(),
        place.display()
    );
    let bad = table
        .iter()
        .filter(|(_, outcome)| *outcome != Outcome::Held);
    match bad.count() {
        0 => Ok(()),
        bad => bail!("{bad} guards can be taken out unnoticed, or their edits do not compile"),
    }
}

/// The table as it stands in `docs/guards.md`.
fn markdown(table: &[(&Guard, Outcome)]) -> String {
    let mut text = String::from("| incident | guard | test | taken out |\n|---|---|---|---|\n");
    for (guard, outcome) in table {
        let files: Vec<&str> = guard.edits.iter().map(|edit| edit.file.as_str()).collect();
        text.push_str(&format!(
            "| {} | {}: `{}` | `{}` | {} |\n",
            guard.incidents.join(", "),
            guard.name,
            files.join("`, `"),
            guard.test.shown(),
            outcome.words()
        ));
    }
    text
}
