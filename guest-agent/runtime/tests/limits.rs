//! Limits are in force, where the machine's cgroup tree has the controllers.
//!
//! Elsewhere each test says what is missing and passes: the same container runs, with warnings.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use common::{Bench, Output, Pipes, container, inside, program, shell};
use lighter_runtime::{ContainerFds, ContainerSpec, Resources};

/// Runs a container and returns what it left, its warnings and its out-of-memory kills.
fn run(bench: &Bench, spec: &ContainerSpec) -> (Output, usize, Option<u64>) {
    let root = bench.directory.path().join("root");
    if !root.exists() {
        bench.rootfs("root");
    }
    let (stdio, pipes) = Pipes::new();
    let fds = ContainerFds {
        stdio,
        rootfs: bench.mount(&root),
        mounts: vec![],
        namespaces: vec![],
    };
    let mut prepared = bench.launcher.prepare(spec, fds).unwrap();
    let warnings = prepared.warnings().len();
    prepared.start().unwrap();
    let (stdout, stderr) = pipes.read();
    let code = bench.exit_code(prepared.pid());
    let cgroup = prepared.cgroup().unwrap();
    let kills = cgroup.oom_kills();
    cgroup.remove(Duration::from_secs(10)).unwrap();
    (
        Output {
            code,
            stdout,
            stderr,
        },
        warnings,
        kills,
    )
}

fn has(bench: &Bench, controller: &str, warnings: usize) -> bool {
    let there = bench
        .launcher
        .cgroups()
        .controllers()
        .iter()
        .any(|name| name == controller);
    if !there {
        println!("no {controller} controller on this machine: limits are not tested");
        assert!(warnings > 0, "a limit that is not in force gives a warning");
    }
    there
}

#[test]
fn memory_beyond_the_limit_is_an_oom_kill() {
    inside("memory_beyond_the_limit_is_an_oom_kill", |bench| {
        // `tail` keeps the one endless line in memory.
        let mut spec = container(program(&["sh", "-c", "head -c 256m /dev/zero | tail"]));
        spec.resources = Resources {
            memory: Some(32 << 20),
            ..Resources::default()
        };
        let (output, warnings, kills) = run(bench, &spec);
        if has(bench, "memory", warnings) {
            assert_eq!(output.code, 137, "{output:?}");
            assert!(kills.unwrap() >= 1);
        }
    });
}

#[test]
fn the_watch_tells_of_an_oom_kill() {
    inside("the_watch_tells_of_an_oom_kill", |bench| {
        let root = bench.rootfs("root");
        let mut spec = container(shell("read go; head -c 256m /dev/zero | tail; sleep 100"));
        spec.resources = Resources {
            memory: Some(32 << 20),
            ..Resources::default()
        };
        let (mut stdio, pipes) = Pipes::new();
        let (stdin, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        stdio.stdin = Some(stdin);
        let fds = ContainerFds {
            stdio,
            rootfs: bench.mount(&root),
            mounts: vec![],
            namespaces: vec![],
        };
        let mut prepared = bench.launcher.prepare(&spec, fds).unwrap();
        let warnings = prepared.warnings().len();
        prepared.start().unwrap();
        let cgroup = prepared.cgroup().unwrap();
        if has(bench, "memory", warnings) {
            let watch = cgroup.watch_oom().unwrap().unwrap();
            assert_eq!(watch.kills().unwrap(), 0);
            rustix::io::write(&go, b"go\n").unwrap();
            while watch.kills().unwrap() == 0 {
                let mut fds = [rustix::event::PollFd::new(
                    &watch,
                    rustix::event::PollFlags::PRI,
                )];
                rustix::event::poll(&mut fds, None).unwrap();
            }
            assert!(cgroup.stats().unwrap().memory.max == Some(32 << 20));
        }
        cgroup.remove(Duration::from_secs(10)).unwrap();
        drop(pipes);
    });
}

#[test]
fn processes_beyond_the_limit_are_not_made() {
    inside("processes_beyond_the_limit_are_not_made", |bench| {
        let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait";
        let mut spec = container(shell(script));
        spec.resources = Resources {
            pids: Some(4),
            ..Resources::default()
        };
        let (output, warnings, _) = run(bench, &spec);
        if has(bench, "pids", warnings) {
            assert!(output.stderr.contains("can't fork"), "{output:?}");
        }
    });
}

#[test]
fn limits_read_back_as_docker_means_them() {
    inside("limits_read_back_as_docker_means_them", |bench| {
        let script = "cd /sys/fs/cgroup; cat memory.max memory.swap.max memory.low cpu.max \
                      cpu.weight cpuset.cpus pids.max 2>/dev/null";
        let mut spec = container(shell(script));
        spec.resources = Resources {
            memory: Some(64 << 20),
            memory_swap: Some(96 << 20),
            memory_reservation: Some(16 << 20),
            nano_cpus: Some(500_000_000),
            cpu_shares: Some(512),
            cpuset_cpus: Some("0".into()),
            pids: Some(100),
            ..Resources::default()
        };
        let (output, warnings, _) = run(bench, &spec);
        let all = ["memory", "cpu", "cpuset", "pids"];
        if all
            .iter()
            .all(|controller| has(bench, controller, warnings))
            && warnings == 0
        {
            assert_eq!(
                output.stdout,
                "67108864\n33554432\n16777216\n50000 100000\n59\n0\n100\n"
            );
        }
    });
}
