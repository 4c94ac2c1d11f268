//! Containers that live longer than one command.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use lighter_tests::{Host, env, http, until};

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

/// Every line of `seq 1 COUNT` came, once and in order.
fn is_whole(mut lines: impl Iterator<Item = String>, count: usize) {
    for number in 1..=count {
        let line = lines.next();
        assert_eq!(line, Some(number.to_string()), "line {number}");
    }
    assert_eq!(lines.next(), None, "more than was written");
}

#[test]
fn logs_that_are_followed_are_whole_to_the_last_byte() {
    let Some(host) = Host::shared("logs_that_are_followed_are_whole_to_the_last_byte") else {
        return;
    };
    // 12.5 million numbers are 100 MB.
    let count = env::count(300_000, 12_500_000);
    let last = count.to_string();
    host.docker(&["run", "-d", "--name", "much", "busybox", "seq", "1", &last])
        .ok();
    let mut logs = host
        .docker_command()
        .args(["logs", "-f", "much"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("docker starts");
    let reader = std::io::BufReader::new(logs.stdout.take().expect("piped"));
    let lines = std::io::BufRead::lines(reader);
    is_whole(lines.map(|line| line.expect("text")), count);
    assert!(logs.wait().expect("logs end").success());
    assert_eq!(host.docker(&["wait", "much"]).ok().out(), "0\n");
    let again = host.docker(&["logs", "--tail", "2", "much"]).ok().out();
    assert_eq!(again, format!("{}\n{count}\n", count - 1));
    host.docker(&["rm", "much"]).ok();
}

#[test]
fn a_client_that_is_killed_leaves_nothing_waiting_for_it() {
    let Some(host) = Host::shared("a_client_that_is_killed_leaves_nothing_waiting_for_it") else {
        return;
    };
    let listeners = || {
        let shown = host
            .docker(&["info", "-f", "{{.NEventsListener}}"])
            .ok()
            .out();
        shown.trim().parse::<usize>().expect("a number")
    };
    let before = listeners();
    let mut clients: Vec<_> = (0..5)
        .map(|_| {
            let mut docker = host.docker_command();
            docker.arg("events").stdout(std::process::Stdio::null());
            docker.spawn().expect("docker starts")
        })
        .collect();
    until("five listeners more", || listeners() >= before + 5);
    for client in &mut clients {
        client.kill().expect("killed");
        client.wait().expect("it ends");
    }
    until("as many listeners as before", || listeners() <= before);
}

#[test]
fn events_come_in_dockers_order() {
    let Some(host) = Host::shared("events_come_in_dockers_order") else {
        return;
    };
    let name = "ordered";
    host.docker(&["run", "-d", "--name", name, "busybox", "sleep", "1000"])
        .ok();
    host.docker(&["exec", name, "sh", "-c", "exit 3"]).exits(3);
    host.docker(&["kill", "-s", "WINCH", name]).ok();
    host.docker(&["pause", name]).ok();
    host.docker(&["unpause", name]).ok();
    host.docker(&["restart", "-t", "0", name]).ok();
    host.docker(&["rename", name, "ordered2"]).ok();
    host.docker(&["rm", "-f", "ordered2"]).ok();
    let mut events = host.docker_command();
    events.args(["events", "--since", "10m", "--filter", "type=container"]);
    events.args(["--filter", "container=ordered", "--filter"]);
    events.args(["container=ordered2", "--format", "{{.Action}}"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let until = (now.expect("after 1970").as_secs() + 1).to_string();
    events.args(["--until", &until]);
    let seen = lighter_tests::run(events, b"", Duration::from_secs(60))
        .ok()
        .out();
    let seen: Vec<&str> = seen.lines().collect();
    let expected = [
        "create",
        "start",
        "exec_create: sh -c exit 3",
        "exec_start: sh -c exit 3",
        "exec_die",
        "kill",
        "pause",
        "unpause",
        "kill",
        "stop",
        "die",
        "start",
        "restart",
        "rename",
        "kill",
        "die",
        "destroy",
    ];
    // Dockerd itself sends these two in either order.
    let seen: Vec<&str> = {
        let mut seen = seen;
        if let Some(at) = seen.windows(2).position(|two| two == ["die", "stop"]) {
            seen.swap(at, at + 1);
        }
        if let Some(at) = seen
            .windows(3)
            .position(|three| three == ["kill", "kill", "stop"])
        {
            // A process that is slow to go is killed once more.
            seen.remove(at);
        }
        seen
    };
    assert_eq!(seen, expected);
}

/// docker-py reads the head of an exec through a buffer and goes on with the bare socket: what comes
/// together with the head is lost to it.
#[test]
fn the_head_of_a_session_is_read_alone() {
    let Some(host) = Host::shared("the_head_of_a_session_is_read_alone") else {
        return;
    };
    let name = "session-head";
    host.docker(&[
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    let words = r#"{"AttachStdout":true,"AttachStderr":true,"Cmd":["echo","said"]}"#;
    let (_, made) = http::ask(
        &host.socket(),
        "POST",
        &format!("/v1.51/containers/{name}/exec"),
        Some(words),
    );
    let made: serde_json::Value = serde_json::from_slice(&made).expect("JSON");
    let id = made["Id"].as_str().expect("an id");
    let mut stream = UnixStream::connect(host.socket()).expect("connected");
    let start = "{\"Detach\":false,\"Tty\":false}";
    write!(
        stream,
        "POST /v1.51/exec/{id}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{start}",
        start.len()
    )
    .expect("sent");
    // Nothing is read before all has been said.
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, exec) = http::ask(
            &host.socket(),
            "GET",
            &format!("/v1.51/exec/{id}/json"),
            None,
        );
        let exec: serde_json::Value = serde_json::from_slice(&exec).expect("JSON");
        if exec["Running"] == false && exec["ExitCode"] == 0 {
            break;
        }
        assert!(Instant::now() < limit, "it does not end: {exec}");
    }
    let mut bytes = [0; 8192];
    let count = stream.read(&mut bytes).expect("a head");
    let head = String::from_utf8_lossy(&bytes[..count]);
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.ends_with("\r\n\r\n"),
        "{head:?}"
    );
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the rest");
    assert_eq!(rest, b"\x01\0\0\0\0\0\0\x05said\n");
    host.docker(&["rm", "-f", name]).ok();
}
