//! Memory runs out, in a container or in the machine; and how little of it the machine's own programs
//! use.

use lighter_tests::{Host, env, until};

use crate::guest::{arm, engine, inspect};

/// A program that takes whatever there is: the last line of something without lines.
const GLUTTON: [&str; 3] = ["busybox", "tail", "/dev/zero"];

/// A small machine, so that its memory is filled soon.
fn small(test: &str) -> Option<Host> {
    let Some(host) = Host::new() else {
        env::skip(
            test,
            "the programs under test are not there: run `cargo xtask test`",
        );
        return None;
    };
    host.lighter(&["config", "set", "memory", "512MiB"]).ok();
    host.lighter(&["up"]).ok();
    host.docker(&["tag", "lighter/hello", "busybox"]).ok();
    Some(host)
}

#[test]
fn container_over_its_limit_is_killed_and_says_so() {
    let Some(host) = small("container_over_its_limit_is_killed_and_says_so") else {
        return;
    };
    let limit = ["run", "--rm", "-m", "32m"];
    host.docker(&[&limit[..], &GLUTTON].concat()).exits(137);
    let kept = ["run", "--name", "fat", "-m", "32m"];
    host.docker(&[&kept[..], &GLUTTON].concat()).exits(137);
    let state = "{{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Status}}";
    assert_eq!(inspect(&host, "fat", state), "137 true exited");
    // A child that is killed does not end the container, and is told of all the same: the group is not killed
    // as one, as it is not by dockerd.
    let script = "cat /sys/fs/cgroup/memory.oom.group; tail /dev/zero; echo code $?; sleep 0.1";
    let child = [
        "run", "--name", "child", "-m", "32m", "busybox", "sh", "-c", script,
    ];
    assert_eq!(host.docker(&child).ok().out(), "0\ncode 137\n");
    assert_eq!(inspect(&host, "child", "{{.State.OOMKilled}}"), "true");
}

#[test]
fn machine_out_of_memory_takes_the_container_and_never_the_engine() {
    let name = "machine_out_of_memory_takes_the_container_and_never_the_engine";
    let Some(host) = small(name) else {
        return;
    };
    arm(&host);
    let before = engine(&host);
    for round in 0..env::count(2, 20) {
        let eater = format!("eater{round}");
        let run = ["run", "-d", "--name", &eater];
        host.docker(&[&run[..], &GLUTTON].concat()).ok();
        // The API answers while memory is short.
        until("the eater is killed", || {
            inspect(&host, &eater, "{{.State.Running}}") != "true"
        });
        let state = "{{.State.ExitCode}} {{.State.OOMKilled}}";
        assert_eq!(inspect(&host, &eater, state), "137 true", "round {round}");
        assert_eq!(inspect(&host, "killer", "{{.State.Running}}"), "true");
        assert_eq!(
            engine(&host),
            before,
            "the engine was killed in round {round}"
        );
        host.docker(&["rm", &eater]).ok();
    }
}

/// A fork bomb without a limit, as dockerd's containers have none: what the machine has goes to it, the engine
/// stays, answers, and ends it.
#[test]
fn a_fork_bomb_is_outlived_by_the_engine_and_ended_by_its_removal() {
    let name = "a_fork_bomb_is_outlived_by_the_engine_and_ended_by_its_removal";
    let Some(host) = small(name) else {
        return;
    };
    arm(&host);
    let before = engine(&host);
    let script = "bomb() { bomb & bomb & sleep 1000; }; bomb";
    host.docker(&["run", "-d", "--name", "bomb", "busybox", "sh", "-c", script])
        .ok();
    let processes = || {
        let top = host
            .docker(&["stats", "--no-stream", "--format", "{{.PIDs}}", "bomb"])
            .ok()
            .out();
        top.trim().parse().unwrap_or(0)
    };
    until("there are many", || processes() > 500);
    host.docker(&["ps", "-a"]).ok();
    host.docker(&["rm", "-f", "bomb"]).ok();
    host.docker(&["run", "--rm", "busybox", "true"]).ok();
    // Where memory ran out as well, any container may have been taken for it.
    host.docker(&["start", "killer"]).ok();
    assert_eq!(engine(&host), before, "the engine was killed");
}

/// Kilobytes that init and the engine may have together while nothing goes on.
const IDLE_KB: u64 = 15 * 1024;

#[test]
fn init_and_engine_are_small_while_nothing_goes_on() {
    let name = "init_and_engine_are_small_while_nothing_goes_on";
    let Some(host) = Host::started(name) else {
        return;
    };
    arm(&host);
    // Some work first: an engine that has done something is what people have.
    for _ in 0..5 {
        host.docker(&["run", "--rm", "busybox", "true"]).ok();
    }
    let script = "cat /proc/1/smaps_rollup /proc/$(pidof lighter-agent)/smaps_rollup";
    let rollups = host
        .docker(&["exec", "killer", "sh", "-c", script])
        .ok()
        .out();
    let pss: Vec<u64> = rollups
        .lines()
        .filter_map(|line| line.strip_prefix("Pss:"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect();
    println!("PSS of init and engine: {pss:?} kB");
    assert_eq!(pss.len(), 2, "{rollups}");
    assert!(pss.iter().sum::<u64>() <= IDLE_KB, "{rollups}");
}
