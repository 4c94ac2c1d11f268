//! Incidents of other engines that only a whole engine can show not to be ours.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{
    BUSYBOX, archive, call, container, create, get, load, logs, post, remove_by_force, run,
    started, state, wait,
};
use crate::machine::Machine;

/// What an image may say of itself in the words of other programs, and in ours.
const WORDS: [&str; 12] = [
    "io.containerd.runtime.v2.log.uri",
    "containerd.io/restart.loguri",
    "containerd.io/restart.status",
    "containerd.io/gc.root",
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
    "com.docker.compose.project",
    "com.docker.network.endpoint.sysctls",
    "cdi.k8s.io/gpu",
    "io.kubernetes.cri.untrusted-workload",
    "lighter.privileged",
    "lighter.binds",
];

/// An image like that of [`archive`] which says all this of itself: in labels, variables, its history and
/// in fields of the documents that have no meaning.
fn talkative(dir: &Path, name: &str) -> Vec<u8> {
    let word = "binary:///bin/sh?-c=touch+/owned";
    let all: serde_json::Map<String, Value> = WORDS
        .iter()
        .map(|key| ((*key).to_owned(), json!(word)))
        .collect();
    let env: Vec<String> = WORDS
        .iter()
        .map(|key| {
            format!(
                "{}={word}",
                key.replace(['.', '/', '-'], "_").to_uppercase()
            )
        })
        .collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "privileged": true, "annotations": all,
        "config": {"Labels": all, "Env": env, "Privileged": true, "Binds": ["/:/host"],
                   "SecurityOpt": ["seccomp=unconfined"], "CapAdd": ["ALL"], "Devices": ["/dev/kmsg"]},
        "host_config": {"Privileged": true}, "HostConfig": {"Privileged": true, "Binds": ["/:/host"]},
        "history": [{"created_by": word, "comment": word, "empty_layer": true}],
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let manifest = json!([{
        "Config": "config.json", "RepoTags": [format!("{name}:latest")], "Layers": [],
        "annotations": all, "HostConfig": {"Privileged": true},
    }]);
    let parts = dir.join(name);
    std::fs::create_dir_all(&parts).unwrap();
    std::fs::write(parts.join("config.json"), config.to_string()).unwrap();
    std::fs::write(parts.join("manifest.json"), manifest.to_string()).unwrap();
    let tar = Command::new("tar")
        .arg("-C")
        .arg(&parts)
        .args(["-c", "config.json", "manifest.json"])
        .output();
    tar.unwrap().stdout
}

/// What inspect says of how a container is run; what differs between any two is taken out.
fn how_it_runs(machine: &Machine, name: &str) -> Value {
    let mut shown = get(machine, &format!("/containers/{name}/json"))
        .is(200)
        .json();
    let id = shown["Id"].as_str().unwrap().to_owned();
    for field in [
        "Id",
        "Created",
        "Name",
        "Image",
        "State",
        "ImageManifestDescriptor",
    ] {
        shown[field] = Value::Null;
    }
    for field in ["Labels", "Env", "Image"] {
        shown["Config"][field] = Value::Null;
    }
    let text = shown
        .to_string()
        .replace(&id, "ID")
        .replace(&id[..12], "ID");
    serde_json::from_str(&text).unwrap()
}

/// Labels, variables, annotations and unknown fields of an image are text: no logger is started by them
/// (CVE-2026-53488), no image gets a name and no container a device or a right by them (CVE-2026-53492).
#[test]
fn cve_2026_53488_and_53492_what_an_image_says_of_itself_decides_nothing() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    load(&machine, &archive(dir.path(), "plain")).loaded();
    load(&machine, &talkative(dir.path(), "talkative")).loaded();
    let script = "cat /proc/self/status | grep -e Cap -e Seccomp -e NoNew; ls /dev; grep -v ' / ' /proc/mounts | cut -d' ' -f 2-4";
    let mut seen = Vec::new();
    for name in ["plain", "talkative"] {
        let mut body = container(script);
        body["Image"] = json!(name);
        create(&machine, name, &body);
        let before = how_it_runs(&machine, name);
        post(&machine, &format!("/containers/{name}/start")).is(204);
        assert_eq!(wait(&machine, name), 0);
        let said = String::from_utf8(logs(&machine, name)).unwrap();
        seen.push((before, said));
    }
    assert_eq!(seen[0].0, seen[1].0);
    assert!(seen[0].1.contains("Seccomp:\t2"), "{}", seen[0].1);
    assert_eq!(seen[0].1, seen[1].1);
    assert!(!Path::new("/owned").exists());
    let images = get(&machine, "/images/json").is(200).json();
    let mut names: Vec<String> = images
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|image| image["RepoTags"].as_array().unwrap())
        .map(|tag| tag.as_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["nothing:latest", "plain:latest", "talkative:latest"]
    );
    let shown = get(&machine, "/images/talkative/json").is(200).json();
    let labels = shown["Config"]["Labels"].as_object().unwrap();
    assert_eq!(labels.len(), WORDS.len(), "they are kept as they are");
}

/// CVE-2026-24054: an image without layers has an empty root, made of nothing of the machine's; no disk,
/// no folder is guessed for it.
#[test]
fn cve_2026_24054_an_image_without_layers_has_an_empty_root() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let script = "ls -A /; ls -A /dev | grep -e vd -e sd -e loop -e pmem -e disk; \
                  grep -e ' / ' /proc/mounts | cut -d' ' -f 1,3";
    run(&machine, "empty", &container(script));
    assert_eq!(wait(&machine, "empty"), 0);
    let said = String::from_utf8(logs(&machine, "empty")).unwrap();
    assert_eq!(said, ".dockerenv\nbin\ndev\netc\nproc\nsys\nnone overlay\n");
    // And one that wants a program of the image has none.
    let body =
        json!({"Image": "nothing", "Cmd": ["/bin/sh"], "HostConfig": {"NetworkMode": "none"}});
    create(&machine, "none", &body);
    let refused = post(&machine, "/containers/none/start");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(
        refused.text().contains("no such file or directory"),
        "{}",
        refused.text()
    );
    assert_eq!(state(&machine, "none")["ExitCode"], 127);
}

/// One request as it stands, and the status and body of its answer.
fn send(machine: &Machine, request: &[u8]) -> (String, String) {
    let mut stream = machine.connect("api.sock");
    stream
        .set_read_timeout(Some(crate::machine::LIMIT))
        .unwrap();
    // An engine that refuses does not wait for the rest.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (
        head.lines().next().unwrap_or("").to_owned(),
        body.to_owned(),
    )
}

/// CVE-2024-41110 and CVE-2026-34040, its second coming: who decided about a request had read another body
/// than who did it. Here there is one reading: what is not read whole, once, to its end, is refused.
#[test]
fn cve_2024_41110_and_2026_34040_a_body_is_read_whole_once_or_refused() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let body = container("true").to_string();
    let head = |name: &str, more: &str| {
        format!(
            "POST /v1.51/containers/create?name={name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\n{more}\r\n"
        )
    };
    let length = |body: &str| format!("Content-Length: {}\r\n", body.len());
    let whole = |name: &str, body: &str| [head(name, &length(body)), body.to_owned()].concat();
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (name, request) in [
        ("plain", whole("plain", &body)),
        (
            "chunked",
            head("chunked", "Transfer-Encoding: chunked\r\n") + &chunked,
        ),
    ] {
        let (status, told) = send(&machine, request.as_bytes());
        assert!(status.contains(" 201 "), "{name}: {status} {told}");
    }
    // Nothing is wrong with it but its size.
    let large = body.replacen('{', &format!("{{\"X\":\"{}\",", "x".repeat(9 << 20)), 1);
    let refused = [
        ("empty", head("empty", "Content-Length: 0\r\n") + &body),
        (
            "short",
            head("short", &format!("Content-Length: {}\r\n", body.len() - 1)) + &body,
        ),
        (
            "cut",
            head("cut", &format!("Content-Length: {}\r\n", body.len() + 9)) + &body,
        ),
        ("large", whole("large", &large)),
        ("large-chunked", {
            let chunk = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
            head("large-chunked", "Transfer-Encoding: chunked\r\n") + &chunk
        }),
        (
            "both",
            head(
                "both",
                &format!("{}Transfer-Encoding: chunked\r\n", length(&body)),
            ) + &body,
        ),
        (
            "twice",
            head("twice", &format!("{}Content-Length: 0\r\n", length(&body))) + &body,
        ),
        (
            "trailing",
            whole(
                "trailing",
                &format!("{body}{{\"HostConfig\":{{\"Privileged\":true}}}}"),
            ),
        ),
        ("comma", whole("comma", &format!("{body},"))),
        (
            "typed",
            whole("typed", &body).replace("application/json", "text/plain"),
        ),
        (
            "bare",
            whole("bare", &body).replace("Content-Type: application/json\r\n", ""),
        ),
    ];
    for (name, request) in refused {
        let (status, told) = send(&machine, request.as_bytes());
        let no = status.is_empty() || status.contains(" 400 ");
        assert!(no, "{name}: {status} {told}");
    }
    // A key that is there twice means the same to whoever asks later as to who made the container.
    let tail = "\"HostConfig\":{\"NetworkMode\":\"none\",\"Privileged\":true},";
    let twice = body.replacen('{', &format!("{{{tail}"), 1);
    let (status, told) = send(&machine, whole("doubled", &twice).as_bytes());
    assert!(status.contains(" 201 "), "{status} {told}");
    let shown = get(&machine, "/containers/doubled/json").is(200).json();
    assert_eq!(
        shown["HostConfig"]["Privileged"], false,
        "the last one counts"
    );
    let all = get(&machine, "/containers/json?all=1").is(200).json();
    let mut names: Vec<String> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["Names"][0].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["/chunked", "/doubled", "/plain"]);
}

/// CVE-2022-23471 (a failed exec with a terminal left something behind each time) and CVE-2025-64329 (an
/// attach did): a hundred thousand rounds in a long run, and the engine is what it was before them.
#[test]
fn cve_2022_23471_and_2025_64329_failed_execs_and_attaches_leave_nothing() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    for name in ["quiet", "screen"] {
        let mut body = container("exec sleep 100000");
        body["Tty"] = json!(name == "screen");
        body["OpenStdin"] = json!(true);
        run(&machine, name, &body);
    }
    let churn = |rounds: usize| {
        for round in 0..rounds {
            let name = if round % 2 == 0 { "quiet" } else { "screen" };
            let words = if round % 4 < 2 {
                "/no/such/program"
            } else {
                "/proc/self/mem"
            };
            let body = json!({
                "Cmd": [words], "Tty": true, "AttachStdin": true, "AttachStdout": true,
                "ConsoleSize": [40, 100],
            });
            let made = call(&machine, "POST", &format!("/containers/{name}/exec"), &body).is(201);
            let id = made.json()["Id"].as_str().unwrap().to_owned();
            let start = json!({"Detach": false, "Tty": true, "ConsoleSize": [24, 80]});
            let failed = call(&machine, "POST", &format!("/exec/{id}/start"), &start);
            assert!(
                failed.status >= 400 || failed.text().contains("exec"),
                "{}",
                failed.text()
            );
            // It has no terminal to be resized.
            let resized = post(&machine, &format!("/exec/{id}/resize?h=10&w=10"));
            assert!(resized.status >= 400, "{}", resized.text());
            drop(crate::api::attach(
                &machine,
                name,
                "stream=1&stdin=1&stdout=1&stderr=1",
            ));
            drop(crate::api::attach(
                &machine,
                name,
                "stream=1&stdout=1&logs=1",
            ));
        }
    };
    // What is made once and stays is made by the first.
    churn(20);
    settle(&machine, "before", |_| true);
    let before = Engine::of(&machine);
    churn(crate::containers::count(200, 100_000));
    settle(&machine, "after", |now| {
        now.descriptors <= before.descriptors && now.threads <= before.threads
    });
    let after = Engine::of(&machine);
    let more = after.memory.saturating_sub(before.memory);
    assert!(more < MORE, "{before:?} became {after:?}");
    for name in ["quiet", "screen"] {
        assert_eq!(state(&machine, name)["Running"], json!(true));
        let shown = get(&machine, &format!("/containers/{name}/json")).json();
        assert_eq!(shown["ExecIDs"], Value::Null, "{name}");
        remove_by_force(&machine, name);
    }
    machine.nothing_left();
    assert!(Path::new(BUSYBOX).exists());
}

/// How much more memory the engine may have after all that: what its allocator keeps for the next time.
const MORE: usize = 8 << 20;

/// What the engine's process holds.
#[derive(Debug)]
struct Engine {
    descriptors: usize,
    threads: usize,
    memory: usize,
}

impl Engine {
    fn of(machine: &Machine) -> Self {
        Self {
            descriptors: machine.agent_descriptors(),
            threads: machine.agent_threads(),
            memory: machine.agent_memory(),
        }
    }
}

/// Waits until the engine is at rest: threads that had something to do for a moment end by themselves.
fn settle(machine: &Machine, when: &str, done: impl Fn(&Engine) -> bool) {
    let limit = std::time::Instant::now() + crate::machine::LIMIT;
    let (mut last, mut same) = (Engine::of(machine), 0);
    while same < 20 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let now = Engine::of(machine);
        let rests = now.descriptors == last.descriptors && now.threads == last.threads;
        same = if rests && done(&now) { same + 1 } else { 0 };
        last = now;
        assert!(std::time::Instant::now() < limit, "{when}: {last:?}");
    }
}
