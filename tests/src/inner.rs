//! The reference inside a machine of ours: Debian's dockerd in a privileged container, beside our own engine on
//! the same kernel.
//!
//! The machine that tests run on may have no controllers of version 2 of control groups, so that what limits come
//! to can only be compared where our engine runs. The image is `xtask`'s; nothing of it is shared with
//! the host, and its data are on a volume, where dockerd's overlay can be.
//!
//! ```text
//!   docker CLI ─► socket here ─► a thread, and an exec of our engine for each connection ─► dockerd's socket
//! ```

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::env;
use crate::run::{Finished, run};

/// The image's name.
pub const IMAGE: &str = "lighter-test/dockerd";
/// The container's.
const NAME: &str = "inner-dockerd";
/// The program of ours in the image.
pub const PROGRAM: &str = "/usr/bin/inner";
/// Where dockerd listens: on a volume, so that another container can reach it too.
pub const SOCKET: &str = "/sockets/dockerd.sock";
/// Mounts of that volume.
pub const SOCKETS: &str = "inner-sockets:/sockets";

/// How our engine runs it: its own init reaps what shims leave, and its data are where overlay can be.
const OUTER: [&str; 15] = [
    "run",
    "-d",
    "--name",
    NAME,
    "--hostname",
    NAME,
    "--privileged",
    "--init",
    "--network=none",
    "-v",
    "inner-data:/var/lib/docker",
    "-v",
    SOCKETS,
    // It would warn of it with every container.
    "--sysctl",
    "net.ipv4.ip_forward=1",
];
/// What runs there.
const SERVE: [&str; 13] = [
    "serve",
    "dockerd",
    "--host",
    "unix:///sockets/dockerd.sock",
    "--exec-root",
    "/run/docker",
    "--bridge",
    "none",
    "--iptables=false",
    "--ip6tables=false",
    "--userland-proxy=false",
    "--log-level",
    "error",
];

const LIMIT: Duration = Duration::from_secs(180);

/// A running dockerd inside a machine. It ends with the machine.
pub struct Inner {
    dir: tempfile::TempDir,
    docker: PathBuf,
}

impl Inner {
    /// Loads the image into the engine behind `socket` and starts dockerd there.
    ///
    /// # Panics
    ///
    /// When our engine does not run it: that is what it is there for.
    #[must_use]
    pub fn start(socket: &Path, docker: &Path, image: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("inn").tempdir_in("/tmp");
        let inner = Self {
            dir: dir.expect("a folder"),
            docker: docker.to_owned(),
        };
        let outer = |words: &[&str]| inner.client(&format!("unix://{}", socket.display()), words);
        let runs = || outer(&["inspect", "-f", "{{.State.Running}}", NAME]).out() == "true\n";
        // A machine that tests are tried on again and again has it.
        if !runs() {
            outer(&["load", "-q", "-i", &image.display().to_string()]).ok();
            outer(&[&OUTER[..], &[IMAGE], &SERVE].concat()).ok();
        }
        inner.listen(socket.to_owned());
        let limit = Instant::now() + LIMIT;
        while inner.docker(&["version"]).code != 0 {
            assert!(
                Instant::now() < limit && runs(),
                "dockerd does not come up: {}",
                outer(&["logs", NAME]).err()
            );
            // It has no event for being ready.
            std::thread::sleep(Duration::from_millis(200));
        }
        inner
    }

    /// The path of its socket on this side.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Runs `docker` against it.
    #[must_use]
    pub fn docker(&self, words: &[&str]) -> Finished {
        self.docker_with(words, b"")
    }

    /// Runs `docker` against it with this standard input.
    #[must_use]
    pub fn docker_with(&self, words: &[&str], input: &[u8]) -> Finished {
        self.client_with(
            &format!("unix://{}", self.socket_path().display()),
            words,
            input,
        )
    }

    fn client(&self, host: &str, words: &[&str]) -> Finished {
        self.client_with(host, words, b"")
    }

    fn client_with(&self, host: &str, words: &[&str], input: &[u8]) -> Finished {
        let mut command = Command::new(&self.docker);
        command
            .env("DOCKER_HOST", host)
            .env("DOCKER_CONFIG", self.dir.path().join("config"))
            .args(words);
        run(command, input, LIMIT)
    }

    /// Accepts clients for as long as this process lives.
    fn listen(&self, outer: PathBuf) {
        let listener = UnixListener::bind(self.socket_path()).expect("a socket");
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let outer = outer.clone();
                std::thread::spawn(move || {
                    // A client that is cut off says so itself.
                    if let Err(error) = carry(&outer, client) {
                        eprintln!("a connection to the inner dockerd: {error}");
                    }
                });
            }
        });
    }
}

/// Carries one connection by an exec of the engine at `outer`, both halves by themselves.
fn carry(outer: &Path, mut client: UnixStream) -> io::Result<()> {
    let mut exec = Exec::start(outer)?;
    let mut from = client.try_clone()?;
    let mut to = exec.stream.try_clone()?;
    std::thread::spawn(move || {
        let carried = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
        carried
    });
    let mut carried = Ok(());
    while carried.is_ok() {
        match exec.frame()? {
            Some((1, bytes)) => carried = client.write_all(&bytes),
            Some((_, bytes)) => eprintln!("{}", String::from_utf8_lossy(&bytes)),
            None => break,
        }
    }
    let _ = exec.stream.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    Ok(())
}

/// An exec whose streams this process has.
struct Exec {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Exec {
    fn start(outer: &Path) -> io::Result<Self> {
        let path = format!("/v1.51/containers/{NAME}/exec");
        let body = serde_json::json!({
            "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
            "Cmd": [PROGRAM, "bridge", SOCKET],
        });
        let made = Self::post(outer, &path, &body.to_string(), "Connection: close\r\n")?.rest()?;
        let made: serde_json::Value = serde_json::from_slice(&made).map_err(io::Error::other)?;
        let id = made["Id"]
            .as_str()
            .ok_or_else(|| io::Error::other(made.to_string()))?;
        let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
        Self::post(outer, &format!("/v1.51/exec/{id}/start"), "{}", upgrade)
    }

    /// Sends a request and reads the head of its answer, which is a good one.
    fn post(outer: &Path, path: &str, body: &str, more: &str) -> io::Result<Self> {
        let mut stream = UnixStream::connect(outer)?;
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{more}\r\n{body}",
            body.len()
        )?;
        let mut answer = Self {
            stream,
            read: Vec::new(),
        };
        let end = loop {
            if let Some(end) = answer.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            answer.more()?;
        };
        let head: Vec<u8> = answer.read.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        if head.starts_with("HTTP/1.1 101") || head.starts_with("HTTP/1.1 201") {
            return Ok(answer);
        }
        let said = answer.rest()?;
        Err(io::Error::other(format!(
            "{head}{}",
            String::from_utf8_lossy(&said)
        )))
    }

    fn more(&mut self) -> io::Result<()> {
        let mut block = [0; 32 << 10];
        match self.stream.read(&mut block)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.read.extend_from_slice(&block[..count]);
                Ok(())
            }
        }
    }

    fn rest(mut self) -> io::Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.read)?;
        Ok(self.read)
    }

    /// The next frame: whose it is, and its bytes; none at the end.
    fn frame(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some(head) = self.read.first_chunk::<8>() {
                let size = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
                let stream = head[0];
                if self.read.len() >= 8 + size {
                    let bytes = self.read.drain(..8 + size).skip(8).collect();
                    return Ok(Some((stream, bytes)));
                }
            }
            match self.more() {
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof && self.read.is_empty() =>
                {
                    return Ok(None);
                }
                other => other?,
            }
        }
    }
}

/// The archive of its image; `None` (and a counted skip of `test`) if there is none.
#[must_use]
pub fn image(test: &str) -> Option<PathBuf> {
    let image = env::path(env::INNER);
    if image.is_none() {
        env::skip(
            test,
            "the image of dockerd is not there: run `cargo xtask test`",
        );
    }
    image
}
