//! The file system seen from the guest: by single requests of a client that obeys nothing, and by
//! ordinary programs through a mount of `/dev/fuse`.

mod guest;
mod mount;
mod scene;

mod hostile_bounds;
mod hostile_changes;
mod hostile_ways_out;
mod operations;
mod owners;
mod programs;

/// How often to repeat: `short` ordinarily, `long` in a long run.
fn count(short: u32, long: u32) -> u32 {
    if std::env::var_os("LIGHTER_LONG").is_some() {
        long
    } else {
        short
    }
}

/// Says that the named test did not run and why, where it is counted.
fn skip(test: &str, reason: &str) {
    use std::io::Write;
    eprintln!("SKIP {test}: {reason}");
    if let Some(file) = std::env::var_os("LIGHTER_TEST_SKIPS")
        && let Ok(mut file) = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
    {
        // A skip that cannot be counted is still printed above.
        let _ = writeln!(file, "{test}: {reason}");
    }
}
