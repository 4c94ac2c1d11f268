//! What `cargo xtask test` tells the tests, and what the tests tell it: skips, counts and seeds.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::panic::Location;
use std::path::PathBuf;

/// The `lighter` program under test.
pub const LIGHTER: &str = "LIGHTER_TEST_BIN";
/// The docker CLI to drive it with.
pub const DOCKER: &str = "LIGHTER_TEST_DOCKER";
/// Docker CLIs of other generations, separated as `PATH` is.
pub const OTHER_DOCKERS: &str = "LIGHTER_TEST_OTHER_DOCKERS";
/// Folder with further clients and servers from Debian (skopeo, docker-registry, …).
pub const TOOLS: &str = "LIGHTER_TEST_TOOLS";
/// The archive of an image with gcc, make, PostgreSQL and Redis.
pub const DEBIAN: &str = "LIGHTER_TEST_DEBIAN";
/// The archive of the image with the programs of the applications in `tests/apps`.
pub const APPS: &str = "LIGHTER_TEST_APPS";
/// The archive of the image in which dockerd runs inside a machine of ours.
pub const INNER: &str = "LIGHTER_TEST_INNER";
/// The folder with docker-py's own tests (`suite`) and what runs them (`venv`).
pub const DOCKER_PY: &str = "LIGHTER_TEST_DOCKER_PY";
/// Debian's static busybox for i386.
pub const I386_BUSYBOX: &str = "LIGHTER_TEST_I386_BUSYBOX";
/// The one backend, `kvm` or `qemu`, on which the tests of `lighter-machine` run; without it on all that can.
pub const BACKEND: &str = "LIGHTER_TEST_BACKEND";
/// The initial file system with the guest of the tests of `lighter-machine`; without it they build it.
pub const GUEST: &str = "LIGHTER_TEST_GUEST";
/// A file to which each skipped test adds one line: its name and the reason.
pub const SKIPS: &str = "LIGHTER_TEST_SKIPS";
/// A file to which each loop adds one line of JSON: its test, place, count and seed.
pub const LOOPS: &str = "LIGHTER_TEST_LOOPS";
/// The number from which every test's [`seed`] is made, to repeat a run.
pub const SEED: &str = "LIGHTER_TEST_SEED";
/// The home of a Lighter that runs already, with an image named `busybox`: tests that share a
/// machine share this one. For trying one test again and again.
pub const HOME: &str = "LIGHTER_TEST_HOME";
/// Set when the counts of `cargo xtask test long` are wanted.
pub const LONG: &str = "LIGHTER_LONG";

/// The path in a variable, if it is set and exists.
#[must_use]
pub fn path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|p| p.exists())
}

/// How often to repeat: `short` ordinarily, `long` in a long run. The report names the count.
#[must_use]
#[track_caller]
pub fn count<T: Copy + TryInto<u64>>(short: T, long: T) -> T {
    let count = if std::env::var_os(LONG).is_some() {
        long
    } else {
        short
    };
    let number: Option<u64> = count.try_into().ok();
    report(&serde_json::json!({ "count": number }));
    count
}

/// What this test's random choices are to start from: another in every run, and the same in a run
/// with the same [`SEED`] (`cargo xtask test --seed N`). Printed, so that a failure shows it, and reported.
#[must_use]
#[track_caller]
pub fn seed() -> u64 {
    let of_run = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
    let of_run: u64 = of_run.unwrap_or_else(|| {
        // Any number that differs from run to run.
        let mut hasher = DefaultHasher::new();
        (std::process::id(), std::time::SystemTime::now()).hash(&mut hasher);
        hasher.finish() >> 32
    });
    let seed = of_test(of_run, test_name().as_deref());
    println!("{SEED}={of_run}");
    report(&serde_json::json!({ "seed": seed }));
    seed
}

/// Mixes the run's seed with the test's name, so that no two tests make the same choices. FNV-1a,
/// since the standard library's hash may change with the compiler, and a seed must not.
fn of_test(of_run: u64, test: Option<&str>) -> u64 {
    let bytes = of_run.to_le_bytes();
    let all = bytes.iter().chain(test.unwrap_or_default().as_bytes());
    let hash = all.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Never 0, which a xorshift generator would stay at.
    hash | 1
}

/// The running test, which the test harness names its thread after; on one CPU it has no thread.
fn test_name() -> Option<String> {
    let thread = std::thread::current();
    let name = thread.name().filter(|name| *name != "main");
    name.map(str::to_owned)
}

#[track_caller]
fn report(what: &serde_json::Value) {
    let place = Location::caller();
    let mut line = serde_json::json!({
        "package": std::env::var("CARGO_PKG_NAME").ok(),
        "test": test_name(),
        "place": format!("{}:{}", place.file(), place.line()),
    });
    if let (Some(line), Some(what)) = (line.as_object_mut(), what.as_object()) {
        line.extend(what.clone());
    }
    append(LOOPS, &line.to_string());
}

/// Records that the named test did not run, and why.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIP {test}: {reason}");
    append(SKIPS, &format!("{test}: {reason}"));
}

/// Adds a line to the file that a variable names, in one write: tests run side by side.
fn append(variable: &str, line: &str) {
    if let Some(file) = std::env::var_os(variable)
        && let Ok(mut file) = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
    {
        // What cannot be counted was still printed; the test itself must not fail for it.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_by_run_and_by_test_and_are_never_zero() {
        assert_eq!(of_test(7, Some("a")), of_test(7, Some("a")));
        assert_ne!(of_test(7, Some("a")), of_test(8, Some("a")));
        assert_ne!(of_test(7, Some("a")), of_test(7, Some("b")));
        assert_ne!(of_test(0, None), 0);
    }

    #[test]
    fn a_test_knows_its_name() {
        // The one CPU of a small machine has no thread for it; then the place must do.
        let name = test_name().unwrap_or_else(|| "a_test_knows_its_name".to_owned());
        assert!(name.ends_with("a_test_knows_its_name"), "{name}");
    }
}
