//! The whole machine dies as by a power cut; what was acknowledged is on the disk.

use lighter_tests::{Host, env};

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
