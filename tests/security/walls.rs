//! Namespaces, system calls, descriptors, capabilities.

use lighter_tests::{Host, env};

use crate::probe;

#[test]
fn dangerous_system_calls_are_refused_by_default() {
    let Some(host) = Host::shared("dangerous_system_calls_are_refused_by_default") else {
        return;
    };
    let out = probe(host, &[], &["syscalls"]).out();
    assert_eq!(
        out.lines().filter(|l| l.ends_with("open")).count(),
        0,
        "{out}"
    );
}

#[test]
fn cve_2024_21626_no_descriptor_leaks_into_run_or_exec() {
    let Some(host) = Host::shared("cve_2024_21626_no_descriptor_leaks_into_run_or_exec") else {
        return;
    };
    assert_eq!(probe(host, &[], &["descriptors"]).out(), "[0, 1, 2]\n");
    for n in [3, 7, 8, 12] {
        let path = format!("/proc/self/fd/{n}/../..");
        let run = host.docker(&[
            "run",
            "--rm",
            "-w",
            &path,
            "busybox",
            "cat",
            "/etc/hostname",
        ]);
        assert_ne!(
            run.code,
            0,
            "a working folder behind descriptor {n} was taken: {}",
            run.out()
        );
    }
}

#[test]
fn capabilities_are_dockers_fourteen() {
    let Some(host) = Host::shared("capabilities_are_dockers_fourteen") else {
        return;
    };
    let script = "grep Cap /proc/self/status";
    let out = host
        .docker(&["run", "--rm", "busybox", "sh", "-c", script])
        .ok()
        .out();
    let golden = "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
                  CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n";
    assert_eq!(out, golden);
    let out = host
        .docker(&[
            "run", "--rm", "--user", "1000", "busybox", "sh", "-c", script,
        ])
        .ok()
        .out();
    assert!(
        out.contains("CapEff:\t0000000000000000") && out.contains("CapInh:\t0000000000000000"),
        "{out}"
    );
}

#[test]
fn cve_2022_0492_host_knobs_cannot_be_written() {
    let Some(host) = Host::shared("cve_2022_0492_host_knobs_cannot_be_written") else {
        return;
    };
    for knob in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/proc/sys/vm/panic_on_oom",
    ] {
        let script = format!("echo x > {knob}");
        let run = host.docker(&["run", "--rm", "busybox", "sh", "-c", &script]);
        assert_ne!(run.code, 0, "{knob} was written");
    }
    let run = host
        .docker(&[
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "cat /proc/kcore | head -c 1 | wc -c",
        ])
        .ok();
    assert_eq!(run.out().trim(), "0");
}

#[test]
fn cve_2019_5736_the_entering_program_is_not_to_be_written() {
    let Some(host) = Host::shared("cve_2019_5736_the_entering_program_is_not_to_be_written") else {
        return;
    };
    // Every program that passes through is tried for writing, over and over.
    let attack = "while :; do for exe in /proc/[0-9]*/exe; do \
                    if true 2>/dev/null >> $exe; then echo \"written: $(readlink $exe)\"; fi; \
                  done; done 2>/dev/null";
    for privileged in [false, true] {
        let mut run = vec!["run", "-d"];
        run.extend(privileged.then_some("--privileged"));
        run.extend(["busybox", "sh", "-c", attack]);
        let id = host.docker(&run).ok().out();
        let id = id.trim();
        host.docker(&["exec", id, "true"]).ok();
        for _ in 0..env::count(3, 100) {
            // Whoever enters executes itself: once as an exec, once as a container.
            let exec = host.docker(&["exec", id, "/proc/self/exe"]);
            assert_ne!(exec.code, 0, "{}", exec.out());
            let run = host.docker(&["run", "--rm", "--entrypoint", "/proc/self/exe", "busybox"]);
            assert_ne!(run.code, 0, "{}", run.out());
        }
        let said = host.docker(&["logs", id]).ok();
        assert_eq!((said.out(), said.err()), (String::new(), String::new()));
        host.docker(&["exec", id, "true"]).ok();
        host.docker(&["rm", "-f", id]).ok();
    }
}

/// A cgroup namespace is a border: behind it even root of everything cannot change the limits it
/// stands under, or leave for another group.
#[test]
fn a_privileged_container_cannot_lift_its_own_limits() {
    let Some(host) = Host::shared("a_privileged_container_cannot_lift_its_own_limits") else {
        return;
    };
    let script = "cd /sys/fs/cgroup; for f in memory.max pids.max cpu.max; do \
                    (echo max > $f) 2>/dev/null && echo lifted $f; done; \
                  mkdir -p /all && mount -t cgroup2 none /all && cd /all; \
                  (echo max > memory.max) 2>/dev/null && echo lifted memory.max; \
                  cat memory.max pids.max; cat /proc/self/cgroup; \
                  mkdir below && echo own groups";
    let flags = ["--privileged", "-m", "64m", "--pids-limit", "50"];
    let mut run = vec!["run", "--rm"];
    run.extend(flags);
    run.extend(["busybox", "sh", "-c", script]);
    let said = host.docker(&run).ok().out();
    assert_eq!(said, "67108864\n50\n0::/\nown groups\n");
}
