//! The thread of a device that has one: it waits for doorbells and lets the device serve its rings.
//!
//! The thread is there before the guest runs, so that no thread is started once the process is confined. It has no
//! timer: without a doorbell it sleeps. It serves a ring in turns, so that it hears of a reset whatever the guest does.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod in_place;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use lighter_platform::sys::threads::{self, Role};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use crate::device::{Activation, Device, Identity, Trouble};
use crate::ring::{BadRing, Memory, Ring};

/// Chains served before commands and other rings are looked at again.
const TURN: u16 = 64;

/// What a device does with its rings.
pub trait Handler: Send + 'static {
    /// What that takes.
    const ROLE: Role;

    /// Serves what the guest has made available in this ring, until [`Ring::pop`] gives no more.
    ///
    /// # Errors
    /// When the guest broke the rules: the device stops.
    fn serve(&mut self, index: usize, ring: &mut Ring, memory: &Arc<Memory>)
    -> Result<(), BadRing>;

    /// Looks at work that it had given away; called after [`Waker::wake`].
    ///
    /// # Errors
    /// As [`Handler::serve`].
    fn woken(&mut self, _rings: &mut [Option<Ring>], _memory: &Memory) -> Result<(), BadRing> {
        Ok(())
    }

    /// Ends all work on the guest's memory.
    fn stop(&mut self) {}
}

/// Wakes a device's thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// One that nobody listens to yet.
    ///
    /// # Errors
    /// When the system gives no descriptor.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(rustix::event::eventfd(0, flags)?)))
    }

    /// Lets [`Handler::woken`] be called.
    pub fn wake(&self) {
        // A full counter means that the thread is to wake already.
        _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    fn clear(&self) {
        _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

enum Command {
    Start(Box<Activation>, mpsc::Sender<Result<(), BadRing>>),
    Stop(mpsc::Sender<()>),
}

/// A device that is its thread and what it is.
#[derive(Debug)]
pub struct Served {
    identity: Identity,
    service: Service,
}

impl Served {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub(crate) fn new(
        identity: Identity,
        name: &str,
        waker: Waker,
        handler: impl Handler,
    ) -> io::Result<Self> {
        let service = Service::spawn(name, waker, handler)?;
        Ok(Self { identity, service })
    }
}

impl Device for Served {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn activate(&mut self, activation: Activation) -> Result<(), BadRing> {
        self.service.start(activation)
    }

    fn reset(&mut self) {
        self.service.stop();
    }
}

/// A device's thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Service {
    commands: Option<mpsc::Sender<Command>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn spawn<H: Handler>(name: &str, waker: Waker, handler: H) -> io::Result<Self> {
        let (commands, inbox) = mpsc::channel();
        let mut worker = Worker {
            handler,
            inbox,
            waker: waker.clone(),
            running: None,
        };
        let thread = threads::spawn(name, H::ROLE, move || worker.run())?;
        Ok(Self {
            commands: Some(commands),
            waker,
            thread: Some(thread),
        })
    }

    /// Starts serving.
    ///
    /// # Errors
    /// When a ring is not as it should be.
    pub fn start(&self, activation: Activation) -> Result<(), BadRing> {
        self.ask(|reply| Command::Start(Box::new(activation), reply))
            .unwrap_or(Err(BadRing))
    }

    /// Stops serving; when this returns, nothing touches the guest's memory.
    pub fn stop(&self) {
        self.ask(Command::Stop);
    }

    fn ask<T>(&self, command: impl FnOnce(mpsc::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = mpsc::channel();
        self.commands.as_ref()?.send(command(reply)).ok()?;
        self.waker.wake();
        answer.recv().ok()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.commands = None;
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add to it.
            drop(thread.join());
        }
    }
}

struct Running {
    memory: Arc<Memory>,
    rings: Vec<Option<Ring>>,
    /// Rings whose turn ended before they were empty: nobody rings for what is in them.
    more: Vec<usize>,
    trouble: Trouble,
}

struct Worker<H> {
    handler: H,
    inbox: mpsc::Receiver<Command>,
    waker: Waker,
    running: Option<Running>,
}

impl<H: Handler> Worker<H> {
    fn run(&mut self) {
        loop {
            let (woken, rung) = match self.wait(None) {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "a device cannot wait for its doorbells");
                    break;
                }
            };
            if woken && !self.woken() {
                break;
            }
            self.serve(&rung);
        }
        self.handler.stop();
    }

    /// Waits, for at most so long: whether it was woken, and which rings are to be served.
    fn wait(&self, most: Option<&Timespec>) -> rustix::io::Result<(bool, Vec<usize>)> {
        let mut fds = vec![PollFd::new(&*self.waker.0, PollFlags::IN)];
        let mut indexes = Vec::new();
        for (index, ring) in self.running.iter().flat_map(Running::rings) {
            fds.push(PollFd::from_borrowed_fd(ring, PollFlags::IN));
            indexes.push(index);
        }
        let more = self
            .running
            .as_ref()
            .map_or(&[][..], |running| &running.more);
        let now = Timespec::default();
        let most = if more.is_empty() { most } else { Some(&now) };
        rustix::event::poll(&mut fds, most)?;
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let rung = indexes.into_iter().zip(fds.iter().skip(1));
        let rung = rung.filter(|(index, fd)| ready(fd) || more.contains(index));
        let rung = rung.map(|(index, _)| index).collect();
        Ok((fds.first().is_some_and(ready), rung))
    }

    /// Handles commands and finished work; `false` is the end.
    fn woken(&mut self) -> bool {
        // Cleared first: what comes meanwhile wakes again.
        self.waker.clear();
        if let Some(running) = &mut self.running
            && self
                .handler
                .woken(&mut running.rings, &running.memory)
                .is_err()
        {
            self.give_up();
        }
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Start(activation, reply)) => answer(&reply, self.start(*activation)),
                Ok(Command::Stop(reply)) => {
                    self.running = None;
                    self.handler.stop();
                    answer(&reply, ());
                }
                Err(mpsc::TryRecvError::Empty) => return true,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn start(&mut self, activation: Activation) -> Result<(), BadRing> {
        let memory = activation.memory;
        let ring = |start: crate::device::Start| {
            Ring::new(&memory, start.queue, start.kick, Some(start.call))
        };
        let rings = activation.rings.into_iter();
        let rings = rings.map(|start| start.map(ring).transpose());
        self.running = Some(Running {
            rings: rings.collect::<Result<_, _>>()?,
            more: Vec::new(),
            memory,
            trouble: activation.trouble,
        });
        Ok(())
    }

    fn serve(&mut self, rung: &[usize]) {
        for index in rung {
            let Some(running) = &mut self.running else {
                return;
            };
            let Some(Some(ring)) = running.rings.get_mut(*index) else {
                continue;
            };
            ring.clear_kick();
            running.more.retain(|more| more != index);
            match serve(&mut self.handler, *index, ring, &running.memory) {
                Ok(false) => {}
                Ok(true) => running.more.push(*index),
                Err(BadRing) => self.give_up(),
            }
        }
    }

    /// The guest broke the rules: nothing of it is touched until it has reset the device.
    fn give_up(&mut self) {
        if let Some(running) = self.running.take() {
            self.handler.stop();
            running.trouble.report("a ring is malformed");
        }
    }
}

/// Serves a ring for one turn, without doorbells meanwhile; whether there may be more in it.
fn serve(
    handler: &mut impl Handler,
    index: usize,
    ring: &mut Ring,
    memory: &Arc<Memory>,
) -> Result<bool, BadRing> {
    ring.begin_turn(TURN);
    // A look that finds nothing counts as well: the guest may take back what it made available.
    for _ in 0..TURN {
        ring.disable_kicks(memory)?;
        handler.serve(index, ring, memory)?;
        ring.notify(memory)?;
        if ring.turn_is_over() {
            break;
        }
        if !ring.enable_kicks(memory)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Running {
    fn rings(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let rings = self.rings.iter().enumerate();
        rings.filter_map(|(index, ring)| Some((index, ring.as_ref()?.kick())))
    }
}

fn answer<T>(reply: &mpsc::Sender<T>, value: T) {
    // Whoever asked waits for it; if its thread ended meanwhile, nobody misses the answer.
    drop(reply.send(value));
}
