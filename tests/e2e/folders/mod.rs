//! Folders of the host in containers, and volumes: each seen as root and as an ordinary user.

mod binds;
mod denied;
mod meanings;
mod programs;
mod volumes;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use lighter_tests::{Finished, Host, env};

/// Runs a test on root's Lighter and on an ordinary user's.
fn both(test: &str, work: impl Fn(&Host)) {
    for host in [Host::shared(test), Host::of_user(test)]
        .into_iter()
        .flatten()
    {
        eprintln!("as user {}", host.user_id());
        work(host);
    }
}

/// The same with the image of Debian's programs loaded.
fn both_with_programs(test: &str, work: impl Fn(&Host)) {
    static LOADED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let Some(archive) = env::path(env::DEBIAN) else {
        return env::skip(
            test,
            "the programs' image is not there: run `cargo xtask test`",
        );
    };
    both(test, |host| {
        let mut loaded = LOADED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if loaded.insert(host.home().to_owned()) {
            // Read here: the user may not look where the archive lies.
            let bytes = std::fs::read(&archive).expect("readable");
            host.docker_with(&["load"], &bytes).ok();
        }
        drop(loaded);
        work(host);
    });
}

const DEBIAN: &str = "lighter-test/debian";

/// `docker run --rm FLAGS busybox sh -c SCRIPT`.
fn sh(host: &Host, flags: &[&str], script: &str) -> Finished {
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    host.docker(&args)
}
