//! Volumes in memory: one mount for all who use it, from the first to the last, over the death of the engine.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{
    BUSYBOX, call, container, create, get, logs, post, remove_by_force, run, started, wait,
};
use crate::machine::Machine;

const SLEEP: &str = "exec /bin/busybox sleep 100000";

fn volume(machine: &Machine, name: &str, options: &Value) {
    let body = json!({"Name": name, "DriverOpts": options});
    call(machine, "POST", "/volumes/create", &body).is(201);
}

fn with_volume(script: &str, name: &str) -> Value {
    let mut body = container(script);
    let binds = body["HostConfig"]["Binds"].as_array_mut().unwrap();
    binds.push(json!(format!("{name}:/v")));
    body
}

/// The mounts of volumes that the machine has, by their lines.
fn mounted(machine: &Machine) -> Vec<String> {
    let mounts = std::fs::read_to_string(machine.proc().join("1/mounts")).unwrap();
    let of_volumes = mounts.lines().filter(|line| line.contains("/_data "));
    of_volumes.map(str::to_owned).collect()
}

/// What a script in a container of its own says, which has the volume as well.
fn said(machine: &Machine, volume: &str, script: &str) -> String {
    run(machine, "look", &with_volume(script, volume));
    assert_eq!(wait(machine, "look"), 0);
    let said = String::from_utf8(logs(machine, "look")).unwrap();
    remove_by_force(machine, "look");
    said
}

fn waits_for(machine: &Machine, name: &str, words: &str) {
    while logs(machine, name) != words.as_bytes() {
        std::thread::yield_now();
    }
}

#[test]
fn a_volume_in_memory_lives_from_its_first_user_to_its_last() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let options = json!({
        "type": "tmpfs", "device": "scratch", "o": "size=1m,uid=5,mode=1770,noexec",
    });
    volume(&machine, "memory", &options);
    assert_eq!(mounted(&machine), [""; 0], "nobody uses it yet");
    let busy = |script: &str| script.replace("@", BUSYBOX);
    let first = busy("@ echo first > /v/file; @ echo there; exec @ sleep 100000");
    run(&machine, "first", &with_volume(&first, "memory"));
    waits_for(&machine, "first", "there\n");
    let look = busy("@ cat /v/file; @ stat -c '%a %u' /v; @ grep ' /v ' /proc/mounts");
    let shown = said(&machine, "memory", &look);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..2], ["first", "1770 5"]);
    assert!(
        lines[2].starts_with("scratch /v tmpfs rw,noexec,relatime,size=1024k"),
        "{shown}"
    );

    // The next engine neither mounts it again nor lets go of it.
    for _ in 0..3 {
        machine.kill_agent();
        get(&machine, "/_ping").is(200);
        assert_eq!(mounted(&machine).len(), 1);
        assert_eq!(said(&machine, "memory", &busy("@ cat /v/file")), "first\n");
        assert_eq!(mounted(&machine).len(), 1);
    }
    // Another takes it over: it is there as long as anybody has it.
    run(&machine, "second", &with_volume(SLEEP, "memory"));
    remove_by_force(&machine, "first");
    assert_eq!(said(&machine, "memory", &busy("@ cat /v/file")), "first\n");
    machine.kill_agent();
    post(&machine, "/containers/second/kill").is(204);
    assert_eq!(wait(&machine, "second"), 137);
    assert_eq!(mounted(&machine), [""; 0]);
    assert_eq!(said(&machine, "memory", &busy("@ ls /v")), "");

    // One that ends while there is no engine, and one that the next engine finds at its end.
    run(
        &machine,
        "third",
        &with_volume("exec @ usleep 1".replace("@", BUSYBOX).as_str(), "memory"),
    );
    machine.kill_agent();
    wait(&machine, "third");
    for name in ["second", "third"] {
        remove_by_force(&machine, name);
    }
    assert_eq!(mounted(&machine), [""; 0]);
    call(&machine, "DELETE", "/volumes/memory", &Value::Null).is(204);
    assert!(!dir.path().join("data/volumes/memory").exists());
    machine.nothing_left();
}

#[test]
fn what_the_kernel_refuses_of_a_volume_in_memory_is_said_and_leaves_nothing() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let options = json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,bogus=1"});
    volume(&machine, "wrong", &options);
    let mut body = with_volume("true", "wrong");
    body["HostConfig"]["Binds"][1] = json!("wrong:/v:nocopy");
    create(&machine, "user", &body);
    for _ in 0..2 {
        let refused = post(&machine, "/containers/user/start").is(500);
        let place = dir.path().join("data/volumes/wrong/_data");
        let words = format!(
            "error while mounting volume '{0}': failed to mount local volume: mount tmpfs:{0}, data: \
             size=1m,bogus=1: invalid argument",
            place.display()
        );
        assert_eq!(refused.json()["message"], words);
    }
    assert_eq!(mounted(&machine), [""; 0]);
    // Nor does a failed start of one that is mounted.
    volume(
        &machine,
        "right",
        &json!({"type": "tmpfs", "device": "tmpfs"}),
    );
    let mut body = with_volume("true", "right");
    body["Cmd"] = json!(["/missing"]);
    create(&machine, "broken", &body);
    let refused = post(&machine, "/containers/broken/start");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(mounted(&machine), [""; 0]);
    for name in ["user", "broken"] {
        remove_by_force(&machine, name);
    }
    for name in ["wrong", "right"] {
        call(
            &machine,
            "DELETE",
            &format!("/volumes/{name}"),
            &Value::Null,
        )
        .is(204);
    }
    machine.nothing_left();
}

#[test]
fn files_are_copied_into_a_volume_in_memory_while_it_is_there() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    volume(
        &machine,
        "memory",
        &json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}),
    );
    create(&machine, "user", &with_volume(SLEEP, "memory"));
    let put = |name: &str, archive: &[u8]| {
        let path = format!("/containers/{name}/archive?path=/v");
        crate::api::try_call(&machine, "PUT", &path, archive).unwrap()
    };
    // For a container that does not run it is there for a moment, of which is told.
    put("user", &crate::files::one("file", "x")).is(200);
    assert_eq!(mounted(&machine), [""; 0]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let filter = "filters={%22type%22:[%22volume%22]}";
    let told = get(&machine, &format!("/events?since=1&until={until}&{filter}"));
    let told = told.is(200).text();
    let events = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let actions: Vec<String> = events
        .map(|event| event["Action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(actions, ["create", "mount", "unmount"]);
    assert_eq!(
        get(&machine, "/containers/user/archive?path=/v/file").status,
        404
    );
    post(&machine, "/containers/user/start").is(204);
    put("user", &crate::files::one("file", "x")).is(200);
    get(&machine, "/containers/user/archive?path=/v/file").is(200);
    let large = "x".repeat(2 << 20);
    let full = put("user", &crate::files::one("large", &large)).is(500);
    let words = "write /v/large: no space left on device";
    assert_eq!(full.json()["message"], words);
    remove_by_force(&machine, "user");
    assert_eq!(mounted(&machine), [""; 0]);
    machine.nothing_left();
}
