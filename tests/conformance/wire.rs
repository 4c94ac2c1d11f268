//! The bytes of HTTP: what the docker CLI would never send or never show.

use std::path::{Path, PathBuf};

use lighter_tests::http::{Connection, Head, ask};

use crate::{both, normal};

/// Asks one engine something, and says what it answered.
type Ask = dyn Fn(&Path) -> String;

/// What two engines answer to the same thing.
fn compare(test: &str, steps: &[(&str, &Ask)]) {
    let Some(both) = both(test) else { return };
    let reference = both.reference();
    let (ours, theirs): (PathBuf, PathBuf) = (both.ours.socket(), reference.socket_path());
    let mut found = Vec::new();
    for (what, step) in steps {
        let (a, b) = (step(&ours), step(&theirs));
        if a != b && !DIFFER.iter().any(|(part, _)| what.contains(part)) {
            found.push(format!("{what}\n  ours:    {a}\n  dockerd: {b}"));
        }
    }
    assert!(
        found.is_empty(),
        "{} differences\n{}",
        found.len(),
        found.join("\n")
    );
}

/// Requests that are answered otherwise, with the reason.
const DIFFER: &[(&str, &str)] = &[
    (
        "{\"Driver\":\"bogus\"}",
        "no name is made up for a volume that is not made",
    ),
    (
        "said only at the start",
        "dockerd loses what goes to standard error",
    ),
    ("silent, detached", "whether it has ended is of the moment"),
    ("attach", "an error and a head are here as everywhere"),
    ("?limit=x", "a wrong request is 400, not 500"),
    ("?since=x", "a wrong request is 400, not 500"),
    ("/stop?t=x", "a wrong request is 400, not 500"),
    ("/auth {", "a wrong request is 400, not 500"),
    ("bad keys", "a wrong request is 400, not 500"),
    ("/images/", "words of names of images"),
    ("/networks/nobody/connect", "not there yet"),
    (
        "/networks/ ",
        "networks have other ids, and no addresses yet",
    ),
    ("create []", "words of another JSON reader"),
    ("{\"Image\":5}", "words of another JSON reader"),
    (
        "{\"image\":",
        "names of fields are taken as they are documented",
    ),
    (
        "{\"Image\":\"busybox\",\"Image\"",
        "twice the same field is refused",
    ),
    ("\"Memory\":\"x\"", "words of another JSON reader"),
    ("platform=a/b/c/d/e", "words of platforms"),
    ("nobody/archive ", "not there yet"),
    (
        "\r\n10\r\n",
        "a chunk of another length than it says is no body",
    ),
    ("100-continue", "the order and case of headers"),
    (
        "bad user",
        "only the process that enters a container reads its files",
    ),
];

/// A head as far as it must be the same.
fn head(head: &Head) -> String {
    let mut lines: Vec<String> = head
        .headers
        .iter()
        // Lengths depend on ids and names; whether connections stay open is seen by using them.
        .filter(|(name, _)| !matches!(name.as_str(), "date" | "content-length" | "connection"))
        // Dockerd leaves these out where no route answers.
        .filter(|(name, _)| {
            !matches!(
                name.as_str(),
                "api-version" | "docker-experimental" | "ostype" | "server"
            ) || (head.code() < 300 && head.header("api-version").is_some())
        })
        .map(|(name, value)| match name.as_str() {
            "server" => format!("server: {}", value.split('/').next().unwrap_or_default()),
            _ => format!("{name}: {value}"),
        })
        .collect();
    lines.sort();
    let status = &head.status;
    format!("{status} | {}", lines.join(" | "))
}

fn answer(socket: &Path, method: &str, path: &str, body: Option<&str>) -> String {
    let (answered, body) = ask(socket, method, path, body);
    format!(
        "{} | {}",
        head(&answered),
        normal::text(&String::from_utf8_lossy(&body))
    )
}

/// Sends bytes as they are and closes the sending half; everything that comes back.
fn raw(socket: &Path, bytes: &str) -> String {
    let mut connection = Connection::open(socket);
    connection.send(bytes.as_bytes());
    let answered = connection.head();
    let body = connection.body(&answered);
    format!(
        "{} | {}",
        head(&answered),
        normal::text(&String::from_utf8_lossy(&body))
    )
}

#[test]
fn heads_and_errors() {
    let requests: &[(&str, &str, Option<&str>)] = &[
        ("GET", "/_ping", None),
        ("HEAD", "/_ping", None),
        ("GET", "/v1.24/_ping", None),
        ("POST", "/_ping", None),
        ("OPTIONS", "/_ping", None),
        ("OPTIONS", "/v1.51/containers/json", None),
        ("OPTIONS", "/no/such", None),
        ("GET", "/", None),
        ("GET", "/v1.51", None),
        ("GET", "/v1.51/", None),
        ("GET", "/no/such", None),
        ("GET", "/v1.51/no/such", None),
        ("HEAD", "/v1.51/containers/json", None),
        ("PUT", "/v1.51/containers/json", None),
        ("PATCH", "/v1.51/info", None),
        ("GET", "/v9.99/info", None),
        ("GET", "/v1.52/info", None),
        ("GET", "/v1.23/info", None),
        ("GET", "/v1.10/info", None),
        ("GET", "/v1/info", None),
        ("GET", "/vx.y/info", None),
        ("GET", "/v2.0/info", None),
        ("GET", "/v1.51/containers/nobody/json", None),
        ("GET", "/v1.51/containers/nobody/logs?stdout=1", None),
        ("GET", "/v1.51/containers/nobody/logs", None),
        ("GET", "/v1.51/containers//json", None),
        ("GET", "/v1.51/containers/a%2Fb/json", None),
        ("GET", "/v1.51/containers/json?limit=x", None),
        (
            "GET",
            "/v1.51/containers/json?limit=-1&filters=%7B%22name%22%3A%5B%22nobody%22%5D%7D",
            None,
        ),
        ("GET", "/v1.51/containers/json?filters=xx", None),
        (
            "GET",
            "/v1.51/containers/json?filters=%7B%22bogus%22%3A%5B%22a%22%5D%7D",
            None,
        ),
        (
            "GET",
            "/v1.51/containers/json?filters=%7B%22bogus%22%3A%7B%22a%22%3Atrue%7D%7D",
            None,
        ),
        (
            "GET",
            "/v1.51/containers/json?filters=%7B%22name%22%3A%7B%22nobody%22%3Atrue%7D%7D",
            None,
        ),
        (
            "GET",
            "/v1.51/containers/json?filters=%7B%22name%22%3A5%7D",
            None,
        ),
        ("GET", "/v1.51/containers/json?filters=%5B%5D", None),
        (
            "GET",
            "/v1.51/containers/json?filters=%7B%7D&all=0&size=0",
            None,
        ),
        ("GET", "/v1.51/events?since=x", None),
        ("GET", "/v1.51/events?since=2&until=1", None),
        ("GET", "/v1.51/events?filters=xx", None),
        ("GET", "/v1.51/images/nobody/json", None),
        ("GET", "/v1.51/images/Upper/json", None),
        ("GET", "/v1.51/images/nobody/history", None),
        ("GET", "/v1.51/images/json?filters=xx", None),
        ("DELETE", "/v1.51/images/nobody", None),
        ("POST", "/v1.51/images/nobody/tag?repo=a", None),
        ("POST", "/v1.51/images/busybox/tag?repo=UPPER", None),
        ("POST", "/v1.51/images/busybox/tag", None),
        ("GET", "/v1.51/volumes/nobody", None),
        ("DELETE", "/v1.51/volumes/nobody", None),
        ("DELETE", "/v1.51/volumes/nobody?force=1", None),
        ("GET", "/v1.51/volumes?filters=xx", None),
        ("GET", "/v1.51/networks/nobody", None),
        ("GET", "/v1.51/networks/", None),
        ("DELETE", "/v1.51/networks/bridge", None),
        ("DELETE", "/v1.51/networks/nobody", None),
        ("POST", "/v1.51/networks/nobody/connect", Some("{}")),
        ("GET", "/v1.51/exec/nobody/json", None),
        ("POST", "/v1.51/exec/nobody/start", Some("{}")),
        ("POST", "/v1.51/exec/nobody/resize?h=1&w=1", None),
        ("POST", "/v1.51/exec/nobody/resize", None),
        ("POST", "/v1.51/containers/create", None),
        ("POST", "/v1.51/containers/create", Some("")),
        ("POST", "/v1.51/containers/create", Some("{")),
        ("POST", "/v1.51/containers/create", Some("null")),
        ("POST", "/v1.51/containers/create", Some("[]")),
        ("POST", "/v1.51/containers/create", Some("{}")),
        ("POST", "/v1.51/containers/create", Some("{} x")),
        ("POST", "/v1.51/containers/create", Some("{}{}")),
        ("POST", "/v1.51/containers/create", Some("{\"Image\":5}")),
        (
            "POST",
            "/v1.51/containers/create",
            Some("{\"Image\":\"nobody\"}"),
        ),
        (
            "POST",
            "/v1.51/containers/create",
            Some("{\"image\":\"nobody\"}"),
        ),
        (
            "POST",
            "/v1.51/containers/create",
            Some("{\"Image\":\"busybox\",\"Image\":\"nobody\"}"),
        ),
        (
            "POST",
            "/v1.51/containers/create",
            Some("{\"Image\":\"busybox\",\"HostConfig\":{\"Memory\":\"x\"}}"),
        ),
        (
            "POST",
            "/v1.51/containers/create?name=no%20good",
            Some("{\"Image\":\"busybox\"}"),
        ),
        (
            "POST",
            "/v1.51/containers/create?platform=a/b/c/d/e",
            Some("{\"Image\":\"busybox\"}"),
        ),
        ("POST", "/v1.51/containers/nobody/start", None),
        ("POST", "/v1.51/containers/nobody/start", Some("{}")),
        (
            "POST",
            "/v1.51/containers/nobody/start",
            Some("{\"Binds\":null}"),
        ),
        ("POST", "/v1.51/containers/nobody/stop?t=x", None),
        ("POST", "/v1.51/containers/nobody/stop", None),
        ("POST", "/v1.51/containers/nobody/restart", None),
        ("POST", "/v1.51/containers/nobody/kill?signal=BOGUS", None),
        ("POST", "/v1.51/containers/nobody/kill", None),
        ("POST", "/v1.51/containers/nobody/pause", None),
        ("POST", "/v1.51/containers/nobody/unpause", None),
        ("POST", "/v1.51/containers/nobody/rename", None),
        ("POST", "/v1.51/containers/nobody/rename?name=x1", None),
        ("POST", "/v1.51/containers/nobody/wait", None),
        (
            "POST",
            "/v1.51/containers/nobody/wait?condition=bogus",
            None,
        ),
        ("POST", "/v1.51/containers/nobody/resize", None),
        ("POST", "/v1.51/containers/nobody/resize?h=1&w=1", None),
        ("POST", "/v1.51/containers/nobody/resize?h=x&w=1", None),
        ("POST", "/v1.51/containers/nobody/resize?h=-1&w=1", None),
        ("POST", "/v1.51/containers/nobody/attach?stream=1", None),
        (
            "POST",
            "/v1.51/containers/nobody/attach?detachKeys=bogus-keys",
            None,
        ),
        (
            "POST",
            "/v1.51/containers/nobody/exec",
            Some("{\"Cmd\":[\"true\"]}"),
        ),
        ("POST", "/v1.51/containers/nobody/exec", Some("{}")),
        ("POST", "/v1.51/containers/nobody/exec", None),
        ("POST", "/v1.51/containers/nobody/update", Some("{}")),
        ("DELETE", "/v1.51/containers/nobody", None),
        ("DELETE", "/v1.51/containers/nobody?force=1", None),
        ("GET", "/v1.51/containers/nobody/top", None),
        ("GET", "/v1.51/containers/nobody/stats?stream=0", None),
        ("GET", "/v1.51/containers/nobody/changes", None),
        ("GET", "/v1.51/containers/nobody/export", None),
        ("GET", "/v1.51/containers/nobody/archive?path=/", None),
        ("GET", "/v1.51/containers/nobody/archive", None),
        ("HEAD", "/v1.51/containers/nobody/archive?path=/", None),
        ("PUT", "/v1.51/containers/nobody/archive?path=/", None),
        ("POST", "/v1.51/commit?container=nobody", None),
        (
            "POST",
            "/v1.51/containers/prune?filters=%7B%22bogus%22%3A%5B%22a%22%5D%7D",
            None,
        ),
        (
            "POST",
            "/v1.51/networks/prune?filters=%7B%22bogus%22%3A%5B%22a%22%5D%7D",
            None,
        ),
        (
            "POST",
            "/v1.51/volumes/prune?filters=%7B%22bogus%22%3A%5B%22a%22%5D%7D",
            None,
        ),
        ("POST", "/v1.51/volumes/create", Some("{")),
        ("POST", "/v1.51/volumes/create", Some("{\"Name\":\"../x\"}")),
        (
            "POST",
            "/v1.51/volumes/create",
            Some("{\"Driver\":\"bogus\"}"),
        ),
        ("POST", "/v1.51/auth", Some("{")),
        ("GET", "/v1.51/swarm", None),
        ("GET", "/v1.51/services", None),
        ("GET", "/v1.51/tasks", None),
        ("GET", "/v1.51/nodes", None),
        ("GET", "/v1.51/secrets", None),
        ("GET", "/v1.51/configs", None),
        ("GET", "/v1.51/services/x", None),
        ("POST", "/v1.51/services/create", Some("{}")),
        ("POST", "/v1.51/swarm/leave", None),
        ("PUT", "/v1.51/volumes/x?version=1", Some("{}")),
        ("GET", "/v1.51/plugins", None),
        ("GET", "/v1.51/plugins/nobody/json", None),
    ];
    let steps: Vec<(String, Box<Ask>)> = requests
        .iter()
        .map(|(method, path, body)| {
            let step = move |socket: &Path| answer(socket, method, path, *body);
            (
                format!("{method} {path} {}", body.unwrap_or("")),
                Box::new(step) as _,
            )
        })
        .collect();
    let steps: Vec<(&str, &Ask)> = steps
        .iter()
        .map(|(what, step)| (what.as_str(), &**step))
        .collect();
    compare("heads_and_errors", &steps);
}

#[test]
fn bodies_that_try_tricks() {
    let create = "POST /v1.51/containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let json = "Content-Type: application/json\r\n";
    let requests = [
        format!("{create}{json}Content-Length: 0\r\n\r\n"),
        format!("{create}{json}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{create}{json}Transfer-Encoding: chunked\r\n\r\n10\r\n{{\"Image\":\"nobod\r\n3\r\ny\"}}\r\n0\r\n\r\n"),
        format!("{create}{json}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"),
        format!("{create}Content-Length: 18\r\n\r\n{{\"Image\":\"nobody\"}}"),
        format!("{create}Content-Type: text/plain\r\nContent-Length: 18\r\n\r\n{{\"Image\":\"nobody\"}}"),
        format!("{create}Content-Type: application/json; charset=utf-8\r\nContent-Length: 18\r\n\r\n{{\"Image\":\"nobody\"}}"),
        format!("{create}Content-Type: ;;\r\nContent-Length: 18\r\n\r\n{{\"Image\":\"nobody\"}}"),
        format!("{create}{json}Content-Length: 18\r\nExpect: 100-continue\r\n\r\n{{\"Image\":\"nobody\"}}"),
        "POST /v1.51/containers/nobody/start HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "GET /_ping HTTP/1.0\r\n\r\n".to_owned(),
        "GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
    ];
    let steps: Vec<(String, Box<Ask>)> = requests
        .into_iter()
        .map(|request| {
            let sent = request.clone();
            (
                request,
                Box::new(move |socket: &Path| raw(socket, &sent)) as _,
            )
        })
        .collect();
    let steps: Vec<(&str, &Ask)> = steps
        .iter()
        .map(|(what, step)| (what.as_str(), &**step))
        .collect();
    compare("bodies_that_try_tricks", &steps);
}

/// Makes a container by the API; its id.
fn create(socket: &Path, body: &str) -> String {
    let (head, made) = ask(socket, "POST", "/v1.51/containers/create", Some(body));
    let text = String::from_utf8_lossy(&made).into_owned();
    assert_eq!(head.code(), 201, "{text}");
    let made: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    made["Id"].as_str().expect("an id").to_owned()
}

fn remove(socket: &Path, id: &str) {
    let _ = ask(
        socket,
        "DELETE",
        &format!("/v1.51/containers/{id}?force=1&v=1"),
        None,
    );
}

fn start(socket: &Path, id: &str) {
    let (head, body) = ask(
        socket,
        "POST",
        &format!("/v1.51/containers/{id}/start"),
        None,
    );
    assert_eq!(head.code(), 204, "{}", String::from_utf8_lossy(&body));
}

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
fn heads_come_before_there_is_anything_to_say() {
    let early = |path: &'static str| {
        move |socket: &Path| {
            let id = create(
                socket,
                r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none"}}"#,
            );
            start(socket, &id);
            let mut connection = Connection::open(socket);
            let (method, path) = path.split_once(' ').expect("two words");
            connection.request(method, &path.replace("ID", &id), &[], None);
            let answered = connection.head();
            remove(socket, &id);
            head(&answered)
        }
    };
    compare(
        "heads_come_before_there_is_anything_to_say",
        &[
            (
                "wait",
                &early("POST /v1.51/containers/ID/wait?condition=removed"),
            ),
            (
                "logs",
                &early("GET /v1.51/containers/ID/logs?stdout=1&follow=1"),
            ),
            (
                "logs of 1.41",
                &early("GET /v1.41/containers/ID/logs?stdout=1&follow=1"),
            ),
            ("events", &early("GET /v1.51/events")),
            (
                "attach",
                &early("POST /v1.51/containers/ID/attach?stream=1&stdout=1"),
            ),
        ],
    );
}

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
