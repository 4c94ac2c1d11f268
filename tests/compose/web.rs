//! A browser: one request, one answer.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Longest time for one answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks the host's own port, with one more line of the head; the status and the body.
pub fn request(port: u16, method: &str, path: &str, line: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).inspect_err(|_| {
        // Whoever asks again at once takes the time from the machine that is to come up.
        std::thread::sleep(Duration::from_millis(100));
    })?;
    stream.set_read_timeout(Some(LIMIT))?;
    let length = if method == "POST" {
        "Content-Length: 0\r\n"
    } else {
        ""
    };
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\n{line}{length}\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.unwrap_or(0), body.to_owned()))
}

/// The body of what is there; `None` if there is nobody who answers, or not well.
pub fn get(port: u16, path: &str) -> Option<String> {
    let (status, body) = request(port, "GET", path, "").ok()?;
    (status == 200).then_some(body)
}

/// A port of the host that nobody has.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}
