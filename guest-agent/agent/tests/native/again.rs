//! Ends, and what starts again after them: what those who listen are told, and what a killed engine leaves to the next.

use std::io::BufRead as _;
use std::path::Path;

use serde_json::json;
use tempfile::tempdir;

use crate::api::{container, events, get, post, run, started, state};
use crate::containers::count;
use crate::machine::{Machine, hello};

#[test]
fn a_guest_is_ready_when_what_is_to_run_again_runs() {
    let dir = tempdir().unwrap();
    run_kept(dir.path());
    let machine = Machine::start(dir.path());
    machine.greeted();
    // Asked for is the machine itself: the API waits for them by itself.
    assert_eq!(sleepers(&machine), 8);
}

/// Runs eight containers that are to run whenever the machine does, and ends the machine.
fn run_kept(dir: &Path) {
    let mut body = container("exec sleep 4711");
    body["HostConfig"]["RestartPolicy"] = json!({"Name": "always"});
    let machine = started(dir);
    for number in 0..8 {
        run(&machine, &format!("kept{number}"), &body);
    }
    assert_eq!(sleepers(&machine), 8);
}

/// How many of these containers there are, by their processes.
fn sleepers(machine: &Machine) -> usize {
    let processes = std::fs::read_dir(machine.proc()).unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    // Or the shell that is to become it.
    lines.filter(|line| line.ends_with(b"4711\0")).count()
}

#[test]
fn who_hears_of_an_end_is_told_of_an_end() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    for (name, policy, status) in [
        ("once", json!({"Name": "no"}), "exited"),
        ("again", json!({"Name": "always"}), "restarting"),
    ] {
        let mut body = container("exit 3");
        body["HostConfig"]["RestartPolicy"] = policy;
        let mut ends = events(&machine, name, "die");
        for round in 1..=count(5, 50) {
            if round == 1 {
                run(&machine, name, &body);
            } else if name == "once" {
                post(&machine, &format!("/containers/{name}/start")).is(204);
            } else if round > 4 {
                // The pauses are long by now.
                break;
            }
            let mut line = String::new();
            ends.read_line(&mut line).unwrap();
            let shown = get(&machine, &format!("/containers/{name}/json")).json();
            let state = &shown["State"];
            assert_eq!(state["Status"], status, "round {round}: {state}");
            assert_eq!(state["ExitCode"], 3, "round {round}: {state}");
            let again = if name == "again" { round } else { 0 };
            assert_eq!(shown["RestartCount"], again, "as it is to be started");
        }
    }
}

#[test]
fn who_hears_of_an_end_within_a_restart_is_told_of_the_next_run() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    run(&machine, "web", &container("exec sleep 1000"));
    let mut ends = events(&machine, "web", "die");
    for round in 0..count(10, 100) {
        std::thread::scope(|scope| {
            let restart = scope.spawn(|| post(&machine, "/containers/web/restart?t=0"));
            let mut line = String::new();
            ends.read_line(&mut line).unwrap();
            // Compose follows the logs of what runs, and lets go of what has ended.
            let state = state(&machine, "web");
            assert_eq!(state["Running"], true, "round {round}: {state}");
            assert_ne!(state["Pid"], 0, "round {round}: {state}");
            restart.join().unwrap().is(204);
        });
    }
}

#[test]
fn what_a_killed_engine_had_not_started_again_is_started_by_the_next() {
    let dir = tempdir().unwrap();
    run_kept(dir.path());
    let machine = Machine::start(dir.path());
    machine.control().greet(hello()).unwrap();
    // One is started after the other.
    while sleepers(&machine) == 0 {
        std::thread::yield_now();
    }
    machine.kill_agent();
    machine.greeted();
    assert_eq!(sleepers(&machine), 8);
    // From here on one that was stopped stays so, whoever dies.
    post(&machine, "/containers/kept3/stop?t=0").is(204);
    machine.kill_agent();
    machine.greeted();
    assert_eq!(state(&machine, "kept3")["Status"], "exited");
    assert_eq!(sleepers(&machine), 7);
}

#[test]
fn a_paused_container_wakes_for_the_signal_that_is_to_end_it_alone() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut body = container("exec sleep 1000");
    for (name, own, sent, after) in [
        ("quit", "SIGQUIT", "HUP", "paused"),
        ("any", "", "USR1", "running"),
    ] {
        body["StopSignal"] = json!(own);
        run(&machine, name, &body);
        let mut woken = events(&machine, name, "unpause");
        post(&machine, &format!("/containers/{name}/pause")).is(204);
        post(&machine, &format!("/containers/{name}/kill?signal={sent}")).is(204);
        assert_eq!(state(&machine, name)["Status"], after);
        if after == "paused" {
            post(&machine, &format!("/containers/{name}/kill?signal={own}")).is(204);
            assert_eq!(state(&machine, name)["Status"], "running");
        }
        let mut line = String::new();
        woken.read_line(&mut line).unwrap();
        assert!(line.contains("unpause"), "{line}");
    }
}
