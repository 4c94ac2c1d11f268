//! The machine process: runs one virtual machine and nothing else.
//!
//! ```text
//!   daemon ──start socket (stdin): Start + descriptors──► this process ──► Hypervisor ──► Vm
//!      └────────────── machine.sock: Request / Event ◄───────┘
//! ```
//!
//! Started by [`crate::Machine::launch`]. It opens nothing by name but the monitor's program: what
//! it needs comes over its start socket, and its standard error is its log. It holds the lock of the
//! run directory for as long as it lives, and outlives the daemon; the daemon that connects last is
//! the active one. It ends with the machine, and the machine ends with it.

use std::{
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lighter_platform::BoundedLog;
use lighter_platform::sys::{sandbox::give_up_all_but, threads};
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType},
    thread::CapabilitySet,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};

use super::{
    channel::Channel,
    choice, roles, sandbox,
    wire::{Answer, Event, MAX_FIRST, Request, Start, Want},
};
use crate::{Error, ExitReason, Secret, Status, Vm, VmParts};

/// The port on which the guest may call the host; see the protocol's list of ports.
const GUEST_CALLS: u32 = lighter_protocol::port::HOST;
/// Streams the guest opened that are on their way to the daemon; more are refused.
const MAX_CALLS: usize = 64;
/// How long a daemon has to take the news of the machine's end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A packet for the active daemon.
struct Packet {
    event: Event,
    fd: Option<OwnedFd>,
    /// Whether it counts among the calls on their way.
    call: bool,
}

impl Packet {
    fn new(event: Event) -> Self {
        Self {
            event,
            fd: None,
            call: false,
        }
    }
}

type Outbox = mpsc::UnboundedSender<Packet>;

/// What the loop of this process reacts to.
enum Happening {
    Request(u64, Request, Vec<OwnedFd>),
    Disconnected(u64),
    Ended(ExitReason),
}

/// The active daemon, as the device's thread sees it.
#[derive(Clone, Default)]
struct Active(Arc<Mutex<Option<Outbox>>>, Arc<AtomicUsize>);

impl Active {
    fn set(&self, outbox: Option<Outbox>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = outbox;
    }

    fn send(&self, packet: Packet) -> bool {
        let outbox = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        outbox
            .as_ref()
            .is_some_and(|outbox| outbox.send(packet).is_ok())
    }

    /// A stream for a call of the guest: one end goes to the daemon, the other is returned.
    fn accept_call(&self, port: u32) -> Option<OwnedFd> {
        if self.1.load(Ordering::Relaxed) >= MAX_CALLS {
            return None;
        }
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .ok()?;
        self.1.fetch_add(1, Ordering::Relaxed);
        let packet = Packet {
            event: Event::Incoming { port },
            fd: Some(theirs),
            call: true,
        };
        if self.send(packet) {
            return Some(ours);
        }
        self.1.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

/// Runs the machine process; its standard input is the start socket.
#[must_use]
pub fn process_main() -> ExitCode {
    // Without a descriptor for its log, a machine can still run.
    if let Ok(log) = BoundedLog::inherited() {
        let _ = tracing_subscriber::fmt()
            .with_writer(Mutex::new(log))
            .with_ansi(false)
            .try_init();
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the machine process ends");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let system = |e: std::io::Error| Error::system("start the machine process", e);
    give_up_all_but(CapabilitySet::empty()).map_err(system)?;
    threads::confine();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system)?;
    let socket = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(system)?;
    // The runtime runs on this, the main thread: QEMU is tied to the thread that starts it.
    runtime.block_on(async {
        let channel = Channel::new(socket).map_err(system)?;
        let Some((start, fds)) = channel.receive::<Start>().await? else {
            return Ok(());
        };
        match Process::begin(start, fds) {
            Ok((process, vm_end)) => process.serve(channel, vm_end).await,
            Err(error) => {
                channel
                    .send(
                        &Event::Failed {
                            error: error.clone(),
                        },
                        &[],
                    )
                    .await?;
                Err(error)
            }
        }
    })
}

struct Process {
    vm: Arc<dyn Vm>,
    backend: &'static str,
    secret: Secret,
    listener: AsyncFd<OwnedFd>,
    active: Active,
    started: Instant,
    bye: Option<String>,
    /// Held, not used: the lock and what others watch for the machine's end.
    held: Vec<OwnedFd>,
}

impl Process {
    fn begin(
        start: Start,
        fds: Vec<OwnedFd>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Happening>), Error> {
        let (mut parts, listener, held) = sort(&start, fds)?;
        let choice::Chosen {
            hypervisor,
            program,
            virtualisation,
        } = choice::choose(start.spec.backend)?;
        parts.virtualisation = virtualisation;
        let readable = [parts.kernel.as_fd(), parts.initramfs.as_fd()];
        // Before the first thread: threads and children inherit it.
        sandbox::confine_files(program.as_deref(), &readable)
            .map_err(|e| Error::system("confine the machine process", e))?;
        let vm: Arc<dyn Vm> = Arc::from(hypervisor.create(&start.spec, parts)?);
        let active = Active::default();
        let calls = active.clone();
        vm.listen(
            GUEST_CALLS,
            Some(Box::new(move |port| calls.accept_call(port))),
        );
        let (happened, happenings) = mpsc::unbounded_channel();
        let waiting = Arc::clone(&vm);
        let wait = move || drop(happened.send(Happening::Ended(waiting.wait())));
        threads::spawn("wait", roles::WAIT, wait)
            .map_err(|e| Error::system("start a thread", e))?;
        // The last thread and QEMU were started then: nothing new begins after that.
        vm.start_with(&mut || {
            sandbox::confine_control().map_err(|e| Error::system("confine the machine process", e))
        })?;
        let process = Self {
            vm,
            backend: hypervisor.name(),
            secret: start.secret,
            listener,
            active,
            started: Instant::now(),
            bye: None,
            held,
        };
        Ok((process, happenings))
    }

    async fn serve(
        mut self,
        first: Channel,
        mut vm_end: mpsc::UnboundedReceiver<Happening>,
    ) -> Result<(), Error> {
        let (happened, mut happenings) = mpsc::unbounded_channel();
        let mut number = 0;
        let mut connection = Some(self.attach(first, number, &happened));
        let reason = loop {
            let happening = tokio::select! {
                Some(end) = vm_end.recv() => end,
                Some(happening) = happenings.recv() => happening,
                channel = accept(&self.listener) => {
                    if let Some(old) = connection.take() {
                        self.active.send(Packet::new(Event::TakenOver));
                        old.close();
                    }
                    number += 1;
                    connection = Some(self.attach(channel, number, &happened));
                    continue;
                }
            };
            match happening {
                Happening::Request(of, request, fds) if of == number => self.handle(request, fds),
                Happening::Disconnected(of) if of == number => {
                    self.active.set(None);
                    connection = None;
                }
                Happening::Ended(reason) => break reason,
                // From a daemon that was replaced meanwhile.
                Happening::Request(..) | Happening::Disconnected(_) => {}
            }
        };
        let reason = match (self.bye.take(), reason) {
            (Some(reason), ExitReason::Crash { .. }) => ExitReason::Bye { reason },
            (_, reason) => reason,
        };
        tracing::info!(?reason, "the machine ended");
        // Whoever hears of the end may start the next machine at once: the lock is free by then.
        drop((self.listener, self.held));
        self.active.send(Packet::new(Event::Exited { reason }));
        self.active.set(None);
        if let Some(connection) = connection {
            _ = tokio::time::timeout(LAST_WORDS, connection.writer).await;
        }
        Ok(())
    }

    /// Makes a connection the active one.
    fn attach(
        &self,
        channel: Channel,
        number: u64,
        happened: &mpsc::UnboundedSender<Happening>,
    ) -> Connection {
        let (outbox, packets) = mpsc::unbounded_channel();
        // The first packet of every connection.
        _ = outbox.send(Packet::new(Event::Attached {
            secret: self.secret.clone(),
        }));
        self.active.set(Some(outbox));
        let channel = Arc::new(channel);
        let writer = tokio::spawn(write(
            Arc::clone(&channel),
            packets,
            Arc::clone(&self.active.1),
        ));
        let reader = tokio::spawn(read(channel, number, happened.clone()));
        Connection { reader, writer }
    }

    fn handle(&mut self, request: Request, fds: Vec<OwnedFd>) {
        let id = request.id;
        let result = match request.what {
            Want::Join { port, first } => return self.join(id, port, first, fds),
            Want::Status => Ok(Answer::Status {
                status: self.status(),
            }),
            Want::Kill => {
                self.vm.kill();
                Ok(Answer::Done)
            }
            Want::ByeSeen { reason } => {
                self.bye = Some(reason);
                Ok(Answer::Done)
            }
        };
        self.active.send(Packet::new(Event::Answer { id, result }));
    }

    fn join(&self, id: u64, port: u32, first: Vec<u8>, fds: Vec<OwnedFd>) {
        let Some(stream) = fds.into_iter().next() else {
            // The kernel drops a descriptor for which this process has no room.
            let result = Err(Error::TooManyStreams);
            self.active.send(Packet::new(Event::Answer { id, result }));
            return;
        };
        let active = self.active.clone();
        let done = move |outcome: Result<(), (Error, OwnedFd)>| {
            let (result, fd) = match outcome {
                Ok(()) => (Ok(Answer::Done), None),
                Err((error, fd)) => (Err(error), Some(fd)),
            };
            active.send(Packet {
                event: Event::Answer { id, result },
                fd,
                call: false,
            });
        };
        if first.len() > MAX_FIRST {
            let cause = format!("{} bytes are to come before its own", first.len());
            return done(Err((Error::system("join a stream", cause), stream)));
        }
        self.vm.connect(port, first, stream, Box::new(done));
    }

    fn status(&self) -> Status {
        let seen = self.vm.observe();
        Status {
            backend: self.backend.into(),
            backend_version: seen.version,
            accelerator: seen.accelerator,
            pid: std::process::id(),
            vm_pid: seen.vm_pid,
            guest_ready: seen.guest_ready,
            streams: seen.streams,
            disk_full: seen.disk_full,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The two tasks of a connection. The writer ends when its outbox is dropped and empty.
struct Connection {
    reader: tokio::task::JoinHandle<()>,
    writer: tokio::task::JoinHandle<()>,
}

impl Connection {
    /// Stops listening; what is to be said is still said.
    fn close(self) {
        self.reader.abort();
    }
}

async fn write(
    channel: Arc<Channel>,
    mut packets: mpsc::UnboundedReceiver<Packet>,
    calls: Arc<AtomicUsize>,
) {
    while let Some(packet) = packets.recv().await {
        let fds: Vec<_> = packet.fd.iter().map(AsFd::as_fd).collect();
        // A daemon that is gone is noticed by the reader.
        _ = channel.send(&packet.event, &fds).await;
        if packet.call {
            calls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

async fn read(channel: Arc<Channel>, number: u64, happened: mpsc::UnboundedSender<Happening>) {
    loop {
        match channel.receive::<Request>().await {
            Ok(Some((request, fds))) => _ = happened.send(Happening::Request(number, request, fds)),
            Ok(None) => break,
            Err(error) => tracing::warn!(%error, "a request of the daemon is not understood"),
        }
    }
    _ = happened.send(Happening::Disconnected(number));
}

/// The next daemon; only the user's own is accepted.
async fn accept(listener: &AsyncFd<OwnedFd>) -> Channel {
    loop {
        let accepted = listener
            .async_io(Interest::READABLE, |fd| {
                Ok(rustix::net::accept_with(
                    fd,
                    SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                )?)
            })
            .await;
        let socket = match accepted {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "a daemon could not be accepted");
                // Out of descriptors, most likely: the next moment may be better.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let same_user = rustix::net::sockopt::socket_peercred(&socket)
            .is_ok_and(|peer| peer.uid == rustix::process::geteuid());
        if same_user && let Ok(channel) = Channel::new(socket) {
            return channel;
        }
    }
}

type Sorted = (VmParts, AsyncFd<OwnedFd>, Vec<OwnedFd>);

/// Sorts what came beside the start by its place; see [`Start`].
fn sort(start: &Start, fds: Vec<OwnedFd>) -> Result<Sorted, Error> {
    let missing = || Error::Wire("descriptors are missing beside the start".into());
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(missing);
    let lock = next()?;
    let listener = super::channel::watch(next()?)
        .map_err(|e| Error::system("watch the machine's socket", e))?;
    let (kernel, initramfs, console) = (next()?, next()?, next()?);
    let disks = start
        .spec
        .disks
        .iter()
        .map(|_| next())
        .collect::<Result<_, _>>()?;
    let logs = start.spec.disks.iter().filter(|disk| disk.log.is_some());
    let disk_logs = logs.map(|_| next()).collect::<Result<_, _>>()?;
    let shares = start
        .spec
        .shares
        .iter()
        .map(|_| next())
        .collect::<Result<_, _>>()?;
    let network = start.spec.network.map(|_| next()).transpose()?;
    let mut held: Vec<_> = fds.collect();
    held.push(lock);
    Ok((
        VmParts {
            kernel,
            initramfs,
            disks,
            disk_logs,
            shares,
            network,
            console,
            // Opened by this process itself, once it has chosen.
            virtualisation: None,
        },
        listener,
        held,
    ))
}
