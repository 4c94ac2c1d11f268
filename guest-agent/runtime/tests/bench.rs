//! How long a start takes, and where the time goes: `cargo test --release -p lighter-runtime
//! --test bench -- --ignored --nocapture` (with `LIGHTER_ENTER` the program as it is shipped).
//!
//! Prints; asserts nothing about time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::{Duration, Instant};

use common::{Bench, container, inside, program};
use lighter_runtime::{ContainerFds, ContainerSpec, Namespace, Seccomp, Stdio};

const ROUNDS: usize = 200;

#[test]
#[ignore = "a benchmark"]
fn start_of_true() {
    inside("start_of_true", |bench| {
        let root = bench.rootfs("root");
        let full = || container(program(&["/bin/true"]));
        measure(bench, &root, "docker's defaults", full);
        measure(bench, &root, "without a network namespace", || {
            let mut spec = full();
            spec.namespaces.net = Namespace::Host;
            spec.sysctls.clear();
            spec
        });
        measure(bench, &root, "without an ipc namespace", || {
            let mut spec = full();
            spec.namespaces.ipc = Namespace::Host;
            spec
        });
        measure(bench, &root, "without sysctls", || {
            let mut spec = full();
            spec.sysctls.clear();
            spec
        });
        measure(bench, &root, "without a filter", || {
            let mut spec = full();
            spec.process.seccomp = Seccomp::Unconfined;
            spec
        });
        measure(bench, &root, "without masks", || {
            let mut spec = full();
            spec.masked_paths.clear();
            spec.readonly_paths.clear();
            spec
        });
        measure(bench, &root, "without mounts and masks", || {
            let mut spec = full();
            spec.masked_paths.clear();
            spec.readonly_paths.clear();
            spec.mounts.retain(|mount| mount.destination == "/dev");
            spec
        });
    });
}

fn measure(bench: &Bench, root: &std::path::Path, what: &str, spec: impl Fn() -> ContainerSpec) {
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let spec = spec();
        let fds = ContainerFds {
            stdio: Stdio::default(),
            rootfs: bench.mount(root),
            mounts: vec![],
            namespaces: vec![],
        };
        let begin = Instant::now();
        let mut prepared = bench.launcher.prepare(&spec, fds).unwrap();
        let cloned = Instant::now();
        prepared.wait_ready().unwrap();
        let ready = Instant::now();
        prepared.start().unwrap();
        let started = Instant::now();
        bench.exit_code(prepared.pid());
        prepared
            .cgroup()
            .unwrap()
            .remove(Duration::from_secs(5))
            .unwrap();
        let removed = Instant::now();
        for (times, time) in times.iter_mut().zip([
            cloned - begin,
            ready - cloned,
            started - ready,
            removed - started,
        ]) {
            times.push(time);
        }
    }
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1000.0
    });
    let [prepare, setup, start, end] = medians;
    println!(
        "{what:30} prepare {prepare:.2} + set up {setup:.2} + start {start:.2} = {:.2} ms; \
         exit and remove {end:.2}",
        prepare + setup + start
    );
}
