//! What `cargo xtask test` tells the tests, and how a test says that it cannot run.

use std::io::Write;
use std::path::PathBuf;

/// The `lighter` program under test.
pub const LIGHTER: &str = "LIGHTER_TEST_BIN";
/// The docker CLI to drive it with.
pub const DOCKER: &str = "LIGHTER_TEST_DOCKER";
/// Folder with further clients and servers from Debian (skopeo, docker-registry, …).
pub const TOOLS: &str = "LIGHTER_TEST_TOOLS";
/// A file to which each skipped test adds one line: its name and the reason.
pub const SKIPS: &str = "LIGHTER_TEST_SKIPS";
/// Set when the counts of `cargo xtask test long` are wanted.
pub const LONG: &str = "LIGHTER_LONG";

/// The path in a variable, if it is set and exists.
#[must_use]
pub fn path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|p| p.exists())
}

/// How often to repeat: `short` ordinarily, `long` in a long run.
#[must_use]
pub fn count(short: usize, long: usize) -> usize {
    if std::env::var_os(LONG).is_some() {
        long
    } else {
        short
    }
}

/// Records that the named test did not run, and why.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIP {test}: {reason}");
    if let Some(file) = std::env::var_os(SKIPS)
        && let Ok(mut file) = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
    {
        // A skip that cannot be counted is still printed above; the test itself must not fail for it.
        let _ = writeln!(file, "{test}: {reason}");
    }
}
