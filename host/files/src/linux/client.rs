//! The daemon's end: starts the files process, or finds one that outlived an earlier daemon.
//!
//! ```text
//!   daemon                                files process
//!     ├─ spawn ── stdin: socket pair ──────►│ Setup + {vhost-user listener, control listener, side directory}
//!     │  (keeps one connected vhost-user fd, which it gives to the machine)
//!     ├─ <run>/files.sock ─────────────────►│ AddShare + fd, RemoveShare, Status
//! ```
//!
//! The process ends by itself when the vhost-user connection ends: its life is the virtual machine's.
//! Calls block for at most [`ANSWER_TIME`]; an async caller wraps them in `spawn_blocking`.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    socketpair,
    sockopt::{Timeout, set_socket_timeout},
};

use super::packet::{self, PacketError};
use crate::CONTROL_SOCKET;
use crate::control::{RefusalCode, Reply, Request, ShareId, Status};

/// How long an answer of the files process may take: it does no file I/O before answering but a look at
/// the target and the directories above.
pub const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The files process could not be started, reached or persuaded.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A path of ours could not be opened or bound.
    #[error("{what} {path}")]
    Path {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The program could not be started.
    #[error("starting {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The conversation failed.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// It answered no.
    #[error("{message}")]
    Refused {
        /// What kind of refusal.
        code: RefusalCode,
        /// For people.
        message: String,
    },
    /// It answered something else than was asked.
    #[error("the files process gave an answer of another kind")]
    Confused,
    /// No process answers to the name any more.
    #[error("the files process is gone")]
    Gone,
}

impl FilesError {
    /// Whether the conversation is not to be gone on with: an answer may still come, and be taken for
    /// that of another request.
    #[must_use]
    pub fn ends_conversation(&self) -> bool {
        matches!(self, Self::Packet(_) | Self::Confused)
    }
}

/// What is needed to start the process.
#[derive(Debug)]
pub struct SpawnConfig<'a> {
    /// The `lighter` program; it is run as `lighter files`.
    pub exe: &'a Path,
    /// Where `files.sock` is made (a directory of the user's own, mode 0700).
    pub run_dir: &'a Path,
    /// Below which `files/` is made, with the attributes that no file can carry; must outlast the process.
    pub data_dir: &'a Path,
    /// Where its log lines go; inherited where `None`.
    pub log: Option<File>,
}

/// A files process that this program started.
#[derive(Debug)]
pub struct FilesProcess {
    /// The process, to be waited for.
    pub child: Child,
    /// The connected vhost-user socket, for the virtual machine's front end; when it closes, the process ends.
    pub vhost_user: OwnedFd,
    /// The control connection.
    pub control: FilesClient,
}

impl FilesProcess {
    /// Starts `lighter files`.
    ///
    /// # Errors
    /// [`FilesError`] naming the step; nothing is left running then.
    pub fn spawn(config: SpawnConfig<'_>) -> Result<Self, FilesError> {
        let control = control_listener(&config.run_dir.join(CONTROL_SOCKET))?;
        let (vhost_listener, vhost_user) = vhost_pair(config.run_dir)?;
        let side = side_directory(&config.data_dir.join("files"))?;
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(PacketError::from)?;
        packet::send(
            &ours,
            &Request::Setup,
            &[vhost_listener.as_fd(), control.as_fd(), side.as_fd()],
        )?;
        let mut command = Command::new(config.exe);
        command
            .arg("files")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .process_group(0);
        if let Some(log) = config.log {
            command.stderr(log);
        }
        let mut child = command.spawn().map_err(|source| FilesError::Spawn {
            program: config.exe.to_owned(),
            source,
        })?;
        // The parent's copy of the child's end goes with the command, so a child that dies is seen as an end.
        drop(command);
        match FilesClient::from_socket(ours).and_then(|client| client.ready()) {
            Ok(control) => Ok(Self {
                child,
                vhost_user,
                control,
            }),
            Err(error) => {
                // Either already gone or not one of ours: it must not linger without anybody knowing it.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }
}

/// A connection to a files process.
#[derive(Debug)]
pub struct FilesClient {
    socket: OwnedFd,
}

impl FilesClient {
    /// Connects to the process that an earlier daemon started; `None` where none lives.
    ///
    /// # Errors
    /// [`FilesError`] where one lives but cannot be reached.
    pub fn take_over(run_dir: &Path) -> Result<Option<Self>, FilesError> {
        let path = run_dir.join(CONTROL_SOCKET);
        let address = SocketAddrUnix::new(&path).map_err(PacketError::from)?;
        let socket = seqpacket()?;
        match connect(&socket, &address) {
            Ok(()) => Self::from_socket(socket).map(Some),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(error) => Err(FilesError::Path {
                what: "connecting to",
                path,
                source: error.into(),
            }),
        }
    }

    /// Serves `target` (a directory or regular file, opened by the caller after its own checks) as `id`.
    ///
    /// Adding the same target under the same id and flag again is no error.
    ///
    /// # Errors
    /// [`FilesError::Refused`] where the id is taken, the target is of another kind or inside what is hidden,
    /// or there are too many.
    pub fn add_share(
        &self,
        id: &ShareId,
        target: impl AsFd,
        read_only: bool,
        label: &str,
    ) -> Result<(), FilesError> {
        self.add(id, target, (read_only, false), label)
    }

    /// The same for a folder that the user named himself, which may lie in a hidden one.
    ///
    /// # Errors
    /// As [`Self::add_share`].
    pub fn add_named_share(
        &self,
        id: &ShareId,
        target: impl AsFd,
        read_only: bool,
        label: &str,
    ) -> Result<(), FilesError> {
        self.add(id, target, (read_only, true), label)
    }

    fn add(
        &self,
        id: &ShareId,
        target: impl AsFd,
        (read_only, named): (bool, bool),
        label: &str,
    ) -> Result<(), FilesError> {
        let request = Request::AddShare {
            id: id.clone(),
            read_only,
            named,
            label: label.to_owned(),
        };
        packet::send(&self.socket, &request, &[target.as_fd()])?;
        self.done()
    }

    /// Serves the directory or file at `path` as `id`: see [`Self::add_share`].
    ///
    /// `path` is one that the caller has resolved and then checked: a symbolic link anywhere in it now is
    /// one that somebody has put there since, and is refused.
    ///
    /// # Errors
    /// [`FilesError::Path`] where it cannot be opened so, else as [`Self::add_share`].
    pub fn add_path(&self, id: &ShareId, path: &Path, read_only: bool) -> Result<(), FilesError> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let target =
            openat2(CWD, path, flags, Mode::empty(), resolve).map_err(|e| FilesError::Path {
                what: "opening",
                path: path.to_owned(),
                source: e.into(),
            })?;
        self.add_share(id, target, read_only, &path.display().to_string())
    }

    /// Hides `path` below every share, whether it exists or not; to be called before shares are added.
    ///
    /// Where not even the directory above exists, there is nothing to hide.
    ///
    /// # Errors
    /// [`FilesError`] where the directory above cannot be opened or the process refuses.
    pub fn hide(&self, path: &Path) -> Result<(), FilesError> {
        self.name_place(path, "hiding", |name| Request::Hide { name })
    }

    /// Makes these paths and all below them read-only in every share that begins above them, whether they
    /// exist or not, and nothing else any more. What held before holds until all of it is named; files
    /// that are open for writing stay so.
    ///
    /// Of a share that begins at one or below, its own flag and [`Self::restrict`] say what may be done.
    ///
    /// # Errors
    /// As [`Self::hide`]; what held before holds on then.
    pub fn protect(&self, paths: &[PathBuf]) -> Result<(), FilesError> {
        packet::send(&self.socket, &Request::BeginProtect, &[])?;
        let anew = match self.done() {
            // One of an older build: what it protects can only become more.
            Err(FilesError::Refused {
                code: RefusalCode::Malformed,
                ..
            }) => false,
            begun => begun.map(|()| true)?,
        };
        for path in paths.iter().filter(|path| *path != Path::new("/")) {
            self.name_place(path, "protecting", |name| Request::Protect { name })?;
        }
        if !anew {
            return Ok(());
        }
        packet::send(&self.socket, &Request::EndProtect, &[])?;
        self.done()
    }

    fn name_place(
        &self,
        path: &Path,
        what: &'static str,
        request: impl FnOnce(String) -> Request,
    ) -> Result<(), FilesError> {
        let failed = |source| FilesError::Path {
            what,
            path: path.to_owned(),
            source,
        };
        let (Some(parent), Some(name)) = (
            path.parent(),
            path.file_name().and_then(|name| name.to_str()),
        ) else {
            return Err(failed(std::io::ErrorKind::InvalidInput.into()));
        };
        // Whoever may only pass through the directory can name what is in it.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match openat(CWD, parent, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|error| failed(error.into()))?,
        };
        packet::send(
            &self.socket,
            &request(name.to_owned()),
            &[directory.as_fd()],
        )?;
        self.done()
    }

    /// Refuses every change through a share from now on but by files that are open for writing, or no
    /// longer.
    ///
    /// # Errors
    /// [`FilesError::Refused`] where there is none.
    pub fn restrict(&self, id: &ShareId, restricted: bool) -> Result<(), FilesError> {
        let id = id.clone();
        let request = Request::Restrict { id, restricted };
        packet::send(&self.socket, &request, &[])?;
        self.done()
    }

    /// Stops serving `id`.
    ///
    /// # Errors
    /// [`FilesError::Refused`] where there is none.
    pub fn remove_share(&self, id: &ShareId) -> Result<(), FilesError> {
        packet::send(&self.socket, &Request::RemoveShare { id: id.clone() }, &[])?;
        self.done()
    }

    /// What is served now: all shares, however many packets they take.
    ///
    /// # Errors
    /// [`FilesError`] where the process is gone.
    pub fn status(&self) -> Result<Status, FilesError> {
        let mut told = self.status_after(None)?;
        while told.more {
            let last = told.shares.last().map(|share| share.id.clone());
            let next = self.status_after(last)?;
            // Else there would be no end of it.
            if next.more && next.shares.is_empty() {
                return Err(FilesError::Confused);
            }
            told.shares.extend(next.shares);
            told.more = next.more;
        }
        Ok(told)
    }

    /// The process that answers; none where it does not say.
    ///
    /// # Errors
    /// [`FilesError`] where the process is gone.
    pub fn pid(&self) -> Result<Option<u32>, FilesError> {
        let pid = self.status_after(None)?.pid;
        Ok(Some(pid).filter(|pid| *pid != 0))
    }

    fn status_after(&self, after: Option<ShareId>) -> Result<Status, FilesError> {
        packet::send(&self.socket, &Request::Status { after }, &[])?;
        match self.answer()? {
            Reply::Status(status) => Ok(status),
            _ => Err(FilesError::Confused),
        }
    }

    fn from_socket(socket: OwnedFd) -> Result<Self, FilesError> {
        for direction in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, direction, Some(ANSWER_TIME)).map_err(PacketError::from)?;
        }
        Ok(Self { socket })
    }

    fn ready(self) -> Result<Self, FilesError> {
        self.done()?;
        Ok(self)
    }

    fn done(&self) -> Result<(), FilesError> {
        match self.answer()? {
            Reply::Done => Ok(()),
            Reply::Status(_) => Err(FilesError::Confused),
            Reply::Refused { code, message } => Err(FilesError::Refused { code, message }),
        }
    }

    fn answer(&self) -> Result<Reply, FilesError> {
        Ok(packet::receive::<Reply>(&self.socket)?.0)
    }
}

fn seqpacket() -> Result<OwnedFd, FilesError> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(PacketError::from)?)
}

/// A fresh listener at `path`, replacing what a dead process left there.
fn control_listener(path: &Path) -> Result<OwnedFd, FilesError> {
    let failed = |what, source: std::io::Error| FilesError::Path {
        what,
        path: path.to_owned(),
        source,
    };
    remove_stale(path)?;
    let socket = seqpacket()?;
    let address = SocketAddrUnix::new(path).map_err(|e| failed("naming", e.into()))?;
    // The directory is 0700, so nobody else can reach the socket between bind and chmod.
    bind(&socket, &address).map_err(|e| failed("binding", e.into()))?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(|e| failed("protecting", e))?;
    listen(&socket, 16).map_err(|e| failed("listening on", e.into()))?;
    Ok(socket)
}

/// A listening vhost-user socket with one connection already waiting in it, and that connection's other end.
///
/// The backend library takes its connection from a listener only; the name is gone before anyone else could use it.
fn vhost_pair(run_dir: &Path) -> Result<(UnixListener, OwnedFd), FilesError> {
    let path = run_dir.join("files-vhost.sock");
    let failed = |what, source| FilesError::Path {
        what,
        path: path.clone(),
        source,
    };
    remove_stale(&path)?;
    let listener = UnixListener::bind(&path).map_err(|e| failed("binding", e))?;
    let stream = UnixStream::connect(&path).map_err(|e| failed("connecting to", e))?;
    std::fs::remove_file(&path).map_err(|e| failed("removing", e))?;
    Ok((listener, stream.into()))
}

/// The directory of the side file: the process's own, given to it open.
fn side_directory(path: &Path) -> Result<File, FilesError> {
    let failed = |what, source| FilesError::Path {
        what,
        path: path.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| failed("making", e))?;
    File::open(path).map_err(|e| failed("opening", e))
}

fn remove_stale(path: &Path) -> Result<(), FilesError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(FilesError::Path {
            what: "removing",
            path: path.to_owned(),
            source: e,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::Arc;

    use super::*;
    use crate::control::MAX_SHARES;
    use crate::sys::control_server::Server;
    use crate::sys::fs::places::Rules;
    use crate::sys::fs::shares::Shares;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("sockets")
    }

    /// A server in this process, on a thread of its own.
    fn served(run_dir: &Path) -> (FilesClient, Arc<Rules>) {
        let listener = control_listener(&run_dir.join(CONTROL_SOCKET)).expect("free");
        let (ours, theirs) = pair();
        let rules = Arc::new(Rules::default());
        let server = Server::new(listener, Arc::new(Shares::default()), Arc::clone(&rules));
        std::thread::spawn(move || server.run(Some(theirs)));
        (FilesClient::from_socket(ours).expect("socket"), rules)
    }

    #[test]
    fn all_shares_are_told_however_many_there_are() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (client, _) = served(dir.path());
        let folder = File::open(dir.path()).expect("open");
        let mut expected = Vec::new();
        for number in 0..MAX_SHARES {
            let id = ShareId::new(format!("{number:032x}")).expect("valid id");
            let label = format!("/home/ann/projects/service-{number}/{}", "\u{1}".repeat(60));
            client.add_share(&id, &folder, true, &label).expect("new");
            expected.push((id, label));
        }
        let next = FilesClient::take_over(dir.path());
        let next = next.expect("no error").expect("it lives");
        assert_eq!(next.pid().expect("it answers"), Some(std::process::id()));
        let status = next.status().expect("it answers");
        let told = status.shares.into_iter();
        let told: Vec<_> = told.map(|share| (share.id, share.label)).collect();
        assert_eq!(told, expected);
        assert!(!status.more);
        // One that is longer than the room for all is told all the same.
        let first = ShareId::new("-").expect("valid id");
        client.remove_share(&expected[0].0).expect("present");
        let label = "x".repeat(61 << 10);
        client
            .add_share(&first, &folder, true, &label)
            .expect("new");
        assert_eq!(next.status().expect("it answers").shares.len(), MAX_SHARES);
    }

    #[test]
    fn a_process_that_knows_no_new_lists_is_told_what_is_protected() {
        let (ours, theirs) = pair();
        let client = FilesClient::from_socket(ours).expect("socket");
        let older = std::thread::spawn(move || {
            let mut named = Vec::new();
            while let Ok((request, _)) = packet::receive::<serde_json::Value>(&theirs) {
                let reply = match request["request"].as_str() {
                    Some("protect") => {
                        named.push(request["name"].clone());
                        Reply::Done
                    }
                    _ => Reply::Refused {
                        code: RefusalCode::Malformed,
                        message: "unknown variant".to_owned(),
                    },
                };
                packet::send(&theirs, &reply, &[]).expect("it waits");
            }
            named
        });
        client.protect(&["/usr".into()]).expect("it is told");
        client.protect(&[]).expect("there is nothing to tell");
        drop(client);
        assert_eq!(older.join().expect("no panic"), ["usr"]);
    }

    #[test]
    fn any_place_can_be_protected_that_can_be_reached() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (client, rules) = served(dir.path());
        // Nothing is above it: no share can be a way round what is said of itself.
        client.protect(&["/".into()]).expect("nothing to do");
        assert!(rules.read_only.is_empty());
        let passage = dir.path().join("passage");
        std::fs::create_dir_all(passage.join("place")).expect("made");
        std::fs::set_permissions(&passage, PermissionsExt::from_mode(0o111)).expect("own");
        let places = [passage.join("place"), dir.path().join("no/where")];
        client.protect(&places).expect("protected");
        let above = passage.metadata().expect("present");
        assert!(
            rules
                .read_only
                .has_name((above.dev(), above.ino()), b"place")
        );
        std::fs::set_permissions(&passage, PermissionsExt::from_mode(0o700)).expect("own");
        // A list that cannot be completed leaves the one before.
        let cut = [dir.path().join("x"), "..".into()];
        client.protect(&cut).expect_err("no name");
        let place = (above.dev(), above.ino());
        assert!(rules.read_only.has_name(place, b"place"));
        client.protect(&[dir.path().join("x")]).expect("protected");
        assert!(!rules.read_only.has_name(place, b"place"));
        client.protect(&[]).expect("nothing is protected");
        assert!(rules.read_only.is_empty());
        let status = client.status().expect("it answers");
        assert_eq!(status.pid, std::process::id());
        client
            .hide(Path::new("/"))
            .expect_err("all would be hidden");
    }
}
