//! `docker stats`: what it prints, and every field of what the API says, with its type and within its bounds.

use std::collections::BTreeMap;
use std::path::Path;

use lighter_tests::http::{Connection, ask};
use serde_json::Value;

use super::{beside, same};

#[test]
fn columns_of_stats() {
    same(
        "columns_of_stats",
        r"
        D --name st -m 64m --pids-limit 9 busybox sleep 1000
        D --name wide busybox sh -c 'sleep 1000 & sleep 1000 & wait'
        exec wide sh -c 'until [ $(cat /sys/fs/cgroup/pids.current) -ge 5 ]; do :; done'
        C --name idle busybox true
        stats --no-stream --format '{{.Name}} {{index (split .MemUsage `/`) 1}} {{.PIDs}} {{.NetIO}} {{.Container}}' st
        stats --no-stream --format '{{.Name}} {{.PIDs}} {{.NetIO}}' wide idle
        stats --no-stream --format '{{.MemUsage}} {{.MemPerc}} {{.CPUPerc}} {{.BlockIO}} {{.ID}}' idle
        stats --no-stream --no-trunc --format '{{.ID}}' st
        pause st
        stats --no-stream --format '{{.Name}} {{index (split .MemUsage `/`) 1}} {{.PIDs}} {{.CPUPerc}}' st
        unpause st
        stats --no-stream --format '{{.PIDs}} {{.Name}}' nobody st
        stop -t 0 st
        stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}' st
        rm -f st wide idle
        stats --no-stream --format '{{.PIDs}}' st
        ",
    );
}

/// Fields whose values are the same on both; of the others it is the type.
const EXACT: [&str; 7] = [
    ".name",
    ".pids_stats.current",
    ".pids_stats.limit",
    ".memory_stats.limit",
    ".cpu_stats.online_cpus",
    ".num_procs",
    ".memory_stats.stats.anon_thp",
];

/// Every field by its path: its type, or its value where that is to be the same.
fn fields(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let kind = match value {
        Value::Object(fields_of) => {
            for (name, value) in fields_of {
                fields(&format!("{path}.{name}"), value, found);
            }
            format!("an object of {}", fields_of.len())
        }
        // Whether a device was used is of the moment.
        Value::Array(_) | Value::Null if path.ends_with(".io_service_bytes_recursive") => {
            for entry in value.as_array().into_iter().flatten() {
                let names = ["major", "minor", "op", "value"];
                assert!(names.iter().all(|name| !entry[name].is_null()), "{entry}");
            }
            "a list or nothing".to_owned()
        }
        Value::String(text) if path.ends_with("read") && text.starts_with("20") => {
            "a time".to_owned()
        }
        Value::Number(_) if !EXACT.iter().any(|exact| path.ends_with(exact)) => {
            "a number".to_owned()
        }
        other => other.to_string(),
    };
    if !path.ends_with(".id") {
        found.insert(path.to_owned(), kind);
    }
}

/// What may be said of any reading of a container that runs one small process.
fn bounded(reading: &Value) {
    let number = |path: &str| reading.pointer(path).and_then(Value::as_u64);
    let within = |path: &str, low: u64, high: u64| {
        let value = number(path).unwrap_or_else(|| panic!("no {path} in {reading}"));
        assert!(
            (low..=high).contains(&value),
            "{path} is {value}: {reading}"
        );
    };
    within("/memory_stats/usage", 4096, 64 << 20);
    within("/memory_stats/stats/anon", 4096, 64 << 20);
    within("/cpu_stats/cpu_usage/total_usage", 1, 60_000_000_000);
    within("/cpu_stats/system_cpu_usage", 1_000_000, u64::MAX);
    within("/cpu_stats/online_cpus", 1, 64);
    let parts = ["usermode", "kernelmode"]
        .map(|part| number(&format!("/cpu_stats/cpu_usage/usage_in_{part}")).unwrap_or(0));
    let all = number("/cpu_stats/cpu_usage/total_usage").unwrap_or(0);
    assert!(parts[0] + parts[1] <= all + 20_000, "{reading}");
}

/// The first two readings of a stream.
fn two(socket: &Path, name: &str) -> [Value; 2] {
    let mut connection = Connection::open(socket);
    connection.request("GET", &format!("/v1.51/containers/{name}/stats"), &[], None);
    let head = connection.head();
    assert!(head.chunked(), "{head:?}");
    [0, 1].map(|_| {
        let chunk = connection.chunk().expect("a reading");
        serde_json::from_slice(&chunk).expect("JSON")
    })
}

fn one(socket: &Path, path: &str) -> Value {
    let (head, body) = ask(socket, "GET", path, None);
    serde_json::from_slice(&body)
        .unwrap_or_else(|_| panic!("{path}: {head:?} {}", String::from_utf8_lossy(&body)))
}

#[test]
fn readings_have_the_same_fields() {
    let Some(beside) = beside("readings_have_the_same_fields") else {
        return;
    };
    let dockerd = beside.dockerd();
    let sockets = [beside.ours.socket(), dockerd.socket_path()];
    let run = |words: &[&str]| {
        beside.ours.docker(words).ok();
        dockerd.docker(words).ok();
    };
    let limits = [
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "9",
        "busybox",
        "sleep",
        "1000",
    ];
    let begin = ["run", "-d", "--network", "none", "--name"];
    run(&[&begin[..], &["read-limited"], &limits].concat());
    run(&[&begin[..], &["read-free", "busybox", "sleep", "1000"]].concat());
    run(&[
        "create",
        "--network",
        "none",
        "--name",
        "read-idle",
        "busybox",
        "true",
    ]);
    run(&[
        "run",
        "--network",
        "none",
        "--name",
        "read-ended",
        "busybox",
        "true",
    ]);
    run(&[
        "run",
        "-d",
        "--network",
        "host",
        "--name",
        "read-host",
        "busybox",
        "sleep",
        "1000",
    ]);
    let mut differences = Vec::new();
    let mut compare = |what: &str, [ours, theirs]: [&Value; 2]| {
        let [mut a, mut b] = [BTreeMap::new(), BTreeMap::new()];
        fields("", ours, &mut a);
        fields("", theirs, &mut b);
        for path in a
            .keys()
            .chain(b.keys().filter(|path| !a.contains_key(*path)))
        {
            if a.get(path) != b.get(path) {
                let [a, b] = [a.get(path), b.get(path)];
                differences.push(format!(
                    "{what}: {path}\n  ours:    {a:?}\n  dockerd: {b:?}"
                ));
            }
        }
    };
    for name in ["limited", "free", "idle", "ended", "host", "nobody"] {
        for query in ["stream=0&one-shot=1", "stream=0", "stream=1&one-shot=1"] {
            let path = format!("/v1.51/containers/read-{name}/stats?{query}");
            let [ours, theirs] = sockets.each_ref().map(|socket| one(socket, &path));
            compare(&path, [&ours, &theirs]);
            if name == "limited" && ours["message"].is_null() {
                bounded(&ours);
                bounded(&theirs);
            }
        }
    }
    for name in ["limited", "idle"] {
        let [ours, theirs] = sockets
            .each_ref()
            .map(|socket| two(socket, &format!("read-{name}")));
        for at in [0, 1] {
            compare(&format!("{name}, reading {at}"), [&ours[at], &theirs[at]]);
        }
        assert_eq!(ours[1]["preread"], ours[0]["read"]);
        assert_eq!(ours[1]["precpu_stats"], ours[0]["cpu_stats"]);
    }
    run(&["pause", "read-limited"]);
    let path = "/v1.51/containers/read-limited/stats?stream=0&one-shot=1";
    let [ours, theirs] = sockets.each_ref().map(|socket| one(socket, path));
    compare("paused", [&ours, &theirs]);
    let all = [
        "read-limited",
        "read-free",
        "read-idle",
        "read-ended",
        "read-host",
    ];
    run(&[&["rm", "-f"][..], &all].concat());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
