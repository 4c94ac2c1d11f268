//! What goes over a connection, where a client library would hide it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use tempfile::tempdir;

use crate::machine::Machine;

/// Reads one answer that tells its length; its status line and body.
fn answer(reader: &mut BufReader<UnixStream>) -> (String, String) {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_ascii_lowercase()
    };
    let status = line();
    let mut length = 0;
    loop {
        let header = line();
        if let Some(told) = header.strip_prefix("content-length:") {
            length = told.trim().parse().unwrap();
        }
        if header.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

#[test]
fn a_refused_request_may_be_written_to_its_end() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    machine.greeted();
    let mut stream = machine.connect("api.sock");
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for body in [vec![b'x'; 1], vec![b'x'; 200_000], Vec::new()] {
        let head = format!(
            "POST /v1.51/images/NOPE/push HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // It is known what becomes of it before the body comes.
        let (status, told) = answer(&mut reader);
        assert_eq!(status, "http/1.1 400 bad request", "{told}");
        assert!(told.contains("must be lowercase"), "{told}");
        stream.write_all(&body).unwrap();
    }
    // Who waits to be told to send is told that there is no need.
    let head = "POST /v1.51/images/NOPE/push HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut waiting = machine.connect("api.sock");
    waiting.write_all(head.as_bytes()).unwrap();
    let mut told = BufReader::new(waiting);
    assert_eq!(answer(&mut told).0, "http/1.1 400 bad request");
    // What is left of a large one is not read for ever.
    let head =
        "POST /v1.51/images/NOPE/push HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    answer(&mut reader);
    let piece = [b'x'; 1 << 16];
    assert!((0..1000).any(|_| stream.write_all(&piece).is_err()));
}
