//! Attach over a WebSocket, frame by frame.

use super::*;

const ASKED: &[&str] = &[
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

/// A frame as clients send them.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let length = u8::try_from(payload.len()).expect("a short payload");
    assert!(length < 126);
    let mut frame = vec![0x80 | opcode, 0x80 | length];
    frame.extend_from_slice(&mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// What came, without how it was cut into frames: data by its type, then each control frame.
fn frames(mut bytes: &[u8]) -> String {
    let (mut text, mut data, mut control) = (Vec::new(), Vec::new(), Vec::new());
    while let [head, length, rest @ ..] = bytes {
        let wide = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((digits, rest)) = rest.split_at_checked(wide) else {
            break;
        };
        let number = |sum: usize, digit: &u8| sum << 8 | usize::from(*digit);
        let length = match wide {
            0 => usize::from(*length),
            _ => digits.iter().fold(0, number),
        };
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        match head & 0xf {
            TEXT => text.extend_from_slice(payload),
            0 | BINARY => data.extend_from_slice(payload),
            opcode => control.push((opcode, payload.to_vec())),
        }
        bytes = rest;
    }
    let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "text {:?}, binary {:?}, control {control:?}, rest {:?}",
        plain(&text),
        plain(&data),
        plain(bytes)
    )
}

fn request(socket: &Path, id: &str, query: &str, more: &[&str]) -> (Connection, Head) {
    let mut connection = Connection::open(socket);
    let (version, query) = query.split_once(' ').unwrap_or(("v1.51", query));
    let path = format!("/{version}/containers/{id}/attach/ws?{query}");
    connection.request("GET", &path, more, None);
    let head = connection.head();
    (connection, head)
}

/// A handshake with a container that does not run: the head of the answer, and its body.
fn handshake(socket: &Path, more: &[&str]) -> String {
    let id = create(
        socket,
        r#"{"Image":"busybox","Cmd":["true"],"HostConfig":{"NetworkMode":"none"}}"#,
    );
    let (mut connection, head) = request(socket, &id, "logs=1&stdout=1", more);
    let rest = connection.rest();
    remove(socket, &id);
    format!("{} {:?} {}", head.status, head.headers, frames(&rest))
}

#[test]
fn handshakes() {
    let without = |left_out: usize| {
        let mut asked = ASKED.to_vec();
        asked.remove(left_out);
        asked
    };
    let with = |more: &'static str| [ASKED, &[more]].concat();
    let cases = [
        ("whole", ASKED.to_vec()),
        ("no upgrade", without(0)),
        ("no connection", without(1)),
        ("no key", without(2)),
        ("no version", without(3)),
        ("one protocol", with("Sec-WebSocket-Protocol:  a ")),
        ("two protocols", with("Sec-WebSocket-Protocol: a, b")),
        ("an origin", with("Origin: http://elsewhere.example")),
        (
            "extensions",
            with("Sec-WebSocket-Extensions: permessage-deflate"),
        ),
        ("nothing", Vec::new()),
    ];
    let steps: Vec<(&str, Box<Ask>)> = cases
        .into_iter()
        .map(|(what, more)| {
            let step = move |socket: &Path| handshake(socket, &more);
            (what, Box::new(step) as _)
        })
        .collect();
    let steps: Vec<(&str, &Ask)> = steps.iter().map(|(what, step)| (*what, &**step)).collect();
    compare("handshakes", &steps);
}

/// A line to a container that answers it, then `last`: everything that came until the connection
/// ended, and whether the container runs then.
fn session(socket: &Path, query: &str, tty: bool, last: &[u8]) -> String {
    let body = format!(
        r#"{{"Image":"busybox","Cmd":["sh","-c","read a; echo got $a; read b && sleep 1000; exit 4"],
        "Tty":{tty},"OpenStdin":true,"HostConfig":{{"NetworkMode":"none"}}}}"#
    );
    let id = create(socket, &body);
    let (mut attach, head) = request(socket, &id, query, ASKED);
    start(socket, &id);
    attach.send(&frame(TEXT, b"typed\n"));
    let mut came = Vec::new();
    // The end of the line may come in a frame of its own, which an end of the session would lose.
    while !(came.ends_with(b"\n") && came.windows(9).any(|part| part == b"got typed")) {
        came.extend(attach.exactly(1));
    }
    attach.send(last);
    came.extend(attach.rest());
    let out = format!("{} {}", head.status, frames(&came));
    let (_, shown) = ask(socket, "GET", &format!("/v1.51/containers/{id}/json"), None);
    remove(socket, &id);
    let shown: serde_json::Value = serde_json::from_slice(&shown).expect("JSON");
    format!("{out}, running {}", shown["State"]["Running"])
}

#[test]
fn sessions_over_websockets() {
    let all = "stream=1&stdin=1&stdout=1&stderr=1";
    let own_keys = "stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x";
    let closing = || frame(CLOSE, &[3, 232]);
    let sessions = [
        ("closed by the client", all, false, closing()),
        ("its terminal closed", all, true, closing()),
        ("detached", all, true, frame(BINARY, &[16, 17])),
        ("other keys", own_keys, true, frame(TEXT, b"\x01x")),
        ("all outputs, as of old", "v1.41 stream=1", false, closing()),
        ("text, as of old", "v1.27 stream=1", false, closing()),
        ("no mask", all, false, vec![0x81, 1, b'x']),
    ];
    let steps: Vec<(&str, Box<Ask>)> = sessions
        .into_iter()
        .map(|(what, query, tty, last)| {
            let step = move |socket: &Path| session(socket, query, tty, &last);
            (what, Box::new(step) as _)
        })
        .collect();
    let steps: Vec<(&str, &Ask)> = steps.iter().map(|(what, step)| (*what, &**step)).collect();
    compare("sessions_over_websockets", &steps);
}

/// A container whose output is there before it ends.
fn output(socket: &Path, query: &str, tty: bool) -> String {
    let body = format!(
        r#"{{"Image":"busybox","Cmd":["sh","-c","echo out; exit 4"],"Tty":{tty},
        "HostConfig":{{"NetworkMode":"none"}}}}"#
    );
    let id = create(socket, &body);
    let (mut attach, head) = request(socket, &id, query, ASKED);
    start(socket, &id);
    let out = format!("{} {}", head.status, frames(&attach.rest()));
    let wait = format!("/v1.51/containers/{id}/wait");
    let _ = ask(socket, "POST", &wait, None);
    let (mut again, head) = request(socket, &id, "logs=1&stdout=1&stderr=1", ASKED);
    let logged = format!("{} {}", head.status, frames(&again.rest()));
    remove(socket, &id);
    format!("{out}; then {logged}")
}

#[test]
fn output_over_websockets() {
    let run = |query: &'static str, tty: bool| move |socket: &Path| output(socket, query, tty);
    compare(
        "output_over_websockets",
        &[
            ("plain", &run("stream=1&stdout=1&stderr=1", false)),
            ("terminal", &run("stream=1&stdout=1&stderr=1", true)),
            ("standard error alone", &run("stream=1&stderr=1", false)),
            ("nothing", &run("", false)),
        ],
    );
}

#[test]
fn websockets_that_cannot_be() {
    let refused = |id: &'static str, query: &'static str| {
        move |socket: &Path| {
            let (mut connection, answered) = request(socket, id, query, ASKED);
            let body = connection.body(&answered);
            let body = String::from_utf8_lossy(&body).into_owned();
            format!("{} | {}", head(&answered), normal::text(&body))
        }
    };
    let paused = |socket: &Path| {
        let id = create(
            socket,
            r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none"}}"#,
        );
        start(socket, &id);
        let _ = ask(
            socket,
            "POST",
            &format!("/v1.51/containers/{id}/pause"),
            None,
        );
        let (mut connection, answered) = request(socket, &id, "stream=1", &[]);
        let body = connection.body(&answered);
        remove(socket, &id);
        let body = String::from_utf8_lossy(&body).replace(&id, "ID");
        format!("{} | {body}", head(&answered))
    };
    compare(
        "websockets_that_cannot_be",
        &[
            ("nobody", &refused("nobody", "stream=1")),
            ("keys", &refused("nobody", "detachKeys=bogus-keys")),
            ("paused", &paused),
        ],
    );
}
