//! The daemon's end: starts a machine process or takes a running one over.
//!
//! One task reads the connection and hands out what comes; requests wait for their answer by
//! number. When the last [`Machine`] is dropped the connection closes, and the machine runs on.

use std::{
    collections::HashMap,
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream as StdUnixStream, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lighter_platform::sys::ProcessWatch;
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType},
};
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    channel::Channel,
    rundir::RunDir,
    wire::{Answer, Event, Request, Start, Want},
};
use crate::{ClientStream, Error, ExitReason, HandOverError, LaunchConfig, Secret, Status};

/// A byte stream to or from the guest; `shutdown` is half-close and crosses the link.
pub type GuestStream = UnixStream;

/// Streams the guest opened and nobody took yet; more are closed.
const INCOMING_BACKLOG: usize = 64;

/// How long a machine may take to start listening, or to let its lock go.
const ENDING: Duration = Duration::from_secs(5);
/// Time between two looks at it.
const POLL: Duration = Duration::from_millis(10);

/// A running machine. Clones are the same machine; dropping the last leaves it running.
#[derive(Clone, Debug)]
pub struct Machine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    link: Arc<Link>,
    secret: Secret,
    launched: Option<Arc<ProcessWatch>>,
    incoming: tokio::sync::Mutex<mpsc::Receiver<(u32, OwnedFd)>>,
    ended: watch::Receiver<Option<ExitReason>>,
    reader: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

type Reply = Result<Answer, (Error, Option<OwnedFd>)>;

#[derive(Debug)]
struct Link {
    channel: Channel,
    next_id: AtomicU64,
    /// `None` once the connection has ended: nobody would answer.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>,
}

impl Link {
    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Reply>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    /// Starts a machine process and, in it, the machine. Returns once the machine runs; the guest
    /// is not up yet.
    ///
    /// # Errors
    /// [`Error::AlreadyRunning`] when the lock is held (then [`Machine::take_over`] finds it),
    /// [`Error::Missing`] or [`Error::TooOld`] about the backend, [`Error::Spec`],
    /// [`Error::System`] with the name of what could not be opened. Nothing is left running.
    pub async fn launch(config: LaunchConfig) -> Result<Self, Error> {
        config.spec.validate()?;
        if config.network_socket.is_some() != config.spec.network.is_some() {
            return Err(Error::Spec(
                "there is not one socket for the network".into(),
            ));
        }
        if config.share_sockets.len() != config.spec.shares.len() {
            return Err(Error::Spec("there is not one socket for each share".into()));
        }
        let run = RunDir::open(&config.run_dir)?;
        let lock = run.lock()?;
        let mut fds = vec![lock, run.listen()?];
        fds.extend(open_parts(&config).await?);
        let (ours, theirs) = seqpacket_pair()?;
        let process = spawn(&config, theirs)?;
        let channel =
            Channel::new(ours).map_err(|e| Error::system("watch the machine's socket", e))?;
        fds.extend(config.share_sockets);
        fds.extend(config.network_socket);
        fds.extend(config.hold);
        let start = Start {
            spec: config.spec,
            secret: config.secret,
        };
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        channel.send(&start, &borrowed).await?;
        drop(fds);
        Self::attach(channel, process).await
    }

    /// Connects to the machine that holds the run directory's lock, if there is one; the daemon
    /// that had it before loses it.
    ///
    /// # Errors
    /// [`Error::System`] when the directory cannot be read, [`Error::Gone`] when something holds
    /// the lock and does not answer.
    pub async fn take_over(run_dir: &Path) -> Result<Option<Self>, Error> {
        let run = RunDir::open(run_dir)?;
        let deadline = Instant::now() + ENDING;
        loop {
            match run.lock() {
                Ok(_unused) => return Ok(None),
                Err(Error::AlreadyRunning) => {}
                Err(e) => return Err(e),
            }
            // A machine that is just starting does not listen yet, and one that is just ending no
            // longer answers: either is over in a moment.
            match Self::join_running(&run).await {
                Err(Error::Gone) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                result => return result.map(Some),
            }
        }
    }

    async fn join_running(run: &RunDir) -> Result<Self, Error> {
        let socket = run.connect()?.ok_or(Error::Gone)?;
        let channel =
            Channel::new(socket).map_err(|e| Error::system("watch the machine's socket", e))?;
        Self::attach(channel, None).await
    }

    async fn attach(channel: Channel, launched: Option<ProcessWatch>) -> Result<Self, Error> {
        let secret = match channel.receive::<Event>().await? {
            Some((Event::Attached { secret }, _)) => secret,
            Some((Event::Failed { error }, _)) => return Err(error),
            Some((other, _)) => {
                return Err(Error::Wire(format!("{other:?} before the attachment")));
            }
            None => return Err(Error::Gone),
        };
        let waiting = Mutex::new(Some(HashMap::new()));
        let link = Arc::new(Link {
            channel,
            next_id: AtomicU64::new(1),
            waiting,
        });
        let (incoming_in, incoming) = mpsc::channel(INCOMING_BACKLOG);
        let (ended_in, ended) = watch::channel(None);
        let reader = tokio::spawn(read(Arc::clone(&link), incoming_in, ended_in));
        let incoming = tokio::sync::Mutex::new(incoming);
        Ok(Self(Arc::new(Inner {
            link,
            secret,
            launched: launched.map(Arc::new),
            incoming,
            ended,
            reader,
        })))
    }

    /// Opens a stream to a port of the guest.
    ///
    /// # Errors
    /// [`Error::NotReady`] while the guest boots, [`Error::Refused`] while nothing listens there,
    /// [`Error::TooManyStreams`], [`Error::Gone`], [`Error::TakenOver`].
    pub async fn connect(&self, port: u32) -> Result<GuestStream, Error> {
        let (ours, theirs) =
            StdUnixStream::pair().map_err(|e| Error::system("make a stream", e))?;
        self.join(port, Vec::new(), theirs.into())
            .await
            .map_err(|(error, _)| error)?;
        ours.set_nonblocking(true)
            .map_err(|e| Error::system("make a stream", e))?;
        UnixStream::from_std(ours).map_err(|e| Error::system("watch a stream", e))
    }

    /// Gives a client's connected socket away: its bytes and half-closes go to a port of the guest
    /// and back without passing through this process again. The guest reads `first` (4 KiB at most)
    /// before the client's first byte.
    ///
    /// # Errors
    /// As [`Machine::connect`]; the socket comes back with no byte taken from it.
    pub async fn hand_over(
        &self,
        port: u32,
        first: Vec<u8>,
        stream: ClientStream,
    ) -> Result<(), HandOverError> {
        let kept = match stream.try_clone() {
            Ok(kept) => kept,
            Err(e) => {
                return Err(HandOverError {
                    error: Error::system("copy a socket", e),
                    stream,
                });
            }
        };
        match self.join(port, first, stream).await {
            Ok(()) => Ok(()),
            Err((error, _)) => Err(HandOverError {
                error,
                stream: kept,
            }),
        }
    }

    async fn join(
        &self,
        port: u32,
        first: Vec<u8>,
        stream: OwnedFd,
    ) -> Result<(), (Error, Option<OwnedFd>)> {
        self.request(Want::Join { port, first }, Some(stream))
            .await
            .map(drop)
    }

    /// The next stream the guest opened to the host, with the port it asked for. `None` once the
    /// machine has ended or was taken over.
    pub async fn incoming(&self) -> Option<(u32, GuestStream)> {
        let mut incoming = self.0.incoming.lock().await;
        loop {
            let (port, fd) = incoming.recv().await?;
            let stream = StdUnixStream::from(fd);
            let watched = stream
                .set_nonblocking(true)
                .and_then(|()| UnixStream::from_std(stream));
            // A stream that cannot be watched (no descriptors left) is closed: the guest sees it.
            if let Ok(stream) = watched {
                return Some((port, stream));
            }
        }
    }

    /// The secret of this boot.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0.secret
    }

    /// What the machine says about itself.
    ///
    /// # Errors
    /// [`Error::Gone`] or [`Error::TakenOver`].
    pub async fn status(&self) -> Result<Status, Error> {
        match self.request(Want::Status, None).await {
            Ok(Answer::Status { status }) => Ok(status),
            Ok(other) => Err(Error::Wire(format!("{other:?} as a status"))),
            Err((error, _)) => Err(error),
        }
    }

    /// Tells the machine that the guest said `bye`: its end will be [`ExitReason::Bye`].
    ///
    /// # Errors
    /// [`Error::Gone`] or [`Error::TakenOver`].
    pub async fn bye_seen(&self, reason: &str) -> Result<(), Error> {
        let want = Want::ByeSeen {
            reason: reason.to_owned(),
        };
        self.request(want, None)
            .await
            .map(drop)
            .map_err(|(error, _)| error)
    }

    /// Ends the machine at once, as if its power was cut. [`Machine::exited`] tells when it is over.
    ///
    /// # Errors
    /// [`Error::Gone`] or [`Error::TakenOver`].
    pub async fn kill(&self) -> Result<(), Error> {
        self.request(Want::Kill, None)
            .await
            .map(drop)
            .map_err(|(error, _)| error)
    }

    /// The machine process, where this process launched it. That of another daemon is known by its own word alone
    /// ([`Machine::status`]), which is no reason to end anything.
    #[must_use]
    pub fn launched(&self) -> Option<Arc<ProcessWatch>> {
        self.0.launched.clone()
    }

    /// Waits for the machine's end and says why. May be called often; the answer stays the same.
    pub async fn exited(&self) -> ExitReason {
        let mut ended = self.0.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(ExitReason::Vanished),
            Err(_) => ExitReason::Vanished,
        }
    }

    async fn request(&self, what: Want, fd: Option<OwnedFd>) -> Reply {
        let link = &self.0.link;
        let id = link.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        match link.waiting().as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err((self.over(), None)),
        };
        // The entry goes with this request however it ends, also when the caller drops it.
        let _entry = Entry { link, id };
        let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
        link.channel
            .send(&Request { id, what }, &fds)
            .await
            .map_err(|e| (e, None))?;
        drop(fd);
        answer.await.unwrap_or_else(|_| Err((self.over(), None)))
    }

    fn over(&self) -> Error {
        match *self.0.ended.borrow() {
            Some(ExitReason::TakenOver) => Error::TakenOver,
            _ => Error::Gone,
        }
    }
}

struct Entry<'a> {
    link: &'a Link,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.link.waiting().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

async fn read(
    link: Arc<Link>,
    incoming: mpsc::Sender<(u32, OwnedFd)>,
    ended: watch::Sender<Option<ExitReason>>,
) {
    let reason = loop {
        let (event, fds) = match link.channel.receive::<Event>().await {
            Ok(Some(packet)) => packet,
            Ok(None) => break ExitReason::Vanished,
            // Of another build of ours and not understood: whoever waits for it gives up by itself.
            Err(_) => continue,
        };
        let fd = fds.into_iter().next();
        match event {
            Event::Answer { id, result } => {
                let waiter = link
                    .waiting()
                    .as_mut()
                    .and_then(|waiting| waiting.remove(&id));
                if let Some(waiter) = waiter {
                    // A caller that left does not need its answer.
                    drop(waiter.send(result.map_err(|error| (error, fd))));
                }
            }
            Event::Incoming { port } => {
                if let Some(fd) = fd {
                    // With a full backlog the stream is closed here, and the guest sees that.
                    drop(incoming.try_send((port, fd)));
                }
            }
            Event::Exited { reason } => break reason,
            Event::TakenOver => break ExitReason::TakenOver,
            Event::Attached { .. } | Event::Failed { .. } => {}
        }
    };
    ended.send_replace(Some(reason));
    link.waiting().take();
}

fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|e| Error::system("make a socket", e))
}

/// Opens what the specification names: kernel, initramfs, console, disks, and their logs.
async fn open_parts(config: &LaunchConfig) -> Result<Vec<OwnedFd>, Error> {
    let open = |path: &Path, flags: OFlags| {
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
            .map_err(|e| Error::system(format!("open `{}`", path.display()), e))
    };
    let spec = &config.spec;
    let console = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
    let mut parts = vec![
        open(&spec.kernel, OFlags::RDONLY)?,
        open(&spec.initramfs, OFlags::RDONLY)?,
        open(&spec.console_log, console)?,
    ];
    for disk in &spec.disks {
        let access = if disk.read_only {
            OFlags::RDONLY
        } else {
            OFlags::RDWR
        };
        let file = open(&disk.path, access)?;
        if !disk.read_only {
            lock_disk(&file, &disk.path, ENDING).await?;
        }
        parts.push(file);
    }
    for log in spec.disks.iter().filter_map(|disk| disk.log.as_deref()) {
        // One that is there is another machine's, and may be all that is left of its disk.
        let access = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        parts.push(open(log, access)?);
    }
    Ok(parts)
}

/// Keeps a second machine, started from another run directory, from writing to the same disk. The
/// lock is the open file's: it lasts for as long as the machine has it, so one that was killed a
/// moment ago is waited for.
async fn lock_disk(file: &OwnedFd, path: &Path, patience: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            Err(Errno::WOULDBLOCK) => return Err(Error::DiskInUse(path.display().to_string())),
            Err(e) => return Err(Error::system(format!("lock `{}`", path.display()), e)),
        }
    }
}

/// Starts the machine process with the socket as its standard input.
fn spawn(config: &LaunchConfig, socket: OwnedFd) -> Result<Option<ProcessWatch>, Error> {
    let log = match &config.log {
        Some(log) => {
            Stdio::from(File::try_clone(log).map_err(|e| Error::system("copy the log", e))?)
        }
        None => Stdio::null(),
    };
    let mut child = Command::new(&config.exe)
        .args(&config.args)
        .current_dir("/")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(log)
        // Signals typed at the daemon's terminal are not for the machine.
        .process_group(0)
        .spawn()
        .map_err(|e| Error::system(format!("start `{}`", config.exe.display()), e))?;
    // Before anybody waits for it: until then its number is nobody else's.
    let process = ProcessWatch::of(child.id());
    // A thread of its own, which sleeps, so that the process does not stay behind as a zombie.
    let reaper = std::thread::Builder::new()
        .name("machine-reaper".into())
        .stack_size(64 << 10);
    reaper
        .spawn(move || drop(child.wait()))
        .map_err(|e| Error::system("start a thread", e))?;
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Disk, Secret, VmSpec};

    #[tokio::test]
    async fn a_disks_log_is_made_and_one_that_is_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["kernel", "initramfs", "disk", "disk.log"] {
            std::fs::write(at(name), name).unwrap();
        }
        let config = LaunchConfig {
            run_dir: at("run"),
            exe: at("lighter"),
            args: Vec::new(),
            spec: VmSpec {
                backend: Backend::Auto,
                cpus: 1,
                memory_bytes: crate::spec::MIN_MEMORY,
                huge_pages: false,
                kernel: at("kernel"),
                initramfs: at("initramfs"),
                cmdline_extra: Vec::new(),
                disks: vec![Disk {
                    path: at("disk"),
                    read_only: false,
                    log: Some(at("disk.log")),
                }],
                shares: Vec::new(),
                network: None,
                console_log: at("console"),
                console_limit: 4096,
            },
            secret: Secret::new([0; 32]),
            share_sockets: Vec::new(),
            network_socket: None,
            log: None,
            hold: Vec::new(),
        };
        let error = open_parts(&config).await.unwrap_err().to_string();
        assert!(error.contains("disk.log"), "{error}");
        assert_eq!(std::fs::read(at("disk.log")).unwrap(), b"disk.log");
        std::fs::remove_file(at("disk.log")).unwrap();
        // Kernel, initial file system, console, disk, log.
        assert_eq!(open_parts(&config).await.unwrap().len(), 5);
        assert_eq!(std::fs::read(at("disk.log")).unwrap(), b"");
    }

    #[tokio::test]
    async fn a_disk_has_one_machine_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        let open = || OwnedFd::from(File::create(&path).unwrap());
        let first = open();
        lock_disk(&first, &path, ENDING).await.unwrap();
        let handed_on = first.try_clone().unwrap();
        drop(first);
        let second = open();
        assert!(matches!(
            lock_disk(&second, &path, Duration::ZERO).await,
            Err(Error::DiskInUse(_))
        ));
        drop(handed_on);
        lock_disk(&second, &path, ENDING).await.unwrap();
    }
}
