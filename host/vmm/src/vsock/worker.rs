//! The device's thread, and the two handles that send it commands.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use lighter_platform::sys::threads;
use rustix::{
    event::{EventfdFlags, Timespec, epoll},
    io::Errno,
};
use virtio_queue::Queue;

use crate::device::Trouble;
use crate::ring::{BadRing, Ring};
use crate::roles;
use crate::vhost_user::Rings;

use super::{
    ConnectDone, ConnectError, Incoming, RING_RX, RING_TX, device::Device, guest::Memory, table::Id,
};

/// Events taken from the kernel at a time.
const EVENTS: usize = 256;
const TOKEN_COMMANDS: u64 = u64::MAX;
const TOKEN_RX: u64 = u64::MAX - 1;
const TOKEN_TX: u64 = u64::MAX - 2;

/// The name of a stream's socket in the epoll set. A table has far fewer than 2^32 - 3 slots, so
/// it never meets the names above.
pub fn token(id: Id) -> u64 {
    id.token()
}

enum Command {
    Connect {
        port: u32,
        first: Vec<u8>,
        socket: OwnedFd,
        done: ConnectDone,
    },
    Listen {
        port: u32,
        incoming: Option<Incoming>,
    },
    SetMemory {
        memory: Arc<Memory>,
        reply: mpsc::Sender<()>,
    },
    StartRing {
        index: usize,
        start: Box<RingStart>,
        reply: mpsc::Sender<Result<(), BadRing>>,
    },
    StopRing {
        index: usize,
        reply: mpsc::Sender<Option<u16>>,
    },
    SetCall {
        index: usize,
        call: Option<OwnedFd>,
    },
    SetTrouble(Trouble),
    ForgetGuest {
        reply: mpsc::Sender<()>,
    },
    Stop,
}

struct RingStart {
    queue: Queue,
    kick: OwnedFd,
    call: Option<OwnedFd>,
}

#[derive(Debug, Default)]
struct Shared {
    ready: AtomicBool,
    streams: AtomicU32,
}

#[derive(Clone)]
struct Sender {
    commands: mpsc::Sender<Command>,
    wake: Arc<OwnedFd>,
}

impl Sender {
    fn send(&self, command: Command) -> Result<(), Command> {
        self.commands.send(command).map_err(|returned| returned.0)?;
        // A full counter means that the thread is to wake already.
        _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        Ok(())
    }
}

/// A device and its thread. Dropping it ends both and every stream.
pub struct Vsock {
    sender: Sender,
    guest_cid: u64,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Vsock {
    /// Starts the thread of a device that has no memory and rings yet.
    ///
    /// # Errors
    /// When the system gives no descriptor or thread.
    pub fn spawn(guest_cid: u64) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = Arc::new(rustix::event::eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?);
        let data = epoll::EventData::new_u64(TOKEN_COMMANDS);
        epoll::add(&epoll, &*wake, data, epoll::EventFlags::IN)?;
        let (commands, inbox) = mpsc::channel();
        let sender = Sender {
            commands,
            wake: Arc::clone(&wake),
        };
        let shared = Arc::new(Shared::default());
        let device = Device::new(guest_cid, epoll);
        let mut worker = Worker {
            device,
            inbox,
            wake,
            shared: Arc::clone(&shared),
        };
        let thread = threads::spawn("vsock", roles::STREAMS, move || worker.run())?;
        Ok(Self {
            sender,
            guest_cid,
            shared,
            thread: Some(thread),
        })
    }

    /// The side of the transport.
    #[must_use]
    pub fn transport(&self) -> Transport {
        Transport {
            sender: self.sender.clone(),
            guest_cid: self.guest_cid,
        }
    }

    /// Joins a connected stream socket to a port of the guest, which reads `first` before anything
    /// of the socket's.
    pub fn connect(&self, port: u32, first: Vec<u8>, socket: OwnedFd, done: ConnectDone) {
        if let Err(Command::Connect { socket, done, .. }) = self.sender.send(Command::Connect {
            port,
            first,
            socket,
            done,
        }) {
            done(Err((ConnectError::Gone, socket)));
        }
    }

    /// Lets the guest connect to a port of the host, or no longer with `None`.
    pub fn listen(&self, port: u32, incoming: Option<Incoming>) {
        // Without its thread the device accepts nothing anyway.
        drop(self.sender.send(Command::Listen { port, incoming }));
    }

    /// Whether the guest's driver is up.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.shared.ready.load(Ordering::Relaxed)
    }

    /// How many streams there are.
    #[must_use]
    pub fn streams(&self) -> u32 {
        self.shared.streams.load(Ordering::Relaxed)
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        drop(self.sender.send(Command::Stop));
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add to it.
            drop(thread.join());
        }
    }
}

/// What a front tells the device.
#[derive(Clone)]
pub struct Transport {
    sender: Sender,
    guest_cid: u64,
}

impl Rings for Transport {
    const COUNT: usize = super::RINGS;
    const FEATURES: u64 = 0;

    fn config(&self) -> Vec<u8> {
        self.guest_cid.to_le_bytes().to_vec()
    }

    fn set_features(&self, _: u64) {}

    fn set_memory(&self, memory: Arc<Memory>) {
        self.ask(|reply| Command::SetMemory { memory, reply });
    }

    fn start_ring(
        &self,
        index: usize,
        queue: Queue,
        kick: OwnedFd,
        call: Option<OwnedFd>,
    ) -> Result<(), BadRing> {
        let start = Box::new(RingStart { queue, kick, call });
        self.ask(|reply| Command::StartRing {
            index,
            start,
            reply,
        })
        .unwrap_or(Err(BadRing))
    }

    /// Streams stay: it may be a pause.
    fn stop_ring(&self, index: usize) -> Option<u16> {
        self.ask(|reply| Command::StopRing { index, reply })
            .flatten()
    }

    fn set_call(&self, index: usize, call: Option<OwnedFd>) {
        drop(self.sender.send(Command::SetCall { index, call }));
    }

    fn set_trouble(&self, trouble: Trouble) {
        drop(self.sender.send(Command::SetTrouble(trouble)));
    }

    /// Ends all streams.
    fn forget_guest(&self) {
        self.ask(|reply| Command::ForgetGuest { reply });
    }
}

impl Transport {
    fn ask<T>(&self, command: impl FnOnce(mpsc::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = mpsc::channel();
        self.sender.send(command(reply)).ok()?;
        answer.recv().ok()
    }
}

struct Worker {
    device: Device,
    inbox: mpsc::Receiver<Command>,
    wake: Arc<OwnedFd>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(&mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let mut more = false;
        loop {
            let timeout = self.timeout(more);
            match epoll::wait(
                self.device.epoll(),
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the vsock device cannot wait for events");
                    break;
                }
            }
            let mut commands = false;
            for event in events.drain(..) {
                match event.data.u64() {
                    TOKEN_COMMANDS => commands = true,
                    TOKEN_RX => self.clear_kick(RING_RX),
                    TOKEN_TX => self.clear_kick(RING_TX),
                    token => self.device.socket_event(Id::from_token(token), event.flags),
                }
            }
            if commands && !self.commands() {
                break;
            }
            self.device.expire(Instant::now());
            more = self.device.pump();
            self.shared
                .ready
                .store(self.device.ready(), Ordering::Relaxed);
            self.shared
                .streams
                .store(self.device.streams() as u32, Ordering::Relaxed);
        }
        self.device.forget_guest();
        // Requests that came too late are answered, too.
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Connect { socket, done, .. } = command {
                done(Err((ConnectError::Gone, socket)));
            }
        }
    }

    fn timeout(&mut self, more: bool) -> Option<Timespec> {
        let wait = if more {
            Duration::ZERO
        } else {
            let deadline = self.device.next_deadline()?;
            // One millisecond late rather than early, which would be a turn for nothing.
            deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1)
        };
        Timespec::try_from(wait).ok()
    }

    fn clear_kick(&self, index: usize) {
        if let Some(ring) = &self.device.rings[index] {
            ring.clear_kick();
        }
    }

    /// Handles what is in the inbox; `false` is the end.
    fn commands(&mut self) -> bool {
        // Cleared first: a command that comes meanwhile rings again.
        _ = rustix::io::read(&self.wake, &mut [0; 8]);
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Connect {
                    port,
                    first,
                    socket,
                    done,
                } => self.device.connect(port, first, socket, done),
                Command::Listen { port, incoming } => self.device.listen(port, incoming),
                Command::SetMemory { memory, reply } => {
                    self.device.memory = Some(memory);
                    answer(&reply, ());
                }
                Command::StartRing {
                    index,
                    start,
                    reply,
                } => answer(&reply, self.start_ring(index, *start)),
                Command::StopRing { index, reply } => answer(&reply, self.stop_ring(index)),
                Command::SetCall { index, call } => {
                    if let Some(Some(ring)) = self.device.rings.get_mut(index) {
                        ring.set_call(call);
                    }
                }
                Command::SetTrouble(trouble) => self.device.trouble = Some(trouble),
                Command::ForgetGuest { reply } => {
                    self.device.forget_guest();
                    answer(&reply, ());
                }
                Command::Stop => return false,
            }
        }
        true
    }

    fn start_ring(&mut self, index: usize, start: RingStart) -> Result<(), BadRing> {
        let memory = self.device.memory.clone().ok_or(BadRing)?;
        let token = match index {
            RING_RX => TOKEN_RX,
            RING_TX => TOKEN_TX,
            _ => return Err(BadRing),
        };
        self.stop_ring(index);
        let ring = Ring::new(&memory, start.queue, start.kick, start.call)?;
        let data = epoll::EventData::new_u64(token);
        epoll::add(
            self.device.epoll(),
            ring.kick(),
            data,
            epoll::EventFlags::IN,
        )
        .map_err(|_| BadRing)?;
        self.device.rings[index] = Some(ring);
        Ok(())
    }

    fn stop_ring(&mut self, index: usize) -> Option<u16> {
        let ring = self.device.rings.get_mut(index)?.take()?;
        // The kick may be open in the monitor, too: closing it here would not be enough.
        _ = epoll::delete(self.device.epoll(), ring.kick().as_fd());
        Some(ring.base())
    }
}

fn answer<T>(reply: &mpsc::Sender<T>, value: T) {
    // Whoever asked waits for it; if its thread ended meanwhile, nobody misses the answer.
    drop(reply.send(value));
}
