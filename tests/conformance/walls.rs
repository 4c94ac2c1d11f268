//! Namespaces a user chooses and what a filter refuses, beside dockerd: same exit codes, same words.

use crate::{both, normal};

/// Runs the same commands on both engines and compares each answer.
fn same(test: &str, script: &[&[&str]]) {
    let Some(both) = both(test) else { return };
    let reference = both.reference();
    let mut differences = Vec::new();
    for args in script {
        let (a, b) = (both.ours.docker(args), reference.docker(args));
        for (what, ours, theirs) in [
            ("code", a.code.to_string(), b.code.to_string()),
            ("stdout", normal::text(&a.out()), normal::text(&b.out())),
            ("stderr", normal::text(&a.err()), normal::text(&b.err())),
        ] {
            if ours != theirs {
                differences.push(format!(
                    "docker {}\n  {what} ours: {ours}\n  {what} dockerd: {theirs}",
                    args.join(" ")
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Two donors and containers that join what they may; the names are this test's alone.
#[test]
fn namespaces_are_shared_and_refused_as_by_dockerd() {
    let quiet = ["run", "-d", "--network", "none"];
    let donor = |name: &'static str, ipc: &'static str| {
        let mut words = quiet.to_vec();
        words.extend(["--name", name, "--hostname", name, "--ipc", ipc, "busybox"]);
        words.extend(["sh", "-c", "echo kept > /dev/shm/file; exec sleep 1000"]);
        words
    };
    let run = |flags: &[&'static str], script: &'static str| {
        let mut words = vec!["run", "--rm"];
        if !flags.contains(&"--network") {
            words.extend(["--network", "none"]);
        }
        words.extend(flags);
        words.extend(["busybox", "sh", "-c", script]);
        words
    };
    let shm = "cat /dev/shm/file; grep -c ' /dev/shm ' /proc/mounts";
    let script = [
        // The word that waits for a donor's file to be there is the donor's own.
        donor("ns-open", "shareable"),
        donor("ns-closed", "private"),
        vec![
            "exec",
            "ns-open",
            "sh",
            "-c",
            "until [ -s /dev/shm/file ]; do :; done",
        ],
        run(&["--ipc", "container:ns-open"], shm),
        run(&["--ipc", "container:ns-closed"], "true"),
        run(&["--pull", "never", "--ipc", "container:ns-none"], "true"),
        run(
            &["--ipc", "none"],
            "grep -c ' /dev/shm ' /proc/mounts; true",
        ),
        run(
            &["--ipc", "host"],
            "grep ' /dev/shm ' /proc/mounts | cut -d' ' -f2,3",
        ),
        run(&["--pid", "container:ns-open"], "cat /proc/1/comm"),
        run(&["--pull", "never", "--pid", "container:ns-none"], "true"),
        run(&["--pid", "host"], "[ $$ -gt 1 ] && echo other"),
        run(&["--uts", "host", "--hostname", "x"], "true"),
        run(
            &["--network", "container:ns-open"],
            "hostname; cat /etc/hostname",
        ),
        run(
            &["--network", "container:ns-open", "--hostname", "x"],
            "true",
        ),
        run(
            &["--network", "container:ns-open", "--dns", "1.1.1.1"],
            "true",
        ),
        run(
            &["--network", "container:ns-open", "--add-host", "a:1.1.1.1"],
            "true",
        ),
        run(
            &["--network", "container:ns-open", "--expose", "80"],
            "true",
        ),
        run(&["--network", "container:ns-none"], "true"),
        run(&["--userns", "host"], "cat /proc/self/uid_map | tr -s ' '"),
        run(&["--userns", "bogus"], "true"),
        run(&["--cgroupns", "private"], "grep ^0:: /proc/self/cgroup"),
        vec!["rename", "ns-open", "ns-renamed"],
        run(&["--ipc", "container:ns-renamed"], "cat /dev/shm/file"),
        vec!["rm", "-f", "ns-renamed"],
        vec!["rm", "-f", "ns-closed"],
    ];
    let script: Vec<&[&str]> = script.iter().map(Vec::as_slice).collect();
    same("namespaces_are_shared_and_refused_as_by_dockerd", &script);
}

/// `exec --privileged` adds capabilities; the system call filter stays that of the container.
#[test]
fn a_privileged_exec_may_what_dockerds_may() {
    let script: &[&[&str]] = &[
        &[
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            "wall",
            "busybox",
            "sleep",
            "1000",
        ],
        &[
            "exec",
            "--privileged",
            "wall",
            "grep",
            "-E",
            "Seccomp:",
            "/proc/self/status",
        ],
        &[
            "exec",
            "--privileged",
            "wall",
            "mount",
            "-t",
            "tmpfs",
            "none",
            "/tmp",
        ],
        &["exec", "--privileged", "wall", "unshare", "-m", "true"],
        &["rm", "-f", "wall"],
    ];
    same("a_privileged_exec_may_what_dockerds_may", script);
}
