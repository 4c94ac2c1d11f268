//! A small HTTP client over a unix socket that hides nothing: heads, chunks, and what is not HTTP.
//!
//! Used where the docker CLI is too polite: malformed requests, half-closes, hijacked connections.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest one answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// One connection.
pub struct Connection {
    stream: UnixStream,
    read: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The first line.
    pub status: String,
    /// Names in lower case and values, in the order sent.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The status code.
    #[must_use]
    pub fn code(&self) -> u16 {
        let code = self.status.split(' ').nth(1).unwrap_or_default();
        code.parse().unwrap_or(0)
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the body is chunked.
    #[must_use]
    pub fn chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    ///
    /// If nobody listens.
    #[must_use]
    pub fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the socket is there");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    ///
    /// If the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Sends one request; `body` is JSON if there is one. `more` are further lines of the head.
    pub fn request(&mut self, method: &str, path: &str, more: &[&str], body: Option<&str>) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: docker\r\n");
        for line in more {
            head.push_str(&format!("{line}\r\n"));
        }
        if let Some(body) = body {
            head.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        } else {
            head.push_str("\r\n");
        }
        self.send(head.as_bytes());
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&self) {
        // The other side may have closed it already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The head of the next answer.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub fn head(&mut self) -> Head {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            let so_far = String::from_utf8_lossy(&self.read).into_owned();
            assert!(self.more() > 0, "no whole head came: {so_far:?}");
        };
        let text: Vec<u8> = self.read.drain(..end + 4).collect();
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut lines = text.trim_end().split("\r\n");
        Head {
            status: lines.next().unwrap_or_default().to_owned(),
            headers: lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
        }
    }

    /// The body behind `head`, whole.
    pub fn body(&mut self, head: &Head) -> Vec<u8> {
        if head.chunked() {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
            return body;
        }
        match head.header("content-length") {
            Some(length) => self.exactly(length.parse().unwrap_or(0)),
            None if matches!(head.code(), 204 | 304) => Vec::new(),
            None => self.rest(),
        }
    }

    /// The next chunk of a chunked body; none at its end.
    ///
    /// # Panics
    ///
    /// If what comes is no chunk.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.extend(self.exactly(1));
        }
        let text = String::from_utf8_lossy(&size).into_owned();
        let size = usize::from_str_radix(text.trim(), 16);
        let size = size.unwrap_or_else(|_| panic!("{text:?} is no size of a chunk"));
        let chunk = self.exactly(size);
        assert_eq!(self.exactly(2), b"\r\n");
        (size > 0).then_some(chunk)
    }

    /// So many bytes.
    ///
    /// # Panics
    ///
    /// If fewer come.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.more() > 0, "the connection ended {:?}", self.read);
        }
        self.read.drain(..count).collect()
    }

    /// Everything to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() > 0 {}
        std::mem::take(&mut self.read)
    }

    /// The next frame of a multiplexed stream: whose it is, and its bytes; none at the end.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        if self.read.is_empty() && self.more() == 0 {
            return None;
        }
        let head = self.exactly(8);
        let size = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        Some((head[0], self.exactly(size as usize)))
    }

    fn more(&mut self) -> usize {
        let mut buffer = [0; 16 * 1024];
        loop {
            return match self.stream.read(&mut buffer) {
                Ok(count) => {
                    self.read.extend_from_slice(&buffer[..count]);
                    count
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                Err(error) => panic!("no answer: {error}; so far {:?}", self.read),
            };
        }
    }
}

/// One request on a connection of its own: head and body.
#[must_use]
pub fn ask(socket: &Path, method: &str, path: &str, body: Option<&str>) -> (Head, Vec<u8>) {
    let mut connection = Connection::open(socket);
    connection.request(method, path, &["Connection: close"], body);
    let head = connection.head();
    let body = if method == "HEAD" {
        Vec::new()
    } else {
        connection.body(&head)
    };
    (head, body)
}
