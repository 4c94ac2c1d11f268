//! The bytes of HTTP: what the docker CLI would never send or never show.

use std::path::{Path, PathBuf};

use lighter_tests::http::{Connection, Head, ask};

use crate::{both, normal};

mod creating;
mod heads;
mod sessions;
mod websockets;

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
    (
        "/no/such/folder",
        "what is not shared with the machine is not looked at",
    ),
    (
        "\"SizeBytes\":-1",
        "said at once, not when the container starts",
    ),
    ("\"80/tcp\":5", "words of another JSON reader"),
    (
        "/networks/ ",
        "ids and times; `networks.rs` compares the rest",
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
    (
        "\r\n10\r\n",
        "a chunk of another length than it says is no body",
    ),
    ("100-continue", "the order and case of headers"),
    ("no mask", "one closing frame is enough"),
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
