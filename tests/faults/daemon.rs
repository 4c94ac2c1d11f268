//! The daemon on the host is killed; the machine lives on and the next daemon takes it over.

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
    for round in 0..env::count(2, 20) {
        host.lighter(&["down"]).ok();
        let left = host.processes("");
        assert!(
            left.is_empty(),
            "round {round}: {left:?} are left when `down` has answered"
        );
        host.lighter(&["up"]).ok();
        // Of a daemon that found the machine running as well.
        assert_eq!(host.kill("lighter daemon"), 1);
        host.lighter(&["up"]).ok();
    }
    host.lighter(&["down"]).ok();
    assert_eq!(host.processes(""), Vec::<i32>::new());
}
