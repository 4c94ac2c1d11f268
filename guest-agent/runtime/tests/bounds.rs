//! What a container may make of its own groups, and an exec of its container's filter.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{container, inside, program, shell};
use lighter_runtime::{Capabilities, caps};

/// A container that may make groups makes a very long row of them; it can be looked into and
/// removed all the same, by a thread with an ordinary stack.
#[test]
fn a_row_of_groups_ends_somewhere() {
    inside("a_row_of_groups_ends_somewhere", |bench| {
        let root = bench.rootfs("root");
        let mut spec = container(program(&["sleep", "100"]));
        spec.make_privileged();
        let running = bench.stay(&root, &spec);
        let script = "cd /sys/fs/cgroup; i=0; \
                      while [ $i -lt 5000 ] && mkdir x 2>/dev/null && cd x; do i=$((i+1)); done; \
                      echo $i";
        let mut process = shell(script);
        process.capabilities = Capabilities::docker(caps::all());
        process.seccomp = lighter_runtime::Seccomp::Unconfined;
        let output = running.exec(process).unwrap();
        assert_eq!(output.stdout, "64\n", "{}", output.stderr);
        assert_eq!(running.cgroup.processes().unwrap(), [running.pid]);
        let patience = std::time::Duration::from_secs(10);
        running.cgroup.remove(patience).unwrap();
        assert!(!running.cgroup.path().exists());
    });
}

/// `exec --privileged` gives capabilities; the filter stays that of the container.
#[test]
fn an_exec_with_every_capability_keeps_its_containers_filter() {
    inside(
        "an_exec_with_every_capability_keeps_its_containers_filter",
        |bench| {
            let root = bench.rootfs("root");
            let running = bench.stay(&root, &container(program(&["sleep", "100"])));
            let script = "grep CapEff /proc/self/status | cut -f2; mount -t tmpfs none /tmp 2>&1";
            let mut process = shell(script);
            process.capabilities = Capabilities::docker(caps::all());
            let mounted = running.exec(process.clone()).unwrap().stdout;
            let all = format!("{:016x}\n", caps::all());
            assert_eq!(mounted, all, "with a filter of its own it may mount");
            process.seccomp_for = Some(caps::DEFAULT);
            let refused = running.exec(process).unwrap().stdout;
            assert!(refused.starts_with(&all), "{refused}");
            assert!(
                refused.contains("denied") || refused.contains("not permitted"),
                "{refused}"
            );
        },
    );
}
