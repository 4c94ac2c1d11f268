//! Attached connections and execs, and the statuses around them.

use super::*;

/// What came on each stream: how it was cut into frames is of the moment.
fn streams(bytes: &[u8]) -> String {
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    let mut rest = bytes;
    while let [stream @ 0..=2, 0, 0, 0, a, b, c, d, tail @ ..] = rest {
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some((payload, after)) = tail.split_at_checked(size) else {
            break;
        };
        parts[usize::from(*stream)].extend_from_slice(payload);
        rest = after;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let framed: Vec<String> = parts.iter().map(|part| text(part)).collect();
    format!(" frames {framed:?}, raw {:?} ", text(rest))
}

const UPGRADE: &[&str] = &[
    "Connection: Upgrade",
    "Upgrade: tcp",
    "Content-Type: text/plain",
];

/// Attaches, says `input`, closes the sending half, and returns everything.
fn session(socket: &Path, tty: bool, more: &[&str], input: &str) -> String {
    let body = format!(
        r#"{{"Image":"busybox","Cmd":["sh","-c","read a; echo got $a; read b || echo end; echo err >&2; exit 4"],
        "Tty":{tty},"OpenStdin":true,"StdinOnce":true,"HostConfig":{{"NetworkMode":"none"}}}}"#
    );
    let id = create(socket, &body);
    let mut attach = Connection::open(socket);
    let path = format!("/v1.51/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
    attach.request("POST", &path, more, None);
    let answered = attach.head();
    start(socket, &id);
    attach.send(input.as_bytes());
    if !tty {
        attach.half_close();
    }
    let mut out = format!("{} {:?}", answered.status, answered.header("content-type"));
    out.push_str(&format!(" {:?}", answered.header("upgrade")));
    out.push_str(&streams(&attach.rest()));
    let (_, waited) = ask(
        socket,
        "POST",
        &format!("/v1.51/containers/{id}/wait"),
        None,
    );
    remove(socket, &id);
    out + &String::from_utf8_lossy(&waited)
}

#[test]
fn attached_connections() {
    compare(
        "attached_connections",
        &[
            ("upgraded", &|socket| {
                session(socket, false, UPGRADE, "typed\n")
            }),
            ("not upgraded", &|socket| {
                session(socket, false, &[], "typed\n")
            }),
            ("terminal", &|socket| {
                session(socket, true, UPGRADE, "typed\nmore\n")
            }),
            ("terminal, not upgraded", &|socket| {
                session(socket, true, &[], "typed\nmore\n")
            }),
            ("nothing typed", &|socket| {
                session(socket, false, UPGRADE, "")
            }),
        ],
    );
}

/// A container that writes twenty megabytes while its client does not read: whether it goes on for a
/// second, and what the client gets once it reads.
fn late(socket: &Path) -> String {
    let id = create(
        socket,
        r#"{"Image":"busybox","Cmd":["dd","if=/dev/zero","bs=65536","count=320"],
        "HostConfig":{"NetworkMode":"none","LogConfig":{"Type":"none"}}}"#,
    );
    let mut attach = Connection::open(socket);
    let path = format!("/v1.51/containers/{id}/attach?stream=1&stdout=1");
    attach.request("POST", &path, UPGRADE, None);
    let answered = attach.head();
    start(socket, &id);
    let runs = || {
        let (_, shown) = ask(socket, "GET", &format!("/v1.51/containers/{id}/json"), None);
        let shown: serde_json::Value = serde_json::from_slice(&shown).expect("JSON");
        shown["State"]["Running"] == true
    };
    let waits = (0..50).all(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        runs()
    });
    assert!(waits, "it goes on");
    let mut came = 0;
    while let Some((stream, bytes)) = attach.frame() {
        assert_eq!(stream, 1);
        came += bytes.len();
    }
    remove(socket, &id);
    format!("{} {came} bytes", answered.status)
}

#[test]
fn a_container_waits_for_a_client_that_does_not_read() {
    let test = "a_container_waits_for_a_client_that_does_not_read";
    compare(test, &[("late", &late)]);
}

/// Runs an exec to its end: what its start answered, what came, what inspect says right after.
fn exec(socket: &Path, id: &str, config: &str, begin: &str, more: &[&str], input: &str) -> String {
    let (head, made) = ask(
        socket,
        "POST",
        &format!("/v1.51/containers/{id}/exec"),
        Some(config),
    );
    let made = String::from_utf8_lossy(&made).into_owned();
    if head.code() != 201 {
        return format!("{} {}", head.status, normal::text(&made));
    }
    let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
    let exec = made["Id"].as_str().expect("an id");
    let mut connection = Connection::open(socket);
    connection.request(
        "POST",
        &format!("/v1.51/exec/{exec}/start"),
        more,
        Some(begin),
    );
    let answered = connection.head();
    let mut out = format!("{} {:?}", answered.status, answered.header("content-type"));
    if answered.code() == 101 || answered.header("content-length").is_none() {
        connection.send(input.as_bytes());
        connection.half_close();
        out.push_str(&streams(&connection.rest()));
    } else {
        let body = connection.body(&answered);
        out.push_str(&normal::text(&String::from_utf8_lossy(&body)));
    }
    let (_, shown) = ask(socket, "GET", &format!("/v1.51/exec/{exec}/json"), None);
    let mut shown: serde_json::Value = serde_json::from_slice(&shown).expect("JSON");
    for volatile in ["ID", "ContainerID", "Pid"] {
        shown[volatile] = serde_json::Value::from(shown[volatile] == 0);
    }
    format!("{out} {shown}")
}

#[test]
fn execs_and_their_ends() {
    let run = |config: &'static str, begin: &'static str, more: &'static [&'static str]| {
        move |socket: &Path| {
            let id = create(
                socket,
                r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none"}}"#,
            );
            start(socket, &id);
            let out = exec(socket, &id, config, begin, more, "typed\n");
            remove(socket, &id);
            out
        }
    };
    let plain = r#"{"Detach":false,"Tty":false}"#;
    let echo = r#"{"AttachStdout":true,"AttachStderr":true,"Cmd":["sh","-c","echo out; echo err >&2; exit 4"]}"#;
    let cat = r#"{"AttachStdin":true,"AttachStdout":true,"Cmd":["cat"]}"#;
    let tty = r#"{"AttachStdout":true,"Tty":true,"Cmd":["sh","-c","echo out; stty size; exit 2"]}"#;
    let missing = r#"{"AttachStdout":true,"AttachStderr":true,"Cmd":["missing"]}"#;
    let silent = r#"{"Cmd":["sh","-c","exit 0"]}"#;
    compare(
        "execs_and_their_ends",
        &[
            ("upgraded", &run(echo, plain, UPGRADE_JSON)),
            ("not upgraded", &run(echo, plain, &[])),
            ("no body", &run(echo, "", &[])),
            ("input", &run(cat, plain, UPGRADE_JSON)),
            (
                "terminal",
                &run(tty, r#"{"Tty":true,"ConsoleSize":[33,77]}"#, UPGRADE_JSON),
            ),
            ("terminal, said only once", &run(tty, plain, UPGRADE_JSON)),
            (
                "terminal, said only at the start",
                &run(echo, r#"{"Tty":true}"#, UPGRADE_JSON),
            ),
            (
                "size without terminal",
                &run(echo, r#"{"ConsoleSize":[33,77]}"#, UPGRADE_JSON),
            ),
            ("missing", &run(missing, plain, UPGRADE_JSON)),
            (
                "missing, detached",
                &run(missing, r#"{"Detach":true}"#, &[]),
            ),
            ("silent, detached", &run(silent, plain, &[])),
            ("no command", &run("{}", plain, &[])),
            (
                "bad keys",
                &run(r#"{"Cmd":["true"],"DetachKeys":"bogus-keys"}"#, plain, &[]),
            ),
            (
                "bad user",
                &run(
                    r#"{"AttachStdout":true,"Cmd":["true"],"User":"nobody-at-all"}"#,
                    plain,
                    UPGRADE_JSON,
                ),
            ),
            (
                "bad directory",
                &run(
                    r#"{"AttachStdout":true,"Cmd":["true"],"WorkingDir":"/nope"}"#,
                    plain,
                    UPGRADE_JSON,
                ),
            ),
        ],
    );
}

const UPGRADE_JSON: &[&str] = &["Connection: Upgrade", "Upgrade: tcp"];

#[test]
fn sizes_and_states() {
    let steps = |socket: &Path| {
        let id = create(
            socket,
            r#"{"Image":"busybox","Cmd":["sleep","1000"],"Tty":true,"HostConfig":{"NetworkMode":"none"}}"#,
        );
        let mut out = String::new();
        let mut say = |method: &str, path: &str| {
            let path = format!("/v1.51/containers/{id}{path}");
            out.push_str(&format!(
                "{method} {path}: {}\n",
                answer(socket, method, &path, None)
            ));
        };
        say("POST", "/resize?h=10&w=20");
        say("POST", "/start");
        say("POST", "/start");
        say("POST", "/resize?h=10&w=20");
        say("POST", "/resize?h=0&w=0");
        say("POST", "/resize?h=70000&w=20");
        say("POST", "/pause");
        say("POST", "/pause");
        say("POST", "/unpause");
        say("DELETE", "");
        say("POST", "/kill?signal=");
        say("POST", "/wait");
        say("POST", "/wait?condition=not-running");
        say("POST", "/kill");
        say("POST", "/stop");
        say("POST", "/resize?h=10&w=20");
        say("POST", "/start?detachKeys=bogus-keys");
        say("DELETE", "");
        remove(socket, &id);
        out.replace(&id, "ID")
    };
    compare("sizes_and_states", &[("life", &steps)]);
}
