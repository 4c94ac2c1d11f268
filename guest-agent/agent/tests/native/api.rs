//! A client of the API, and containers of one static busybox that need no image from outside.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::machine::Machine;

/// The program every container runs.
pub const BUSYBOX: &str = "/bin/busybox";

/// An answer: its status, and its body as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads an answer to a request of HTTP/1.0, whose body ends with the connection; none if the
    /// connection ended before a head came.
    fn read(mut stream: UnixStream) -> Option<Self> {
        let mut bytes = Vec::new();
        // An engine that is killed resets the connection; what came before counts.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        Some(Self {
            status: head.split(' ').nth(1)?.parse().ok()?,
            body: bytes.split_off(end + 4),
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails the test unless an archive was taken in: a refusal has the same status.
    pub fn loaded(self) -> Self {
        assert!(self.text().contains("Loaded image"), "{}", self.text());
        self.is(200)
    }

    /// Fails the test unless the status is this.
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// Sends one request; none if the engine went away before it answered.
pub fn try_call(machine: &Machine, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = machine.connect("api.sock");
    let head = format!(
        "{method} /v1.51{path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    // An engine that refuses does not wait for the body; its answer is there to be read.
    let _ = stream.write_all(body);
    Answer::read(stream)
}

pub fn call(machine: &Machine, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() {
        Vec::new()
    } else {
        serde_json::to_vec(body).unwrap()
    };
    try_call(machine, method, path, &body).expect("the engine answers")
}

/// Removes a container, running or not.
pub fn remove_by_force(machine: &Machine, name: &str) {
    let path = format!("/containers/{name}?force=1");
    call(machine, "DELETE", &path, &Value::Null).is(204);
}

pub fn get(machine: &Machine, path: &str) -> Answer {
    call(machine, "GET", path, &Value::Null)
}

pub fn post(machine: &Machine, path: &str) -> Answer {
    call(machine, "POST", path, &Value::Null)
}

/// A machine whose engine serves, with the image `nothing`.
pub fn started(dir: &Path) -> Machine {
    let machine = Machine::start(dir);
    machine.greeted();
    load_image(&machine, dir);
    machine
}

/// Loads an image without layers, named `nothing`.
pub fn load_image(machine: &Machine, dir: &Path) {
    load(machine, &archive(dir, "nothing")).loaded();
}

pub fn load(machine: &Machine, archive: &[u8]) -> Answer {
    try_call(machine, "POST", "/images/load", archive).unwrap()
}

/// An image without layers.
pub fn archive(dir: &Path, name: &str) -> Vec<u8> {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"name": name}},
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let tag = format!("{name}:latest");
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": []}]);
    let parts = dir.join(name);
    std::fs::create_dir_all(&parts).unwrap();
    std::fs::write(parts.join("config.json"), config.to_string()).unwrap();
    std::fs::write(parts.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = Command::new("tar")
        .arg("-C")
        .arg(&parts)
        .args(["-c", "config.json", "manifest.json"])
        .output();
    archive.unwrap().stdout
}

/// The body of create for a container that runs `script`.
pub fn container(script: &str) -> Value {
    // `/bin` may be a link, which a bind source must not go through.
    let busybox = std::fs::canonicalize(BUSYBOX).unwrap();
    json!({
        "Image": "nothing",
        "Cmd": [BUSYBOX, "sh", "-c", script],
        "HostConfig": {"Binds": [format!("{}:{BUSYBOX}:ro", busybox.display())], "NetworkMode": "none"},
    })
}

/// Makes a container.
pub fn create(machine: &Machine, name: &str, body: &Value) {
    call(
        machine,
        "POST",
        &format!("/containers/create?name={name}"),
        body,
    )
    .is(201);
}

/// Makes a container and starts it.
pub fn run(machine: &Machine, name: &str, body: &Value) {
    create(machine, name, body);
    post(machine, &format!("/containers/{name}/start")).is(204);
}

/// The `State` of inspect.
pub fn state(machine: &Machine, name: &str) -> Value {
    let mut inspected = get(machine, &format!("/containers/{name}/json"))
        .is(200)
        .json();
    inspected["State"].take()
}

/// Waits for the end of a container: its exit code.
pub fn wait(machine: &Machine, name: &str) -> i64 {
    let ended = post(machine, &format!("/containers/{name}/wait")).is(200);
    ended.json()["StatusCode"].as_i64().unwrap()
}

/// What a container's log says, frames taken off.
pub fn logs(machine: &Machine, name: &str) -> Vec<u8> {
    let path = format!("/containers/{name}/logs?stdout=1&stderr=1");
    payload(&get(machine, &path).is(200).body)
}

/// The bytes in the frames of a multiplexed stream.
pub fn payload(mut stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((head, rest)) = stream.split_at_checked(8) {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let length = length.min(rest.len());
        out.extend_from_slice(&rest[..length]);
        stream = &rest[length..];
    }
    out
}

/// Attaches to a container: the connection after the head of the answer.
pub fn attach(machine: &Machine, name: &str, query: &str) -> UnixStream {
    let mut stream = machine.connect("api.sock");
    let head = format!(
        "POST /v1.51/containers/{name}/attach?{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answered = Vec::new();
    let mut byte = [0];
    while !answered.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answered.push(byte[0]);
    }
    assert!(
        answered.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&answered)
    );
    stream
}

/// The events of one kind that a container has from now on, a line each.
pub fn events(machine: &Machine, name: &str, action: &str) -> BufReader<UnixStream> {
    let mut stream = machine.connect("api.sock");
    let filters =
        format!("%7B%22container%22%3A%5B%22{name}%22%5D%2C%22event%22%3A%5B%22{action}%22%5D%7D");
    let head = format!("GET /v1.51/events?filters={filters} HTTP/1.0\r\nHost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "no answer");
    }
    reader
}
