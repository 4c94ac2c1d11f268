//! Many containers side by side, again and again: nothing of them is left.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{BUSYBOX, attach, call, container, create, get, post, run, started, wait};
use crate::containers::{count, read_until};
use crate::footprint::Footprint;
use crate::machine::Machine;

#[test]
fn containers_made_and_removed_side_by_side_leave_nothing() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let (together, rounds) = (count(16, 200), count(3, 20));
    // What is made once and stays, folders for example, is made by the first of each kind.
    side_by_side(&machine, LIVES.len(), 0);
    let before = Footprint::of(&machine);
    for round in 1..=rounds {
        side_by_side(&machine, together, round);
        let all = get(&machine, "/containers/json?all=1").is(200).json();
        assert_eq!(all, json!([]), "after round {round}");
    }
    assert_eq!(
        get(&machine, "/volumes").is(200).json()["Volumes"],
        json!([])
    );
    before.is_all_that_is_left(&machine);
    machine.nothing_left();
}

/// What becomes of one container.
type Life = fn(&Machine, &str);

const LIVES: [Life; 6] = [
    ends_by_itself,
    is_killed_by_its_removal,
    removes_itself,
    has_a_volume_and_a_check,
    has_a_terminal_and_an_exec,
    shares_its_memory_and_is_stopped,
];

fn side_by_side(machine: &Machine, together: usize, round: usize) {
    std::thread::scope(|scope| {
        for number in 0..together {
            let life = LIVES[number % LIVES.len()];
            scope.spawn(move || life(machine, &format!("c{round}-{number}")));
        }
    });
}

fn remove(machine: &Machine, name: &str, how: &str) {
    let path = format!("/containers/{name}?{how}");
    call(machine, "DELETE", &path, &Value::Null).is(204);
}

fn ends_by_itself(machine: &Machine, name: &str) {
    run(machine, name, &container("echo out; echo err >&2; exit 3"));
    assert_eq!(wait(machine, name), 3);
    remove(machine, name, "");
}

fn is_killed_by_its_removal(machine: &Machine, name: &str) {
    run(
        machine,
        name,
        &container("echo out; sleep 1000 & exec sleep 1000"),
    );
    remove(machine, name, "force=1");
}

fn removes_itself(machine: &Machine, name: &str) {
    let mut body = container("exit 4");
    body["HostConfig"]["AutoRemove"] = json!(true);
    create(machine, name, &body);
    // Asked before it starts, and so before it can be gone.
    std::thread::scope(|scope| {
        let path = format!("/containers/{name}/wait?condition=removed");
        let waiting = scope.spawn(move || post(machine, &path).json()["StatusCode"].clone());
        post(machine, &format!("/containers/{name}/start")).is(204);
        assert!([json!(4), Value::Null].contains(&waiting.join().unwrap()));
    });
}

fn has_a_volume_and_a_check(machine: &Machine, name: &str) {
    let mut body = container("echo kept > /data/file; exec sleep 1000");
    body["Volumes"] = json!({"/data": {}});
    body["Healthcheck"] = json!({
        "Test": ["CMD", BUSYBOX, "test", "-e", "/data/file"], "Interval": 100_000_000,
    });
    run(machine, name, &body);
    let state = || crate::api::state(machine, name)["Health"]["Status"].clone();
    while state() != json!("healthy") {
        std::thread::yield_now();
    }
    remove(machine, name, "force=1&v=1");
}

fn has_a_terminal_and_an_exec(machine: &Machine, name: &str) {
    let mut body = container("read line; echo got $line; exec sleep 1000");
    (body["Tty"], body["OpenStdin"]) = (json!(true), json!(true));
    run(machine, name, &body);
    let mut screen = attach(machine, name, "stream=1&stdin=1&stdout=1");
    std::io::Write::write_all(&mut screen, b"it\n").unwrap();
    read_until(&mut screen, "got it");
    let exec = json!({"Cmd": [BUSYBOX, "true"], "AttachStdout": true});
    let made = call(machine, "POST", &format!("/containers/{name}/exec"), &exec).is(201);
    let id = made.json()["Id"].as_str().unwrap().to_owned();
    let detached = json!({"Detach": true});
    call(machine, "POST", &format!("/exec/{id}/start"), &detached).is(200);
    remove(machine, name, "force=1");
}

fn shares_its_memory_and_is_stopped(machine: &Machine, name: &str) {
    let mut body = container(
        "trap 'exit 5' TERM; echo kept > /dev/shm/file; while :; do sleep 1000 & wait; done",
    );
    body["HostConfig"]["IpcMode"] = json!("shareable");
    run(machine, name, &body);
    post(machine, &format!("/containers/{name}/stop?t=1")).is(204);
    wait(machine, name);
    remove(machine, name, "");
}
