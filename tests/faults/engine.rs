//! The engine in the guest is killed; the containers must not notice.

use lighter_tests::{Host, env};

/// Kills the engine from a container that was given the way in.
fn kill_engine(host: &Host) {
    // The client loses its connection with the engine, so its own exit code says nothing.
    let killer = [
        "run",
        "--rm",
        "--privileged",
        "--pid=host",
        "busybox",
        "pkill",
        "-9",
        "lighter-agent",
    ];
    let _ = host.docker(&killer);
}

fn inspect(host: &Host, name: &str, format: &str) -> String {
    host.docker(&["inspect", "-f", format, name])
        .ok()
        .out()
        .trim()
        .to_owned()
}

#[test]
fn engine_killed_leaves_containers_output_and_exit_code() {
    let name = "engine_killed_leaves_containers_output_and_exit_code";
    let Some(host) = Host::started(name) else {
        return;
    };
    let script =
        "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; usleep 20000; done; echo end; exit 42";
    host.docker(&[
        "run", "-d", "--name", "counter", "busybox", "sh", "-c", script,
    ])
    .ok();
    let life = "{{.State.Pid}} {{.State.StartedAt}}";
    let before = inspect(&host, "counter", life);
    for round in 0..env::count(5, 200) {
        kill_engine(&host);
        assert_eq!(
            inspect(&host, "counter", life),
            before,
            "after kill {round}"
        );
        assert_eq!(
            inspect(&host, "counter", "{{.State.Running}}"),
            "true",
            "after kill {round}"
        );
    }
    host.docker(&["exec", "counter", "touch", "/stop"]).ok();
    assert_eq!(host.docker(&["wait", "counter"]).ok().out(), "42\n");
    let logs = host.docker(&["logs", "counter"]).ok().out();
    let lines: Vec<&str> = logs.lines().collect();
    let (last, numbers) = lines.split_last().expect("some output");
    assert_eq!(*last, "end");
    for (index, line) in numbers.iter().enumerate() {
        assert_eq!(
            *line,
            (index + 1).to_string(),
            "the log has a gap or says something twice"
        );
    }
}

#[test]
fn exit_while_the_engine_is_dead_is_not_lost() {
    let name = "exit_while_the_engine_is_dead_is_not_lost";
    let Some(host) = Host::started(name) else {
        return;
    };
    for round in 0..env::count(3, 50) {
        let container = format!("short{round}");
        let script = "while [ ! -e /proc/1/root/tmp/never ]; do usleep 1000; i=$((i+1)); [ $i = 300 ] && exit 33; done";
        host.docker(&[
            "run", "-d", "--name", &container, "busybox", "sh", "-c", script,
        ])
        .ok();
        kill_engine(&host);
        assert_eq!(
            host.docker(&["wait", &container]).ok().out(),
            "33\n",
            "round {round}"
        );
    }
}
