//! `cargo xtask test sanitized`: the unit tests of our own monitor's devices under the address sanitizer.
//!
//! Rings, streams and disk work on the guest's memory by pointers; the sanitizer sees an access beside what belongs to
//! the program that a test's own eyes miss. The stable compiler does, with `RUSTC_BOOTSTRAP=1`; `docs/fuzzing.md` says
//! what else runs under it.

use std::process::Command;

use anyhow::Result;

use crate::{cmd, paths};

/// Runs them all, or those whose names contain this.
///
/// # Errors
///
/// When one fails, or the sanitizer finds something.
pub fn run(name: Option<&str>) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["test", "-p", "lighter-vmm", "--lib"])
        // With a target, build scripts and macros are not instrumented.
        .args(["--target", "host-tuple"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // Other flags, other files: those of ordinary builds stay.
        .env("CARGO_TARGET_DIR", paths::target().join("sanitized"))
        .current_dir(paths::root());
    // What a thread may call under its filter is less than the sanitizer does.
    cargo.args(["--", "--skip", "roles::"]).args(name);
    cmd::run(&mut cargo)
}
