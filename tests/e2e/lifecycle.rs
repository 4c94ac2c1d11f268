//! Containers that live longer than one command.

use lighter_tests::Host;

#[test]
fn detached_container_logs_execs_stops_and_goes() {
    let Some(host) = Host::shared("detached_container_logs_execs_stops_and_goes") else {
        return;
    };
    let id = host
        .docker(&[
            "run",
            "-d",
            "--name",
            "steady",
            "busybox",
            "sh",
            "-c",
            "echo ready; exec sleep 1000",
        ])
        .ok()
        .out();
    assert_eq!(id.trim().len(), 64);
    let logs = host
        .docker_command()
        .args(["logs", "-f", "steady"])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut logs = logs.expect("docker starts");
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(logs.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut reader, &mut line).expect("a line");
    assert_eq!(line, "ready\n");
    assert_eq!(
        host.docker(&["exec", "steady", "cat", "/proc/1/comm"])
            .ok()
            .out(),
        "sleep\n"
    );
    host.docker(&["exec", "steady", "sh", "-c", "exit 9"])
        .exits(9);
    let ps = host
        .docker(&["ps", "--format", "{{.Names}} {{.Image}} {{.Status}}"])
        .ok()
        .out();
    assert!(
        ps.lines().any(|l| l.starts_with("steady busybox Up ")),
        "{ps}"
    );
    host.docker(&["stop", "-t", "0", "steady"]).ok();
    assert!(
        logs.wait().expect("logs end").success(),
        "logs -f ends with the container"
    );
    let state = host
        .docker(&[
            "inspect",
            "-f",
            "{{.State.Status}} {{.State.ExitCode}}",
            "steady",
        ])
        .ok()
        .out();
    assert_eq!(state, "exited 137\n");
    host.docker(&["rm", "steady"]).ok();
    let gone = host.docker(&["inspect", "steady"]).exits(1);
    assert!(
        gone.err().contains("No such object: steady"),
        "{}",
        gone.err()
    );
}

#[test]
fn memory_limit_kills_with_137_and_says_so() {
    let Some(host) = Host::shared("memory_limit_kills_with_137_and_says_so") else {
        return;
    };
    host.docker(&[
        "run",
        "--name",
        "greedy",
        "-m",
        "32m",
        "--memory-swap",
        "32m",
        "busybox",
        "sh",
        "-c",
        "exec tail /dev/zero",
    ])
    .exits(137);
    let state = host
        .docker(&[
            "inspect",
            "-f",
            "{{.State.OOMKilled}} {{.State.ExitCode}}",
            "greedy",
        ])
        .ok()
        .out();
    host.docker(&["rm", "greedy"]).ok();
    assert_eq!(state, "true 137\n");
}

#[test]
fn events_tell_the_life_of_a_container() {
    let Some(host) = Host::shared("events_tell_the_life_of_a_container") else {
        return;
    };
    host.docker(&["run", "--rm", "--name", "told", "busybox", "true"])
        .ok();
    // The client sends whole seconds: an event of this second needs the end of it.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let until = (now.expect("after 1970").as_secs() + 1).to_string();
    let events = host
        .docker(&[
            "events",
            "--since",
            "10m",
            "--until",
            &until,
            "--filter",
            "container=told",
            "--filter",
            "type=container",
            "--format",
            "{{.Action}}",
        ])
        .ok()
        .out();
    let seen: Vec<&str> = events.lines().collect();
    assert_eq!(
        seen,
        ["create", "attach", "start", "die", "destroy"],
        "{events}"
    );
}

#[test]
fn named_volume_outlives_its_containers() {
    let Some(host) = Host::shared("named_volume_outlives_its_containers") else {
        return;
    };
    host.docker(&[
        "run",
        "--rm",
        "-v",
        "keep:/data",
        "busybox",
        "sh",
        "-c",
        "echo kept > /data/f",
    ])
    .ok();
    let out = host
        .docker(&[
            "run",
            "--rm",
            "-v",
            "keep:/data:ro",
            "busybox",
            "cat",
            "/data/f",
        ])
        .ok()
        .out();
    assert_eq!(out, "kept\n");
    host.docker(&["volume", "rm", "keep"]).ok();
}
