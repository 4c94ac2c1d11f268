//! Containers with user namespaces, as the setting gives them: their files keep the ids of inside
//! wherever they are seen, and everything an engine does goes on as without.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{
    BUSYBOX, call, container, create, get, load_image, logs, payload, post, remove_by_force, run,
    state, try_call, wait,
};
use crate::machine::{Machine, hello};

const MAP: &str = "0 100000 65536";

/// A machine with this setting; the image `nothing` is there if `dir` is new.
fn machine(dir: &Path, userns_remap: bool) -> Machine {
    let new = !dir.join("data").exists();
    let machine = Machine::start(dir);
    let mut hello = hello();
    hello.boot.engine.userns_remap = userns_remap;
    machine.greeted_with(hello);
    if new {
        load_image(&machine, dir);
    }
    machine
}

/// A container that says what `script` does and stays.
fn staying(script: &str) -> Value {
    container(&format!("{script}; exec sleep 100000"))
}

fn words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).into_owned();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a program in a running container says.
fn exec(machine: &Machine, name: &str, script: &str, more: &Value) -> String {
    let mut body = json!({
        "AttachStdout": true, "AttachStderr": true, "Cmd": [BUSYBOX, "sh", "-c", script],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let made = call(machine, "POST", &format!("/containers/{name}/exec"), &body).is(201);
    let id = made.json()["Id"].as_str().unwrap().to_owned();
    let start = json!({"Detach": false, "Tty": false});
    let said = call(machine, "POST", &format!("/exec/{id}/start"), &start).is(200);
    words(&payload(&said.body))
}

/// Waits until a container has said so much.
fn said(machine: &Machine, name: &str, lines: usize) -> String {
    loop {
        let said = logs(machine, name);
        if said.iter().filter(|byte| **byte == b'\n').count() >= lines {
            return words(&said);
        }
        std::thread::yield_now();
    }
}

/// Owner and name of what is in an archive.
fn owners(archive: &[u8]) -> Vec<String> {
    let mut tar = Command::new("tar")
        .args(["-t", "-v", "-P", "--numeric-owner", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = tar.stdin.take().unwrap();
    let archive = archive.to_vec();
    let feeder = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &archive));
    let mut listed = String::new();
    tar.stdout
        .take()
        .unwrap()
        .read_to_string(&mut listed)
        .unwrap();
    let _ = feeder.join().unwrap();
    tar.wait().unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        format!("{} {}", words[1], words[words.len() - 1])
    };
    listed.lines().map(line).collect()
}

/// An archive of one empty file of these owners.
fn one(name: &str, owner: u32, group: u32) -> Vec<u8> {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join(name), "").unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(dir.path());
    tar.args([format!("--owner={owner}"), format!("--group={group}")]);
    tar.args(["-c", "-f", "-", name]).output().unwrap().stdout
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = std::fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

/// Where the only container's writable layer is.
fn upper(machine: &Machine, name: &str) -> std::path::PathBuf {
    let inspected = get(machine, &format!("/containers/{name}/json"))
        .is(200)
        .json();
    let id = inspected["Id"].as_str().unwrap().to_owned();
    machine.dir().join("data/overlay2").join(id).join("diff")
}

#[test]
fn files_keep_the_ids_of_inside_wherever_they_are_seen() {
    let dir = tempdir().unwrap();
    let machine = machine(dir.path(), true);
    let script = "cat /proc/self/uid_map; mkdir /d; touch /d/root /d/app /v/root /v/app; \
                  chown 1000:55 /d/app /v/app; stat -c %u:%g /v/app /etc/hosts /dev/shm; \
                  echo out >/dev/stdout; echo ready";
    let mut body = staying(script);
    body["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Source": "vol", "Target": "/v"}]);
    run(&machine, "cc", &body);
    let expected = format!("{MAP} 1000:55 0:0 0:0 out ready");
    assert_eq!(said(&machine, "cc", 6), expected);
    let pid = state(&machine, "cc")["Pid"].as_i64().unwrap();
    let status = std::fs::read_to_string(machine.proc().join(format!("{pid}/status"))).unwrap();
    assert!(status.contains("Uid:\t100000\t100000"), "{status}");

    // On the disk nothing is shifted.
    let (upper, volume) = (
        upper(&machine, "cc"),
        dir.path().join("data/volumes/vol/_data"),
    );
    for base in [upper.join("d"), volume] {
        assert_eq!(owner(&base), (0, 0));
        assert_eq!(owner(&base.join("root")), (0, 0));
        assert_eq!(owner(&base.join("app")), (1000, 55));
    }
    // Out.
    let copy = || get(&machine, "/containers/cc/archive?path=/d").is(200).body;
    let copied = ["0/0 d/", "1000/55 d/app", "0/0 d/root"];
    assert_eq!(owners(&copy()), copied);
    let exported = owners(&get(&machine, "/containers/cc/export").is(200).body);
    for line in copied {
        assert!(exported.contains(&line.to_owned()), "{exported:?}");
    }
    let strange = exported
        .iter()
        .find(|line| line.contains("100000") || line.contains("65534"));
    assert_eq!(strange, None);
    // In, and where nobody made the way.
    let put = |path: &str, archive: &[u8]| {
        try_call(
            &machine,
            "PUT",
            &format!("/containers/cc/archive?path={path}"),
            archive,
        )
        .unwrap()
    };
    put("/d", &one("new", 7, 8)).is(200);
    put("/v", &one("new", 7, 8)).is(200);
    let refused = put("/d", &one("far", 70_000, 0));
    assert_eq!(refused.status, 500);
    assert!(
        refused
            .text()
            .contains("container ID 70000 cannot be mapped to a host ID"),
        "{}",
        refused.text()
    );
    let stat = exec(&machine, "cc", "stat -c %u:%g /d/new /v/new", &json!({}));
    assert_eq!(stat, "7:8 7:8");
    assert_eq!(owner(&upper.join("d/new")), (7, 8));
    let changes = get(&machine, "/containers/cc/changes").is(200).text();
    assert_eq!(changes.matches("/d").count(), 4, "{changes}");
    // Without a process, the same.
    post(&machine, "/containers/cc/kill").is(204);
    wait(&machine, "cc");
    put("/d", &one("later", 0, 9)).is(200);
    let stopped = owners(&copy());
    assert_eq!(
        stopped,
        [&copied[..2], &["0/9 d/later", "7/8 d/new"], &copied[2..]].concat()
    );

    // Into an image, and out of that as a lower layer.
    post(&machine, "/commit?container=cc&repo=made").is(201);
    let mut second = staying(
        "stat -c %u:%g /d /d/app /d/new; chown 5 /d/app; echo x >>/d/root; rm /d/new; \
         stat -c %u:%g /d/app /d/root; ls /d",
    );
    second["Image"] = json!("made");
    run(&machine, "second", &second);
    assert_eq!(
        said(&machine, "second", 8),
        "0:0 1000:55 7:8 5:55 0:0 app later root"
    );
    let upper = self::upper(&machine, "second");
    assert_eq!(owner(&upper.join("d/app")), (5, 55));
    assert_eq!(
        owner(&upper.join("d/new")),
        (0, 0),
        "a mark that it is gone"
    );
    post(&machine, "/containers/second/stop?t=0").is(204);
    // A volume is filled from the image with what is in there.
    let mut third = container("stat -c %u:%g /d /d/app");
    third["Image"] = json!("made");
    third["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Source": "wol", "Target": "/d"}]);
    run(&machine, "third", &third);
    wait(&machine, "third");
    assert_eq!(words(&logs(&machine, "third")), "0:0 1000:55");
    assert_eq!(
        owner(&dir.path().join("data/volumes/wol/_data/app")),
        (1000, 55)
    );
    for name in ["cc", "second", "third"] {
        remove_by_force(&machine, name);
    }
    machine.nothing_left();
}

#[test]
fn a_container_keeps_its_files_when_the_setting_changes() {
    let dir = tempdir().unwrap();
    let script = "cat /proc/self/uid_map; stat -c %u:%g /* | sort -u | head -n 1; touch /from$(ls / | wc -l)";
    let mut uid_maps = Vec::new();
    for (round, userns_remap) in [false, true, false, true].into_iter().enumerate() {
        let machine = machine(dir.path(), userns_remap);
        if round == 0 {
            create(&machine, "cc", &container(script));
            let mut privileged = container("true");
            privileged["HostConfig"]["Privileged"] = json!(true);
            create(&machine, "pp", &privileged);
        }
        post(&machine, "/containers/cc/start").is(204);
        assert_eq!(wait(&machine, "cc"), 0);
        let all = words(&logs(&machine, "cc"));
        uid_maps.push(all.matches(MAP).count());
        // What cannot have one says so when it is started, and runs when the setting is back.
        let started = post(&machine, "/containers/pp/start");
        assert_eq!(
            started.status,
            if userns_remap { 400 } else { 204 },
            "{}",
            started.text()
        );
        if userns_remap {
            assert!(started.text().contains("incompatible with user namespaces"));
        } else {
            wait(&machine, "pp");
        }
        for entry in std::fs::read_dir(upper(&machine, "cc")).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(owner(&path), (0, 0), "{}", path.display());
        }
    }
    assert_eq!(uid_maps, [0, 1, 1, 2]);
    let machine = machine(dir.path(), false);
    let listed = owners(&get(&machine, "/containers/cc/export").is(200).body);
    let made = listed
        .iter()
        .filter(|line| line.starts_with("0/0 from"))
        .count();
    assert_eq!(made, 4, "{listed:?}");
}

#[test]
fn a_killed_engine_leaves_a_container_its_users() {
    let dir = tempdir().unwrap();
    let machine = machine(dir.path(), true);
    let mut body = staying("echo ready; touch /made");
    body["HostConfig"]["RestartPolicy"] = json!({"Name": "always"});
    run(&machine, "cc", &body);
    said(&machine, "cc", 1);
    for _ in 0..2 {
        machine.kill_agent();
        let map = exec(
            &machine,
            "cc",
            "cat /proc/self/uid_map; id -u; echo x >/dev/stdout",
            &json!({}),
        );
        assert_eq!(map, format!("{MAP} 0 x"));
        let user = exec(&machine, "cc", "id -u; id -g", &json!({"User": "7:8"}));
        assert_eq!(user, "7 8");
        let all = exec(
            &machine,
            "cc",
            "grep CapEff /proc/self/status",
            &json!({"Privileged": true}),
        );
        assert!(all.contains("CapEff: 000001ff"), "{all}");
        let copied = owners(
            &get(&machine, "/containers/cc/archive?path=/made")
                .is(200)
                .body,
        );
        assert_eq!(copied, ["0/0 made"]);
    }
    let far = json!({"AttachStdout": true, "User": "70000", "Cmd": [BUSYBOX, "true"]});
    let made = call(&machine, "POST", "/containers/cc/exec", &far)
        .is(201)
        .json();
    let id = made["Id"].as_str().unwrap().to_owned();
    let refused = call(
        &machine,
        "POST",
        &format!("/exec/{id}/start"),
        &json!({"Detach": true}),
    );
    assert!(
        refused
            .text()
            .contains("cannot set uid to unmapped user in user namespace"),
        "{refused:?}"
    );
    // A new run gets a new namespace.
    let namespace = |machine: &Machine| {
        let pid = state(machine, "cc")["Pid"].as_i64().unwrap();
        std::fs::read_link(machine.proc().join(format!("{pid}/ns/user"))).unwrap()
    };
    let before = namespace(&machine);
    post(&machine, "/containers/cc/restart?t=0").is(204);
    assert_ne!(namespace(&machine), before);
    assert_eq!(exec(&machine, "cc", "stat -c %u /made", &json!({})), "0");
    call(&machine, "DELETE", "/containers/cc?force=1", &Value::Null).is(204);
    machine.nothing_left();
}

#[test]
fn namespaces_are_shared_with_their_users() {
    let dir = tempdir().unwrap();
    let machine = machine(dir.path(), true);
    let mut donor = staying("echo shared >/dev/shm/file; echo ready");
    donor["HostConfig"]["IpcMode"] = json!("shareable");
    run(&machine, "mapped", &donor);
    donor["HostConfig"]["UsernsMode"] = json!("host");
    run(&machine, "plain", &donor);
    said(&machine, "mapped", 1);
    said(&machine, "plain", 1);
    let inspected = get(&machine, "/containers/plain/json").is(200).json();
    assert_eq!(inspected["HostConfig"]["UsernsMode"], "host");
    let script = "cat /proc/self/uid_map; cat /dev/shm/file; stat -c %u:%g / /dev/shm; id -u";
    let whole = "0 0 4294967295";
    let cases = [
        ("mapped", "", MAP),
        ("plain", "host", whole),
        ("mapped", "host", whole),
    ];
    for (at, (donor, mode, map)) in cases.into_iter().enumerate() {
        let mut body = container(script);
        for key in ["IpcMode", "PidMode", "NetworkMode"] {
            body["HostConfig"][key] = json!(format!("container:{donor}"));
        }
        body["HostConfig"]["UsernsMode"] = json!(mode);
        let name = format!("cc{at}");
        run(&machine, &name, &body);
        assert_eq!(wait(&machine, &name), 0);
        let said = words(&logs(&machine, &name));
        assert!(said.starts_with(map), "{donor} {mode}: {said}");
        assert!(said.contains("shared 0:0 "), "{donor} {mode}: {said}");
        assert!(said.ends_with(" 0"), "{donor} {mode}: {said}");
    }
    let mut stranger = container("true");
    stranger["HostConfig"]["NetworkMode"] = json!("container:plain");
    create(&machine, "stranger", &stranger);
    let refused = post(&machine, "/containers/stranger/start");
    assert_eq!(refused.status, 400);
    assert!(
        refused
            .text()
            .contains("which has the host's user namespace"),
        "{}",
        refused.text()
    );
    // The machine's own tree of groups, name and queues.
    for (key, code) in [("CgroupnsMode", 204), ("UTSMode", 204), ("IpcMode", 500)] {
        let mut body = container("grep -q ' /sys/fs/cgroup cgroup2 ro' /proc/mounts");
        body["HostConfig"][key] = json!("host");
        let name = key.to_lowercase();
        create(&machine, &name, &body);
        let started = post(&machine, &format!("/containers/{name}/start"));
        assert_eq!(started.status, code, "{key}: {}", started.text());
        if code == 204 {
            assert_eq!(wait(&machine, &name), 0, "{key}");
        }
    }
    for body in ["Privileged", "NetworkMode", "PidMode"] {
        let mut wanted = container("true");
        wanted["HostConfig"][body] = if body == "Privileged" {
            json!(true)
        } else {
            json!("host")
        };
        let refused = call(&machine, "POST", "/containers/create", &wanted);
        assert_eq!(refused.status, 400, "{body}: {}", refused.text());
        wanted["HostConfig"]["UsernsMode"] = json!("host");
        call(&machine, "POST", "/containers/create", &wanted).is(201);
    }
    let info = get(&machine, "/info").is(200).json();
    assert!(info["SecurityOptions"].to_string().contains("name=userns"));
}
