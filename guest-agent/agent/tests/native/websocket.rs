//! Attach over a WebSocket, with a client of another make than ours.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tempfile::tempdir;
use tokio_tungstenite::tungstenite::handshake::HandshakeError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Error, Message, WebSocket};

use crate::api::{container, create, get, post, run, started, state, try_call, wait};
use crate::machine::{LIMIT, Machine};

type Client = WebSocket<UnixStream>;

fn try_open(machine: &Machine, path: &str) -> Result<Client, Error> {
    let stream = machine.connect("api.sock");
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let opened = tungstenite::client(format!("ws://docker{path}"), stream);
    opened
        .map(|(client, _)| client)
        .map_err(|error| match error {
            HandshakeError::Failure(error) => error,
            HandshakeError::Interrupted(_) => panic!("no answer in time"),
        })
}

fn open(machine: &Machine, name: &str, query: &str) -> Client {
    let path = format!("/v1.51/containers/{name}/attach/ws?{query}");
    try_open(machine, &path).unwrap()
}

/// Everything that comes, and the closing frame's code.
fn read(client: &mut Client) -> (String, CloseCode) {
    let mut text = Vec::new();
    loop {
        match client.read().unwrap() {
            Message::Binary(bytes) => text.extend_from_slice(&bytes),
            Message::Close(Some(close)) => {
                return (String::from_utf8(text).unwrap(), close.code);
            }
            other => panic!("{other:?}"),
        }
    }
}

fn read_until(client: &mut Client, wanted: &str) {
    let mut text = String::new();
    while !text.contains(wanted) {
        let message = client.read().unwrap();
        text.push_str(std::str::from_utf8(&message.into_data()).unwrap());
    }
}

#[test]
fn input_and_output_go_through_a_websocket() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut echo = container("read line; echo got $line; echo err >&2; cat; echo end");
    echo["OpenStdin"] = json!(true);
    echo["StdinOnce"] = json!(true);
    create(&machine, "echo", &echo);
    let mut client = open(&machine, "echo", "stream=1&stdin=1&stdout=1&stderr=1");
    let mut watching = open(&machine, "echo", "stream=1&stdout=1");
    post(&machine, "/containers/echo/start").is(204);
    // In two pieces, one of them text and one in two frames.
    client.send(Message::text("ty")).unwrap();
    client.send(Message::Ping("are you there".into())).unwrap();
    client.send(Message::binary(&b"ped\n"[..])).unwrap();
    let mut text = String::new();
    let mut answered = false;
    while text.len() < "got typed\nerr\n".len() || !answered {
        match client.read().unwrap() {
            Message::Binary(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Message::Pong(bytes) => answered = bytes == "are you there",
            other => panic!("{other:?}"),
        }
    }
    assert!(text.contains("got typed\n"), "{text}");
    // A megabyte in one message, more than any buffer on its way.
    let large = "0123456789abcde\n".repeat(65_536);
    client.send(Message::text(large.clone())).unwrap();
    // The end of its input is the client's.
    client.close(None).unwrap();
    assert_eq!(wait(&machine, "echo"), 0);
    let (seen, code) = read(&mut watching);
    assert_eq!(code, CloseCode::Normal);
    assert!(seen == format!("got typed\n{large}end\n"), "{}", seen.len());
    // What was written before, and nothing more.
    let (logged, _) = read(&mut open(&machine, "echo", "logs=1&stderr=1"));
    assert_eq!(logged, "err\n");
}

#[test]
fn a_client_that_closes_or_detaches_leaves_the_container_as_it_is() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut terminal = container("while read line; do echo got $line; done; echo over");
    terminal["Tty"] = json!(true);
    terminal["OpenStdin"] = json!(true);
    run(&machine, "terminal", &terminal);
    let mut client = open(&machine, "terminal", "stream=1&stdin=1&stdout=1");
    client.send(Message::text("one\n")).unwrap();
    read_until(&mut client, "got one");
    client.close(None).unwrap();
    while client.read().is_ok() {}
    let query = "stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x";
    let mut client = open(&machine, "terminal", query);
    client.send(Message::text("two\n\x01")).unwrap();
    read_until(&mut client, "got two");
    client.send(Message::text("x")).unwrap();
    assert_eq!(read(&mut client).1, CloseCode::Normal);
    assert_eq!(state(&machine, "terminal")["Running"], true);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let filters = "%7B%22event%22%3A%7B%22detach%22%3Atrue%7D%7D";
    let path = format!("/events?since=1&until={until}&filters={filters}");
    let events = get(&machine, &path).is(200).text();
    assert_eq!(events.lines().count(), 1, "{events}");
}

#[test]
fn old_clients_get_text_and_wrong_ones_a_status() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    create(&machine, "hello", &container("echo hello"));
    // They were not asked which outputs.
    let old = "/v1.27/containers/hello/attach/ws?stream=1";
    let mut client = try_open(&machine, old).unwrap();
    post(&machine, "/containers/hello/start").is(204);
    assert_eq!(client.read().unwrap(), Message::text("hello\n"));
    let refused = |path: &str| match try_open(&machine, path) {
        Err(Error::Http(answer)) => (
            answer.status().as_u16(),
            String::from_utf8(answer.into_body().unwrap_or_default()).unwrap(),
        ),
        other => panic!("{other:?}"),
    };
    let (status, body) = refused("/v1.51/containers/nobody/attach/ws?stream=1");
    assert_eq!(
        (status, body.as_str()),
        (404, "{\"message\":\"No such container: nobody\"}\n")
    );
    let (status, body) = refused("/v1.51/containers/hello/attach/ws?detachKeys=bogus-keys");
    assert!(
        status == 400 && body.contains("Invalid detach keys"),
        "{body}"
    );
    get(&machine, "/containers/hello/attach/ws").is(400);
    get(&machine, "/_ping").is(200);
}

#[test]
fn a_message_without_end_costs_the_engine_nothing() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut sink = container("cat > /dev/null");
    sink["OpenStdin"] = json!(true);
    run(&machine, "sink", &sink);
    let mut client = open(&machine, "sink", "stream=1&stdin=1&stdout=1");
    // A frame of 8 EiB, as its head says.
    let head = [0x82, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    client.get_mut().write_all(&head).unwrap();
    assert_eq!(read(&mut client).1, CloseCode::Size);
    assert_eq!(state(&machine, "sink")["Running"], true);
}

#[test]
fn a_log_that_is_not_kept_is_refused_before_the_connection_is_another() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut body = container("exec sleep 100000");
    body["HostConfig"]["LogConfig"] = json!({"Type": "none"});
    run(&machine, "mute", &body);
    let words = "configured logging driver does not support reading";
    for path in ["logs?stdout=1", "attach?logs=1&stream=1&stdout=1"] {
        let method = if path.starts_with("logs") {
            "GET"
        } else {
            "POST"
        };
        let path = format!("/containers/mute/{path}");
        let refused = try_call(&machine, method, &path, b"").unwrap().is(501);
        assert_eq!(refused.json()["message"], words);
    }
    let path = "/v1.51/containers/mute/attach/ws?logs=1&stream=1&stdout=1";
    match try_open(&machine, path) {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 501),
        other => panic!("{other:?}"),
    }
    // Without its log it is there.
    drop(open(&machine, "mute", "stream=1&stdout=1"));
    post(&machine, "/containers/mute/kill").is(204);
}
