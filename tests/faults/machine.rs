//! The whole machine dies as by a power cut; what was acknowledged is on the disk.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use lighter_tests::{Host, env, until};

#[test]
fn machine_killed_keeps_every_acknowledged_object() {
    let name = "machine_killed_keeps_every_acknowledged_object";
    let Some(host) = Host::started(name) else {
        return;
    };
    let mut expected: Vec<String> = Vec::new();
    for round in 0..env::count(2, 50) {
        for n in 0..3 {
            let container = format!("c{round}-{n}");
            host.docker(&[
                "create",
                "--name",
                &container,
                "-v",
                &format!("{container}:/v"),
                "busybox",
                "true",
            ])
            .ok();
            expected.push(container);
        }
        if round % 2 == 1 {
            let gone = expected.remove(0);
            host.docker(&["rm", &gone]).ok();
        }
        assert!(
            host.kill("qemu-system") >= 1,
            "a machine was to be killed in round {round}"
        );
        host.lighter(&["up"]).ok();
        let listed = host
            .docker(&["ps", "-a", "--format", "{{.Names}}"])
            .ok()
            .out();
        let mut listed: Vec<String> = listed.lines().map(str::to_owned).collect();
        listed.sort();
        let mut wanted = expected.clone();
        wanted.sort();
        assert_eq!(listed, wanted, "after round {round}");
        let volumes = host.docker(&["volume", "ls", "-q"]).ok().out();
        for container in &expected {
            assert!(
                volumes.lines().any(|v| v == container),
                "volume {container} is lost: {volumes}"
            );
        }
    }
    host.docker(&["run", "--rm", "busybox", "true"]).ok();
}

#[test]
fn up_behind_the_death_of_a_machine_is_of_the_next_one() {
    let name = "up_behind_the_death_of_a_machine_is_of_the_next_one";
    let Some(host) = Host::started(name) else {
        return;
    };
    for what in ["lighter machine", "qemu-system"] {
        let before = machine_process(&host);
        // Of our own monitor there is no other process.
        if host.kill(what) == 0 {
            assert_eq!(what, "qemu-system");
            continue;
        }
        host.lighter(&["up"]).ok();
        assert_ne!(machine_process(&host), before, "behind the end of {what}");
    }
}

/// The process of a machine that can be used.
fn machine_process(host: &Host) -> u64 {
    let status = host.lighter(&["status", "--format", "json"]).ok().out();
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["machine"]["state"], "ready", "{status}");
    status["machine"]["pid"].as_u64().expect("a number")
}

#[test]
fn what_was_started_with_a_policy_runs_again_after_the_power_went() {
    let name = "what_was_started_with_a_policy_runs_again_after_the_power_went";
    let Some(host) = Host::started(name) else {
        return;
    };
    let policies = ["always", "unless-stopped", "on-failure"];
    for round in 0..env::count(1, 20) {
        for policy in policies {
            let container = format!("{policy}-{round}");
            // Where nothing was told to last after the start itself.
            let create = ["create", "--name", &container, "--restart", policy];
            let create = [&create[..], &["busybox", "sleep", "100000"]].concat();
            host.docker(&create).ok();
        }
        let all = policies.map(|policy| format!("{policy}-{round}"));
        let start: Vec<&str> = ["start"]
            .into_iter()
            .chain(all.iter().map(String::as_str))
            .collect();
        host.docker(&start).ok();
        assert!(host.kill("qemu-system") >= 1, "round {round}");
        host.lighter(&["up"]).ok();
        for container in &all {
            until(&format!("{container} runs again in round {round}"), || {
                let state = host.docker(&["inspect", "-f", "{{.State.Status}}", container]);
                state.ok().out() == "running\n"
            });
            host.docker(&["rm", "-f", container]).ok();
        }
    }
}

#[test]
fn power_lost_during_writes_keeps_what_was_flushed() {
    let name = "power_lost_during_writes_keeps_what_was_flushed";
    let Some(host) = Host::started(name) else {
        return;
    };
    // A number is told only after it is on the disk; beside it others write what nobody flushes.
    let write = "dd if=/dev/zero of=/v/noise bs=64k count=2000 2>/dev/null & i=$(cat /v/n || echo 0); \
                 while true; do i=$((i+1)); echo $i > /v/new; sync /v/new; mv /v/new /v/n; sync; echo $i; done";
    let mut told = 0;
    for round in 0..env::count(3, 50) {
        let mut writer = host.docker_command();
        writer.args(["run", "-v", "numbers:/v", "busybox", "sh", "-c", write]);
        let mut writer = writer
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker starts");
        let output = writer.stdout.take().expect("its output");
        let mut lines = BufReader::new(output).lines();
        for _ in 0..5 + round % 7 {
            let line = lines.next().expect("a number").expect("a number");
            told = line.parse().expect("a number");
        }
        assert!(host.kill("qemu-system") >= 1, "round {round}");
        for line in lines.map_while(Result::ok) {
            told = line.parse().expect("a number");
        }
        let _ = writer.wait();
        host.lighter(&["up"]).ok();
        let read = ["run", "--rm", "-v", "numbers:/v", "busybox", "cat", "/v/n"];
        let kept: u64 = host
            .docker(&read)
            .ok()
            .out()
            .trim()
            .parse()
            .expect("a number");
        assert!(
            kept >= told,
            "round {round}: {told} was flushed, {kept} is there"
        );
        let left = host.docker(&["ps", "-aq"]).ok().out();
        for container in left.lines() {
            let state = host.docker(&["inspect", "-f", "{{.State.Status}}", container]);
            assert_eq!(state.ok().out(), "exited\n", "round {round}");
        }
    }
}
