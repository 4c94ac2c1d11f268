//! Requests to an engine, on a connection that is kept as clients keep theirs.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use lighter_tests::http::Connection;
use serde_json::{Value, json};

/// The newest version that every side speaks.
const VERSION: &str = "/v1.41";

/// A connection.
pub struct Api(Connection);

impl Api {
    /// Connects.
    #[must_use]
    pub fn open(socket: &Path) -> Self {
        Self(Connection::open(socket))
    }

    /// One request and its answer.
    ///
    /// # Errors
    ///
    /// When the answer is an error.
    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Vec<u8>> {
        let body = body.map(ToString::to_string);
        // Without a length some servers wait for a body.
        let more: &[&str] = match (&body, method) {
            (None, "POST") => &["Content-Length: 0"],
            _ => &[],
        };
        self.0
            .request(method, &format!("{VERSION}{path}"), more, body.as_deref());
        let head = self.0.head();
        let answer = self.0.body(&head);
        let said = || String::from_utf8_lossy(&answer).into_owned();
        ensure!(
            head.code() < 300,
            "{method} {path}: {} {}",
            head.status,
            said()
        );
        Ok(answer)
    }

    /// The same, for an answer in JSON.
    ///
    /// # Errors
    ///
    /// When the answer is an error, or is no JSON.
    pub fn json(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.call(method, path, body)?;
        serde_json::from_slice(&answer).with_context(|| format!("{method} {path}"))
    }

    /// Makes a container of this command: its id.
    ///
    /// # Errors
    ///
    /// When it is not made.
    pub fn create(&mut self, command: &[&str]) -> Result<String> {
        self.create_in("none", command)
    }

    /// The same in this network.
    ///
    /// # Errors
    ///
    /// When it is not made.
    pub fn create_in(&mut self, network: &str, command: &[&str]) -> Result<String> {
        let body = json!({
            "Image": "busybox", "Cmd": command, "HostConfig": {"NetworkMode": network},
        });
        let made = self.json("POST", "/containers/create", Some(&body))?;
        Ok(made["Id"].as_str().context("no id")?.to_owned())
    }

    /// Makes a container and starts it: its id.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn run(&mut self, command: &[&str]) -> Result<String> {
        self.run_in("none", command)
    }

    /// The same in this network.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn run_in(&mut self, network: &str, command: &[&str]) -> Result<String> {
        let id = self.create_in(network, command)?;
        self.call("POST", &format!("/containers/{id}/start"), None)?;
        Ok(id)
    }

    /// Waits for a container's end, which must be a good one.
    ///
    /// # Errors
    ///
    /// When it was not.
    pub fn wait(&mut self, id: &str) -> Result<()> {
        let ended = self.json("POST", &format!("/containers/{id}/wait"), None)?;
        ensure!(ended["StatusCode"] == 0, "a container ended so: {ended}");
        Ok(())
    }

    /// Kills a container that runs.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn kill(&mut self, id: &str) -> Result<()> {
        self.call("POST", &format!("/containers/{id}/kill"), None)?;
        Ok(())
    }

    /// Removes a container, running or not.
    ///
    /// # Errors
    ///
    /// When it stays.
    pub fn remove(&mut self, id: &str) -> Result<()> {
        self.call("DELETE", &format!("/containers/{id}?force=1"), None)?;
        Ok(())
    }
}

/// Sends a request whose answer may be large or a stream, and reads that to its end.
///
/// # Errors
///
/// When the answer is an error.
pub fn stream(socket: &Path, head: &str, body: &mut impl Read) -> Result<Vec<u8>> {
    let mut kept = Vec::new();
    stream_to(socket, head, body, |block| kept.extend_from_slice(block))?;
    Ok(kept)
}

/// The same, handing each block of the body (as it is framed) to `take`.
///
/// # Errors
///
/// When the answer is an error.
pub fn stream_to(
    socket: &Path,
    head: &str,
    body: &mut impl Read,
    mut take: impl FnMut(&[u8]),
) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    let (method, path) = head.split_once(' ').context("a method and a path")?;
    let (path, more) = path.split_once('\n').unwrap_or((path, ""));
    write!(
        stream,
        "{method} {VERSION}{path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n{more}\r\n"
    )?;
    std::io::copy(body, &mut stream)?;
    let mut block = vec![0; 256 << 10];
    let mut start = Vec::new();
    let end = loop {
        if let Some(at) = start.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let count = stream.read(&mut block)?;
        if count == 0 {
            bail!("{head}: no answer");
        }
        start.extend_from_slice(&block[..count]);
    };
    let status = String::from_utf8_lossy(&start[..end]).into_owned();
    let good = status.starts_with("HTTP/1.1 2");
    let mut said = start.split_off(end + 4);
    if good {
        take(&said);
    }
    loop {
        let count = stream.read(&mut block)?;
        if count == 0 {
            break;
        }
        if good {
            take(&block[..count]);
        } else {
            said.extend_from_slice(&block[..count]);
        }
    }
    ensure!(good, "{head}: {status}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

/// Loads an image archive.
///
/// # Errors
///
/// When it is not taken.
pub fn load(socket: &Path, archive: &Path) -> Result<()> {
    let mut file = std::fs::File::open(archive).with_context(|| archive.display().to_string())?;
    let length = file.metadata()?.len();
    let head = format!(
        "POST /images/load?quiet=1\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n"
    );
    let said = String::from_utf8_lossy(&stream(socket, &head, &mut file)?).into_owned();
    ensure!(
        !said.contains("\"error\""),
        "an image is not loaded: {said}"
    );
    Ok(())
}
