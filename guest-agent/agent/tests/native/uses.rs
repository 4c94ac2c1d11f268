//! What containers run and use, as the API tells of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{attach, call, container, create, get, post, run, started, wait};
use crate::containers::read_until;
use crate::machine::Machine;

/// Starts a container and waits until it has said `ready`.
fn ready(machine: &Machine, name: &str, body: &Value) {
    create(machine, name, body);
    let mut output = attach(machine, name, "stream=1&stdout=1");
    post(machine, &format!("/containers/{name}/start")).is(204);
    read_until(&mut output, "ready");
}

fn top(machine: &Machine, query: &str) -> Value {
    let path = format!("/containers/busy/top{query}");
    get(machine, &path).is(200).json()
}

#[test]
fn top_shows_the_processes_of_one_container() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    create(&machine, "idle", &container("true"));
    run(&machine, "other", &container("exec sleep 1000"));
    ready(
        &machine,
        "busy",
        &container("sleep 1001 & echo ready; wait"),
    );
    let shown = top(&machine, "");
    assert_eq!(
        shown["Titles"],
        json!(["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"])
    );
    let rows = shown["Processes"].as_array().unwrap();
    let cell = |row: usize, column: usize| rows[row][column].as_str().unwrap();
    assert_eq!(rows.len(), 2, "{shown}");
    assert_eq!((cell(0, 0), cell(0, 5)), ("root", "?"));
    assert_eq!(
        cell(0, 1),
        cell(1, 2),
        "the second is the child of the first"
    );
    // The second may not have got to its own program yet.
    let line = "/bin/busybox sh -c sleep 1001 & echo ready; wait";
    assert_eq!(cell(0, 7), line);
    let inspected = crate::api::state(&machine, "busy");
    assert_eq!(inspected["Pid"].to_string(), cell(0, 1));
    let shown = top(&machine, "?ps_args=-o%20pid,comm");
    assert_eq!(shown["Titles"], json!(["PID", "COMMAND"]));

    let refused = |name: &str, query: &str| {
        let answer = get(&machine, &format!("/containers/{name}/top{query}"));
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        (answer.status, message)
    };
    let without = "Couldn't find PID field in ps output".to_owned();
    assert_eq!(refused("busy", "?ps_args=-o%20user"), (500, without));
    let (status, text) = refused("idle", "");
    assert_eq!(status, 409);
    assert!(
        text.starts_with("container ") && text.ends_with(" is not running"),
        "{text}"
    );
    let missing = "No such container: nobody".to_owned();
    assert_eq!(refused("nobody", ""), (404, missing));
    post(&machine, "/containers/busy/kill").is(204);
    wait(&machine, "busy");
}

#[test]
fn stats_are_sampled_once_for_all_who_watch() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    create(&machine, "idle", &container("true"));
    run(&machine, "busy", &container("while :; do :; done"));
    let zero = get(&machine, "/containers/idle/stats?stream=0")
        .is(200)
        .json();
    assert_eq!(
        (&zero["name"], &zero["memory_stats"]),
        (&json!("/idle"), &json!({}))
    );

    let now = get(&machine, "/containers/busy/stats?stream=0&one-shot=1")
        .is(200)
        .json();
    assert_eq!(now["preread"], "0001-01-01T00:00:00Z");
    assert!(
        now.get("name").is_none() && now.get("networks").is_none(),
        "{now}"
    );
    assert!(
        now["cpu_stats"]["online_cpus"].as_u64().unwrap() > 0,
        "{now}"
    );
    let both = get(&machine, "/containers/busy/stats?one-shot=1")
        .is(400)
        .json();
    assert_eq!(both["message"], "cannot have stream=true and one-shot=true");
    get(&machine, "/containers/nobody/stats").is(404);

    let watch = || {
        let mut stream = machine.connect("api.sock");
        let head = "GET /v1.51/containers/busy/stats HTTP/1.0\r\nHost: x\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    };
    let frames = |watcher: BufReader<UnixStream>, count: usize| -> Vec<Value> {
        let lines = watcher.lines().map(Result::unwrap);
        let frames = lines.filter(|line| line.starts_with('{'));
        let frames = frames.map(|line| serde_json::from_str(&line).unwrap());
        frames.take(count).collect()
    };
    let (one, other) = (watch(), watch());
    let (one, other) = (frames(one, 3), frames(other, 2));
    assert_eq!(one[0]["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert_eq!(one[1]["preread"], one[0]["read"]);
    assert_eq!(one[1]["precpu_stats"], one[0]["cpu_stats"]);
    let used = |frame: &Value| {
        frame["cpu_stats"]["cpu_usage"]["total_usage"]
            .as_u64()
            .unwrap()
    };
    assert!(used(&one[2]) > used(&one[0]), "{one:?}");
    let same = |frame: &Value| one.iter().any(|mine| mine["read"] == frame["read"]);
    assert!(other.iter().any(same), "two samplers: {one:?} {other:?}");

    // Its removal is the end of the stream.
    let watcher = watch();
    call(&machine, "DELETE", "/containers/busy?force=1", &Value::Null).is(204);
    frames(watcher, usize::MAX);
}

#[test]
fn what_is_asked_of_a_container_between_two_runs() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut looping = container("exit 3");
    looping["HostConfig"]["RestartPolicy"] = json!({ "Name": "always" });
    run(&machine, "loop", &looping);
    let inspect = || get(&machine, "/containers/loop/json").is(200).json();
    let restarts = || {
        let inspected = inspect();
        let waits = inspected["State"]["Status"] == "restarting";
        (waits, inspected["RestartCount"].as_u64().unwrap())
    };
    // Each pause is twice as long as the one before; what falls into a run is asked again.
    let between = |method: &str, path: &str, body: &Value| loop {
        let before = restarts();
        let answer = call(&machine, method, &format!("/containers/loop/{path}"), body);
        if before.0 && restarts() == before {
            return answer;
        }
        post(&machine, "/containers/loop/unpause");
        post(&machine, "/containers/loop/start");
    };
    let state = between("GET", "json", &Value::Null).json()["State"].take();
    let flags = ["Running", "Restarting", "Paused", "Dead"].map(|flag| state[flag].clone());
    assert_eq!(flags, [true, true, false, false]);
    assert_eq!((&state["ExitCode"], &state["Pid"]), (&json!(3), &json!(0)));

    let waits = "is restarting, wait until the container is running";
    let exec = json!({ "Cmd": ["true"] });
    for (method, path, body) in [
        ("GET", "top", &Value::Null),
        ("POST", "pause", &Value::Null),
        ("POST", "exec", &exec),
    ] {
        let answer = between(method, path, body);
        assert!(answer.is(409).text().contains(waits), "{path}");
    }
    let zero = between("GET", "stats?stream=0", &Value::Null)
        .is(200)
        .json();
    assert_eq!(zero["memory_stats"], json!({}));
    let refused = between("POST", "kill?signal=HUP", &Value::Null).is(409);
    assert!(refused.text().contains("is not running"));
    post(&machine, "/containers/loop/kill").is(204);
    assert_eq!(inspect()["State"]["Status"], "exited");
    call(&machine, "DELETE", "/containers/loop?force=1", &Value::Null).is(204);
    machine.nothing_left();
}
