//! A server for names, asked from outside and by containers.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use lighter_tests::until;

use crate::app::App;
use crate::web;

/// A question for the IPv4 address of `served.lighter.test`.
fn question() -> Vec<u8> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["served", "lighter", "test"] {
        question.push(u8::try_from(label.len()).expect("short"));
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    question
}

/// The address at the end of an answer to it.
fn answered(answer: &[u8]) -> Option<[u8; 4]> {
    (answer.len() > 16 && answer[..2] == [0x12, 0x34]).then_some(())?;
    answer[answer.len() - 4..].try_into().ok()
}

fn by_udp(port: u16) -> Option<[u8; 4]> {
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    socket.connect(("127.0.0.1", port)).ok()?;
    socket.send(&question()).ok()?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    answered(&answer[..length])
}

fn by_tcp(port: u16) -> Option<[u8; 4]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .ok()?;
    let question = question();
    let length = u16::try_from(question.len()).ok()?.to_be_bytes();
    stream.write_all(&[&length[..], &question].concat()).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).ok()?;
    answered(&answer)
}

const SERVED: Option<[u8; 4]> = Some([192, 0, 2, 7]);

#[test]
fn a_server_for_names_is_asked_by_udp_and_by_tcp() {
    let Some(mut app) = App::new("names") else {
        return;
    };
    let port = web::free_port();
    app.set("PORT", &port.to_string());
    app.up(&["--scale", "client=2"]);
    until("UDP is answered", || by_udp(port) == SERVED);
    assert_eq!(by_tcp(port), SERVED);
    // Its clients have it as theirs, and find each other as well.
    app.follow(&["logs", "-f", "client"]).until("192.0.2.7");
    let server = app.exec("client", &["getent", "ahostsv4", "server"]);
    assert!(server.starts_with("10.66.53.53 "), "{server}");
    let resolver = app.exec("client", &["cat", "/etc/resolv.conf"]);
    assert!(resolver.contains("nameserver 127.0.0.11"), "{resolver}");

    app.kill_process("names-server-1");
    until("the server is back", || {
        app.restarts("names-server-1") == 1 && by_udp(port) == SERVED && by_tcp(port) == SERVED
    });
    app.compose(&["restart", "server"]).ok();
    until("it answers again", || by_udp(port) == SERVED);
    let logs = app.compose(&["logs", "server"]).ok().out();
    assert!(logs.contains("query[A] served.lighter.test"), "{logs}");
    app.compose(&["stop"]).ok();
    assert_eq!(by_tcp(port), None);
    app.up(&[]);
    until("it answers once more", || by_tcp(port) == SERVED);
    app.down();
}
