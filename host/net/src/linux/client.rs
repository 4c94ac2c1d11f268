//! The daemon's end: starts the net process, or finds one that outlived an earlier daemon.
//!
//! ```text
//!   daemon                                net process
//!     ├─ spawn ── stdin: vhost-user listener, stdout: control listener, with a lifeline waiting in it
//!     │  (keeps the lifeline's end and the name of the vhost-user socket, and gives both to the machine)
//!     ├─ <run>/net.sock ───────────────────►│ Names, Status
//! ```
//!
//! The process ends by itself when the lifeline ends: its life is the virtual machine's.
//! Calls block for at most [`ANSWER_TIME`]; an async caller wraps them in `spawn_blocking`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::CONTROL_SOCKET;
use crate::control::{Reply, Request, Status};

/// How long an answer of the net process may take.
pub const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The net process could not be started or reached.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A socket of ours could not be made or reached.
    #[error("{what} {}", path.display())]
    Path {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program could not be started.
    #[error("starting {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The conversation failed.
    #[error("the net process does not answer")]
    Silent(#[source] io::Error),
    /// It answered something else than was asked.
    #[error("the net process answers: {0}")]
    Confused(String),
}

impl NetError {
    /// Whether there was a process and is none any more: its socket is there, and nobody listens.
    #[must_use]
    pub fn is_end(&self) -> bool {
        let kind = io::ErrorKind::ConnectionRefused;
        matches!(self, Self::Path { source, .. } if source.kind() == kind)
    }
}

/// What is needed to start the process.
#[derive(Debug)]
pub struct SpawnConfig<'a> {
    /// The `lighter` program; it is run as `lighter net`.
    pub exe: &'a Path,
    /// Where `net.sock` is made (a directory of the user's own, mode 0700).
    pub run_dir: &'a Path,
    /// Where its log lines go; inherited where `None`.
    pub log: Option<File>,
}

/// A net process that this program started.
#[derive(Debug)]
pub struct NetProcess {
    /// The process, to be waited for.
    pub child: Child,
    /// The name of the vhost-user socket, for the virtual machine's front end, which connects to it by
    /// `/proc/self/fd`: one that is connected QEMU's `vhost-user` does not take.
    pub vhost_user: OwnedFd,
    /// To be held as long as the virtual machine lives: when it closes, the process ends.
    pub lifeline: OwnedFd,
}

impl NetProcess {
    /// Starts `lighter net`, which answers from then on.
    ///
    /// # Errors
    /// [`NetError`] naming the step; nothing is left running then.
    pub fn spawn(config: SpawnConfig<'_>) -> Result<Self, NetError> {
        let (control, lifeline) = control_pair(config.run_dir)?;
        let lifeline = lifeline.into();
        let (vhost_listener, vhost_user) = vhost_pair(config.run_dir)?;
        let mut command = Command::new(config.exe);
        command
            .arg("net")
            .stdin(Stdio::from(OwnedFd::from(vhost_listener)))
            .stdout(Stdio::from(OwnedFd::from(control)))
            .process_group(0);
        if let Some(log) = config.log {
            command.stderr(log);
        }
        let mut child = command.spawn().map_err(|source| NetError::Spawn {
            program: config.exe.to_owned(),
            source,
        })?;
        // The parent's copies go with the command, so that a child that dies is seen as an end.
        drop(command);
        match status(config.run_dir) {
            Ok(_) => Ok(Self {
                child,
                vhost_user,
                lifeline,
            }),
            Err(error) => {
                // It must not linger without anybody knowing it.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }
}

/// Tells the process where the host asks for names now.
///
/// # Errors
/// [`NetError`] where it does not answer.
pub fn set_names(run_dir: &Path, servers: &[SocketAddr]) -> Result<(), NetError> {
    let request = Request::Names {
        server: servers.first().copied(),
        others: servers.iter().skip(1).copied().collect(),
    };
    match ask(run_dir, &request)? {
        Reply::Done => Ok(()),
        other => Err(NetError::Confused(format!("{other:?}"))),
    }
}

/// How things are in the process; an error where there is none.
///
/// # Errors
/// [`NetError`] where it does not answer.
pub fn status(run_dir: &Path) -> Result<Status, NetError> {
    match ask(run_dir, &Request::Status)? {
        Reply::Status(status) => Ok(status),
        other => Err(NetError::Confused(format!("{other:?}"))),
    }
}

fn ask(run_dir: &Path, request: &Request) -> Result<Reply, NetError> {
    let mut stream = connect(&run_dir.join(CONTROL_SOCKET))?;
    let mut conversation = || -> io::Result<Reply> {
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_write_timeout(Some(ANSWER_TIME))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    conversation().map_err(NetError::Silent)
}

/// A fresh listener at `path`, replacing what a dead process left there.
fn listener(path: &Path) -> Result<UnixListener, NetError> {
    remove_stale(path)?;
    // The directory is 0700, so nobody else can reach the socket between bind and chmod.
    let listener = UnixListener::bind(path).map_err(failed("binding", path))?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(failed("protecting", path))?;
    Ok(listener)
}

/// The listening control socket, and the lifeline as the first connection in it: until that is there, the socket has
/// a name by which nobody asks.
fn control_pair(run_dir: &Path) -> Result<(UnixListener, UnixStream), NetError> {
    let (begun, path) = (run_dir.join("net-begun.sock"), run_dir.join(CONTROL_SOCKET));
    let listener = listener(&begun)?;
    let lifeline = connect(&begun)?;
    std::fs::rename(&begun, &path).map_err(failed("naming", &path))?;
    Ok((listener, lifeline))
}

/// A listening vhost-user socket, and its name as a descriptor. In the directory the name is gone before anyone
/// else could use it.
fn vhost_pair(run_dir: &Path) -> Result<(UnixListener, OwnedFd), NetError> {
    let path = run_dir.join("net-vhost.sock");
    let listener = listener(&path)?;
    let name = openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failed("opening", &path)(error.into()))?;
    std::fs::remove_file(&path).map_err(failed("removing", &path))?;
    Ok((listener, name))
}

fn connect(path: &Path) -> Result<UnixStream, NetError> {
    UnixStream::connect(path).map_err(failed("connecting to", path))
}

fn remove_stale(path: &Path) -> Result<(), NetError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("removing", path)(error))
        }
        _ => Ok(()),
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetError {
    let path = path.to_owned();
    move |source| NetError::Path { what, path, source }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_first_connection_is_the_lifeline_whoever_else_is_waiting_for_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CONTROL_SOCKET);
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        drop(UnixStream::connect(&path));
                    }
                });
            }
            for _ in 0..200 {
                let (control, mut lifeline) = control_pair(dir.path()).unwrap();
                lifeline.write_all(b"l").unwrap();
                let (mut first, _) = control.accept().unwrap();
                let mut said = [0];
                let count = first.read(&mut said).unwrap();
                over.store(count != 1, std::sync::atomic::Ordering::Relaxed);
                assert_eq!((count, &said), (1, b"l"));
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn an_end_is_told_from_a_process_that_never_was() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!status(dir.path()).unwrap_err().is_end());
        drop(control_pair(dir.path()).unwrap());
        assert!(status(dir.path()).unwrap_err().is_end());
    }
}
