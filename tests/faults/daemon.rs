//! The daemon on the host is killed; the machine lives on and the next daemon takes it over.

use std::time::{Duration, Instant};

use lighter_tests::{Host, env};

#[test]
fn daemon_killed_leaves_the_machine_to_the_next() {
    let name = "daemon_killed_leaves_the_machine_to_the_next";
    let Some(host) = Host::started(name) else {
        return;
    };
    host.docker(&["run", "-d", "--name", "steady", "busybox", "sleep", "10000"])
        .ok();
    let started = host
        .docker(&["inspect", "-f", "{{.State.StartedAt}}", "steady"])
        .ok()
        .out();
    for round in 0..env::count(3, 50) {
        let killed = host.kill("lighter daemon");
        assert_eq!(killed, 1, "one daemon was to be killed in round {round}");
        host.lighter(&["up"]).ok();
        let now = host
            .docker(&["inspect", "-f", "{{.State.StartedAt}}", "steady"])
            .ok()
            .out();
        assert_eq!(now, started, "the container was restarted in round {round}");
        let state = host
            .docker(&["inspect", "-f", "{{.State.Running}}", "steady"])
            .ok()
            .out();
        assert_eq!(state, "true\n", "round {round}");
    }
}

#[test]
fn down_ends_every_process() {
    let Some(host) = Host::started("down_ends_every_process") else {
        return;
    };
    host.docker(&["run", "-d", "busybox", "sleep", "10000"])
        .ok();
    host.lighter(&["down"]).ok();
    // The machine's process has told its end and is on its way out of memory.
    let limit = Instant::now() + Duration::from_secs(10);
    while !host.processes("").is_empty() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(host.processes(""), Vec::<i32>::new());
}
