//! The engine killed at every step of every change: what was acknowledged is there, what was not is
//! there whole or not at all, and nothing is left of what is gone.

use std::cell::Cell;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{Answer, archive, container, create, get, post, started, try_call};
use crate::containers::count;
use crate::machine::Machine;
use crate::tracer;

/// One change of state.
struct Change {
    name: &'static str,
    /// What has to be there before.
    prepare: fn(&Machine, &str),
    /// The request: method, path and body.
    ask: fn(&str) -> (&'static str, String, Vec<u8>),
    /// What has to be true afterwards; `done` if it was acknowledged.
    check: fn(&Machine, &str, bool),
}

fn none(_: &Machine, _: &str) {}

fn ask(method: &'static str, path: String) -> (&'static str, String, Vec<u8>) {
    (method, path, Vec::new())
}

fn exists(machine: &Machine, path: &str) -> bool {
    let answer = get(machine, path);
    assert!(
        matches!(answer.status, 200 | 404),
        "{path}: {}",
        answer.text()
    );
    answer.status == 200
}

/// Whether it is there, which it has to be if that was acknowledged.
fn there(machine: &Machine, path: &str, done: bool) -> bool {
    let found = exists(machine, path);
    assert!(found || !done, "{path} is lost");
    found
}

/// That it is not there if its removal was acknowledged; else it can be removed.
fn gone(machine: &Machine, path: &str, remove: &str, done: bool) {
    let found = exists(machine, path);
    assert!(!(found && done), "{path} is still there");
    if found {
        delete(machine, remove);
    }
}

fn delete(machine: &Machine, path: &str) {
    let answer = try_call(machine, "DELETE", path, b"").unwrap();
    assert!(
        matches!(answer.status, 200 | 204),
        "{path}: {}",
        answer.text()
    );
}

fn inspect(name: &str) -> String {
    format!("/containers/{name}/json")
}

fn sleeper(machine: &Machine, name: &str) {
    create(machine, name, &container("exec sleep 100000"));
}

/// With a volume that goes with it.
fn with_anonymous(machine: &Machine, name: &str) {
    let mut body = container("exec sleep 100000");
    body["Volumes"] = json!({"/anonymous": {}});
    create(machine, name, &body);
}

fn running(machine: &Machine, name: &str) {
    with_anonymous(machine, name);
    post(machine, &format!("/containers/{name}/start")).is(204);
}

fn bridged() -> Value {
    let mut body = container("exec sleep 100000");
    body["HostConfig"]["NetworkMode"] = "bridge".into();
    body
}

fn make_network(machine: &Machine, name: &str) {
    let body = json!({ "Name": name });
    crate::api::call(machine, "POST", "/networks/create", &body).is(201);
}

/// The address of a container in a network; null where it is not in it.
fn address(machine: &Machine, name: &str, network: &str) -> Value {
    let mut shown = get(machine, &inspect(name)).is(200).json();
    shown["NetworkSettings"]["Networks"][network]["IPAddress"].take()
}

/// Nobody who is gone has an address of the default network.
fn first_address_is_free(machine: &Machine, name: &str) {
    let next = format!("{name}-next");
    create(machine, &next, &bridged());
    post(machine, &format!("/containers/{next}/start")).is(204);
    assert_eq!(address(machine, &next, "bridge"), "172.17.0.2");
    force(machine, &next);
}

fn status(machine: &Machine, name: &str) -> Value {
    get(machine, &inspect(name)).is(200).json()["State"]["Status"].take()
}

fn force(machine: &Machine, name: &str) {
    delete(machine, &format!("/containers/{name}?force=1&v=1"));
}

fn tree() -> Vec<u8> {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("file"), vec![1; 100_000]).unwrap();
    let tar = std::process::Command::new("tar")
        .arg("-C")
        .arg(dir.path())
        .args(["-c", "-f", "-", "."])
        .output();
    tar.unwrap().stdout
}

fn import(name: &str) -> (&'static str, String, Vec<u8>) {
    let path = format!("/images/create?fromSrc=-&repo={name}&tag=1");
    ("POST", path, tree())
}

fn imported(machine: &Machine, name: &str) {
    let (method, path, body) = import(name);
    try_call(machine, method, &path, &body).unwrap().is(200);
}

fn image_there(machine: &Machine, name: &str, done: bool) {
    if there(machine, &format!("/images/{name}:1/json"), done) {
        delete(machine, &format!("/images/{name}:1"));
    }
}

const CHANGES: &[Change] = &[
    Change {
        name: "create",
        prepare: none,
        ask: |name| {
            let mut body = container("exit 3");
            body["HostConfig"]["Mounts"] =
                json!([{"Type": "volume", "Source": name, "Target": "/v"}]);
            body["Volumes"] = json!({"/anonymous": {}});
            let body = serde_json::to_vec(&body).unwrap();
            ("POST", format!("/containers/create?name={name}"), body)
        },
        check: |machine, name, done| {
            if there(machine, &inspect(name), done) {
                post(machine, &format!("/containers/{name}/start")).is(204);
                let ended = post(machine, &format!("/containers/{name}/wait")).is(200);
                assert_eq!(ended.json()["StatusCode"], 3);
                force(machine, name);
            }
            if there(machine, &format!("/volumes/{name}"), done) {
                delete(machine, &format!("/volumes/{name}"));
            }
        },
    },
    Change {
        name: "start",
        prepare: sleeper,
        ask: |name| ask("POST", format!("/containers/{name}/start")),
        check: |machine, name, done| {
            let status = status(machine, name);
            assert!(status == "running" || !done, "{status}");
            assert!(
                ["running", "created", "exited"].contains(&status.as_str().unwrap()),
                "{status}"
            );
            force(machine, name);
        },
    },
    Change {
        name: "stop",
        prepare: running,
        ask: |name| ask("POST", format!("/containers/{name}/stop?t=0")),
        check: |machine, name, done| {
            let status = status(machine, name);
            assert!(
                status == "exited" || (!done && status == "running"),
                "{status}"
            );
            force(machine, name);
        },
    },
    Change {
        name: "rename",
        prepare: sleeper,
        ask: |name| ask("POST", format!("/containers/{name}/rename?name={name}-new")),
        check: |machine, name, done| {
            let new = format!("{name}-new");
            let (before, after) = (
                exists(machine, &inspect(name)),
                exists(machine, &inspect(&new)),
            );
            assert!(before != after, "{before} {after}");
            assert!(after || !done);
            force(machine, if after { &new } else { name });
        },
    },
    Change {
        name: "update",
        prepare: sleeper,
        ask: |name| {
            let body = json!({"RestartPolicy": {"Name": "unless-stopped"}}).to_string();
            ("POST", format!("/containers/{name}/update"), body.into())
        },
        check: |machine, name, done| {
            let inspected = get(machine, &inspect(name)).is(200).json();
            let policy = &inspected["HostConfig"]["RestartPolicy"]["Name"];
            assert!(
                policy == "unless-stopped" || (!done && policy == "no"),
                "{policy}"
            );
            force(machine, name);
        },
    },
    Change {
        name: "remove",
        prepare: with_anonymous,
        ask: |name| ask("DELETE", format!("/containers/{name}?v=1")),
        check: |machine, name, done| {
            let remove = format!("/containers/{name}?v=1");
            gone(machine, &inspect(name), &remove, done);
        },
    },
    Change {
        name: "remove by force",
        prepare: running,
        ask: |name| ask("DELETE", format!("/containers/{name}?force=1&v=1")),
        check: |machine, name, done| {
            let remove = format!("/containers/{name}?force=1&v=1");
            gone(machine, &inspect(name), &remove, done);
        },
    },
    Change {
        name: "import",
        prepare: none,
        ask: import,
        check: image_there,
    },
    Change {
        name: "load",
        prepare: none,
        ask: |name| {
            let dir = tempdir().unwrap();
            ("POST", "/images/load".into(), archive(dir.path(), name))
        },
        check: |machine, name, done| {
            if there(machine, &format!("/images/{name}:latest/json"), done) {
                delete(machine, &format!("/images/{name}:latest"));
            }
        },
    },
    Change {
        name: "commit",
        prepare: sleeper,
        ask: |name| {
            ask(
                "POST",
                format!("/commit?container={name}&repo={name}&tag=1"),
            )
        },
        check: |machine, name, done| {
            image_there(machine, name, done);
            force(machine, name);
        },
    },
    Change {
        name: "tag",
        prepare: imported,
        ask: |name| ask("POST", format!("/images/{name}:1/tag?repo={name}&tag=2")),
        check: |machine, name, done| {
            there(machine, &format!("/images/{name}:2/json"), done);
            let id = get(machine, &format!("/images/{name}:1/json"))
                .is(200)
                .json();
            let id = id["Id"].as_str().unwrap();
            delete(machine, &format!("/images/{id}?force=1"));
        },
    },
    Change {
        name: "remove an image",
        prepare: imported,
        ask: |name| ask("DELETE", format!("/images/{name}:1")),
        check: |machine, name, done| {
            let (path, remove) = (
                format!("/images/{name}:1/json"),
                format!("/images/{name}:1"),
            );
            gone(machine, &path, &remove, done);
        },
    },
    Change {
        name: "make a volume",
        prepare: none,
        ask: |name| {
            let body = json!({"Name": name, "Labels": {"a": "b"}}).to_string();
            ("POST", "/volumes/create".into(), body.into())
        },
        check: |machine, name, done| {
            let path = format!("/volumes/{name}");
            if there(machine, &path, done) {
                let volume = get(machine, &path).is(200).json();
                assert_eq!(volume["Labels"]["a"], "b");
                delete(machine, &path);
            }
        },
    },
    Change {
        name: "remove a volume",
        prepare: |machine, name| {
            let body = json!({ "Name": name });
            crate::api::call(machine, "POST", "/volumes/create", &body).is(201);
        },
        ask: |name| ask("DELETE", format!("/volumes/{name}")),
        check: |machine, name, done| {
            let path = format!("/volumes/{name}");
            gone(machine, &path, &path, done);
        },
    },
    Change {
        name: "start in a network",
        prepare: |machine, name| create(machine, name, &bridged()),
        ask: |name| ask("POST", format!("/containers/{name}/start")),
        check: |machine, name, done| {
            let status = status(machine, name);
            assert!(status == "running" || !done, "{status}");
            if status == "running" {
                assert_eq!(address(machine, name, "bridge"), "172.17.0.2");
            }
            force(machine, name);
            first_address_is_free(machine, name);
        },
    },
    Change {
        name: "stop in a network",
        prepare: |machine, name| {
            create(machine, name, &bridged());
            post(machine, &format!("/containers/{name}/start")).is(204);
        },
        ask: |name| ask("POST", format!("/containers/{name}/stop?t=0")),
        check: |machine, name, _| {
            force(machine, name);
            first_address_is_free(machine, name);
        },
    },
    Change {
        name: "connect",
        prepare: |machine, name| {
            make_network(machine, name);
            create(machine, name, &bridged());
            post(machine, &format!("/containers/{name}/start")).is(204);
        },
        ask: |name| {
            let body = json!({ "Container": name }).to_string();
            ("POST", format!("/networks/{name}/connect"), body.into())
        },
        check: |machine, name, done| {
            let there = address(machine, name, name);
            assert!(!done || there == json!("172.18.0.2"), "{there}");
            force(machine, name);
            delete(machine, &format!("/networks/{name}"));
            first_address_is_free(machine, name);
        },
    },
    Change {
        name: "disconnect",
        prepare: |machine, name| {
            create(machine, name, &bridged());
            post(machine, &format!("/containers/{name}/start")).is(204);
        },
        ask: |name| {
            let body = json!({ "Container": name }).to_string();
            ("POST", "/networks/bridge/disconnect".into(), body.into())
        },
        check: |machine, name, done| {
            let there = address(machine, name, "bridge");
            assert!(!done || there.is_null(), "{there}");
            force(machine, name);
            first_address_is_free(machine, name);
        },
    },
    Change {
        name: "make a network",
        prepare: none,
        ask: |name| {
            let body = json!({"Name": name, "Labels": {"a": "b"}}).to_string();
            ("POST", "/networks/create".into(), body.into())
        },
        check: |machine, name, done| {
            let path = format!("/networks/{name}");
            if there(machine, &path, done) {
                let network = get(machine, &path).is(200).json();
                assert_eq!(network["Labels"]["a"], "b");
                delete(machine, &path);
            }
            // Nobody holds its subnet: the first of the pools is there for the next one.
            let body = json!({"Name": format!("{name}-next")});
            crate::api::call(machine, "POST", "/networks/create", &body).is(201);
            let next = get(machine, &format!("{path}-next")).is(200).json();
            assert_eq!(next["IPAM"]["Config"][0]["Subnet"], "172.18.0.0/16");
            delete(machine, &format!("{path}-next"));
        },
    },
    Change {
        name: "remove a network",
        prepare: make_network,
        ask: |name| ask("DELETE", format!("/networks/{name}")),
        check: |machine, name, done| {
            let path = format!("/networks/{name}");
            gone(machine, &path, &path, done);
        },
    },
];

/// Makes the change with a kill before step `at`; the steps there were.
fn kill_in(machine: &Machine, change: &Change, name: &str, at: usize) -> usize {
    (change.prepare)(machine, name);
    let (method, path, body) = (change.ask)(name);
    let agent = loop {
        match machine.agent_pid() {
            Some(pid) => break pid,
            None => std::thread::yield_now(),
        }
    };
    let watched = tracer::watch(agent, at);
    let answer = try_call(machine, method, &path, &body);
    let steps = watched.end();
    while machine.agent_pid().is_none_or(|now| now == agent) {
        std::thread::yield_now();
    }
    let done = answer
        .as_ref()
        .is_some_and(|answer| answer.status < 300 && !failed(answer));
    println!(
        "{} {name}: killed at {at} of {steps}, acknowledged: {done}",
        change.name
    );
    if let Some(answer) = answer.filter(|answer| answer.status >= 300) {
        panic!("{}: {}", change.name, answer.text());
    }
    (change.check)(machine, name, done);
    whole(machine);
    steps
}

/// Kills the engine; the next one's process, which is opening.
fn killed(machine: &Machine) -> i32 {
    machine.kill_agent();
    loop {
        if let Some(pid) = machine.agent_pid() {
            return pid;
        }
        std::thread::yield_now();
    }
}

/// Whether a stream of progress lines does not end as it should.
fn failed(answer: &Answer) -> bool {
    let text = answer.text();
    text.contains("errorDetail") || !(text.is_empty() || text.ends_with('\n'))
}

/// Whatever is listed is whole.
fn whole(machine: &Machine) {
    let all = get(machine, "/containers/json?all=1&size=1").is(200).json();
    for container in all.as_array().unwrap() {
        get(machine, &inspect(container["Id"].as_str().unwrap())).is(200);
    }
    get(machine, "/volumes").is(200);
    get(machine, "/system/df").is(200);
    let verified = get(machine, "/lighter/images/verify").is(200).text();
    assert!(verified.contains("Sound:"), "{verified}");
}

fn entries(dir: &Path) -> Vec<String> {
    let all = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = all
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn killed_at_every_step_of_every_change_nothing_is_lost_and_nothing_left() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let kept = [
        "data/images/layers",
        "data/images/tmp",
        "data/volumes",
        "data/unknown",
    ];
    let held = || kept.map(|what| entries(&dir.path().join(what)));
    let before = held();
    let round = Cell::new(0);
    let next = || {
        round.set(round.get() + 1);
        format!("o{}", round.get())
    };
    let wanted = count(3, 75);
    // What a kill meets between two steps is never twice the same: more than a thousand of them in a long run.
    for change in (0..count(1, 3)).flat_map(|_| CHANGES) {
        let steps = kill_in(&machine, change, &next(), usize::MAX);
        assert!(steps > 1, "{} has no steps", change.name);
        // Each as often as the others; the last is the one behind the answer.
        let stride = steps.div_ceil(wanted).max(1);
        for at in (1..=steps).rev().step_by(stride) {
            kill_in(&machine, change, &next(), at);
        }
    }
    // Also while the next one takes up what the last one left.
    for at in 1..=count(3, 40) {
        let change = &CHANGES[at % CHANGES.len()];
        let name = next();
        kill_in(&machine, change, &name, 1 + at % 9);
        let opening = killed(&machine);
        tracer::watch(opening, at).end();
        whole(&machine);
    }
    machine.nothing_left();
    // What no image has goes with the next collection.
    post(&machine, "/images/prune").is(200);
    assert_eq!(held(), before);
}
