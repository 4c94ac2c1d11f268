//! Namespaces, system calls, descriptors, capabilities.

use lighter_tests::Host;

use crate::probe;

#[test]
fn vsock_and_alg_are_refused_even_to_a_privileged_container() {
    let Some(host) = Host::shared("vsock_and_alg_are_refused_even_to_a_privileged_container")
    else {
        return;
    };
    for flags in [
        &[][..],
        &["--privileged"][..],
        &["--privileged", "--network", "host"][..],
    ] {
        let out = probe(host, flags, &["sockets"]).out();
        assert_eq!(
            out.lines().filter(|l| l.ends_with("open")).count(),
            0,
            "{flags:?}: {out}"
        );
        assert_eq!(out.lines().count(), 2, "{flags:?}: {out}");
    }
}

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
