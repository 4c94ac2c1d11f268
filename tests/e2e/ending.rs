//! The end of the daemon and its machine, wanted and unwanted: containers get the time they were
//! promised, and nothing is left behind.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use lighter_tests::{Host, until};

/// Starts a container that says when it is ready to be stopped.
fn start(host: &Host, name: &str, timeout: &str, trap: &str) {
    let script = format!("trap '{trap}' TERM; echo ready; while :; do sleep 0.1; done");
    let run = [
        "run",
        "-d",
        "--name",
        name,
        "--stop-timeout",
        timeout,
        "busybox",
        "sh",
        "-c",
        &script,
    ];
    host.docker(&run).ok();
    let mut logs = host
        .docker_command()
        .args(["logs", "-f", name])
        .stdout(Stdio::piped())
        .spawn()
        .expect("docker starts");
    let mut line = String::new();
    let out = logs.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    logs.kill().expect("logs end");
    logs.wait().expect("logs end");
}

fn codes(host: &Host, names: &[&str]) -> String {
    let format = "{{.State.Status}} {{.State.ExitCode}}";
    let mut args = vec!["inspect", "-f", format];
    args.extend(names);
    host.docker(&args).ok().out()
}

fn is_stopping(host: &Host) -> bool {
    host.lighter(&["status"]).out().contains("stopping")
}

fn daemon_pid(host: &Host) -> String {
    std::fs::read_to_string(host.home().join("run/daemon.lock")).expect("the lock")
}

#[test]
fn a_signal_stops_containers_within_their_own_times() {
    let Some(host) = Host::started("a_signal_stops_containers_within_their_own_times") else {
        return;
    };
    // Less than what one of the containers was promised: the promise counts.
    host.lighter(&["config", "set", "engine.shutdown-timeout", "1"])
        .ok();
    start(&host, "slow", "60", "sleep 4; exit 5");
    start(&host, "deaf", "1", "");
    start(&host, "quick", "60", "exit 3");
    let ended = Command::new("kill").arg(daemon_pid(&host)).status();
    assert!(ended.expect("kill").success());
    until("the signal is heard", || {
        is_stopping(&host) || host.processes("lighter daemon").is_empty()
    });
    // It waits for the daemon that is going down, then starts another.
    host.lighter(&["up"]).ok();
    assert_eq!(
        codes(&host, &["slow", "deaf", "quick"]),
        "exited 5\nexited 137\nexited 3\n"
    );
}

#[test]
fn down_after_a_crash_of_the_daemon_stops_containers_in_order() {
    let name = "down_after_a_crash_of_the_daemon_stops_containers_in_order";
    let Some(host) = Host::started(name) else {
        return;
    };
    start(&host, "orderly", "60", "sleep 1; exit 3");
    assert_eq!(host.kill("lighter daemon"), 1);
    host.lighter(&["down"]).ok();
    host.lighter(&["up"]).ok();
    assert_eq!(codes(&host, &["orderly"]), "exited 3\n");
}

#[test]
fn down_waits_for_every_process_of_a_machine_taken_over() {
    let name = "down_waits_for_every_process_of_a_machine_taken_over";
    let Some(host) = Host::started(name) else {
        return;
    };
    for _ in 0..3 {
        assert_eq!(host.kill("lighter daemon"), 1);
        host.lighter(&["down"]).ok();
        assert_eq!(host.processes("lighter"), [0; 0]);
        host.lighter(&["up"]).ok();
    }
}

#[test]
fn a_second_signal_hurries_an_end_that_waits() {
    let Some(host) = Host::started("a_second_signal_hurries_an_end_that_waits") else {
        return;
    };
    start(&host, "stubborn", "600", "");
    for _ in 0..2 {
        assert_eq!(host.signal("TERM", "lighter daemon"), 1);
        // The second one ends it: then there is no answer.
        until("it is ending", || {
            is_stopping(&host) || host.processes("lighter daemon").is_empty()
        });
    }
    until("all is gone", || host.processes("lighter").is_empty());
}

#[test]
fn down_by_force_hurries_a_down_that_waits() {
    let Some(host) = Host::started("down_by_force_hurries_a_down_that_waits") else {
        return;
    };
    start(&host, "stubborn", "600", "");
    let mut patient = host.lighter_command();
    let mut patient = patient
        .arg("down")
        .stderr(Stdio::null())
        .spawn()
        .expect("lighter starts");
    until("the machine is stopping", || is_stopping(&host));
    host.lighter(&["down", "--force"]).ok();
    assert!(patient.wait().expect("it ends").success());
    assert_eq!(host.lighter(&["status"]).code, 1);
}
