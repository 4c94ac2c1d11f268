//! The network card: the guest's rings on one side, the router on the other, one thread between them.
//!
//! ```text
//!   kick of a ring ─┐
//!   socket's event ─┼─► one thread: frames out, events, what is due, frames in; one word to the guest
//!   deadline       ─┤
//!   command        ─┘   (of the front that QEMU talks to, and of the daemon)
//! ```
//!
//! Never blocks but to wait for one of these.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use lighter_vmm::ring::{BadRing, Memory, Ring};
use lighter_vmm::vhost_user::Rings;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use virtio_bindings::bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MRG_RXBUF,
};
use virtio_queue::Queue;

use super::rings::{self, LONGEST, ToGuest};
use crate::nat::plan::Plan;
use crate::nat::{Limits, Nat};

const RINGS: usize = 2;
const TO_GUEST: usize = 0;
const FROM_GUEST: usize = 1;
/// Names in the set of what is waited for; those of the router's sockets are small numbers.
const COMMANDS: Token = Token(usize::MAX);
const fn kick(index: usize) -> Token {
    Token(usize::MAX - 1 - index)
}

/// Frames that are taken from the guest before others have their turn.
const TURN: usize = 256;

enum Command {
    Features(u64),
    Memory(Arc<Memory>),
    Start {
        index: usize,
        ring: Box<(Queue, OwnedFd, Option<OwnedFd>)>,
        reply: mpsc::Sender<Result<(), BadRing>>,
    },
    Stop {
        index: usize,
        reply: mpsc::Sender<Option<u16>>,
    },
    Call {
        index: usize,
        call: Option<OwnedFd>,
    },
    Ask(Box<dyn FnOnce(&mut Nat) + Send>),
}

/// What tells the card what to do.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    waker: Arc<Waker>,
}

impl Handle {
    fn send(&self, command: Command) {
        // Without its thread the process is at its end.
        if self.commands.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "the card cannot be woken");
        }
    }

    fn ask<T>(&self, command: impl FnOnce(mpsc::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = mpsc::channel();
        self.send(command(reply));
        answer.recv().ok()
    }

    /// Does something with the router; nothing where the card has ended.
    pub fn with_nat<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Nat) -> T + Send + 'static,
    ) -> Option<T> {
        self.ask(|reply| {
            Command::Ask(Box::new(move |nat| {
                // Whoever asked may have gone.
                let _ = reply.send(work(nat));
            }))
        })
    }
}

impl Rings for Handle {
    const COUNT: usize = RINGS;
    const FEATURES: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF
        | 1 << VIRTIO_NET_F_CSUM
        | 1 << VIRTIO_NET_F_HOST_TSO4
        | 1 << VIRTIO_NET_F_HOST_TSO6
        | 1 << VIRTIO_NET_F_GUEST_CSUM
        | 1 << VIRTIO_NET_F_GUEST_TSO4
        | 1 << VIRTIO_NET_F_GUEST_TSO6;

    /// QEMU has it: the hardware address is its own business.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    fn set_features(&self, features: u64) {
        self.send(Command::Features(features));
    }

    fn set_memory(&self, memory: Arc<Memory>) {
        self.send(Command::Memory(memory));
    }

    fn start_ring(
        &self,
        index: usize,
        queue: Queue,
        kick: OwnedFd,
        call: Option<OwnedFd>,
    ) -> Result<(), BadRing> {
        let ring = Box::new((queue, kick, call));
        self.ask(|reply| Command::Start { index, ring, reply })
            .unwrap_or(Err(BadRing))
    }

    fn stop_ring(&self, index: usize) -> Option<u16> {
        self.ask(|reply| Command::Stop { index, reply }).flatten()
    }

    fn set_call(&self, index: usize, call: Option<OwnedFd>) {
        self.send(Command::Call { index, call });
    }

    /// Connections end by themselves, when the guest that comes does not know them.
    fn forget_guest(&self) {}
}

/// The card without its thread.
pub struct Card {
    nat: Nat,
    poll: Poll,
    commands: mpsc::Receiver<Command>,
    memory: Option<Arc<Memory>>,
    rings: [Option<Ring>; RINGS],
    merges: bool,
    frame: Box<[u8]>,
    /// A guest may break its rings as often as it likes; the log has it once.
    broken: bool,
}

impl Card {
    /// A card without rings, and what tells it what to do.
    ///
    /// # Errors
    /// Where the system has no descriptor left.
    pub fn new(plan: Plan, limits: Limits) -> io::Result<(Self, Handle)> {
        let poll = Poll::new()?;
        let nat = Nat::new(plan, limits, &poll)?;
        let waker = Arc::new(Waker::new(poll.registry(), COMMANDS)?);
        let (sender, commands) = mpsc::channel();
        let card = Self {
            nat,
            poll,
            commands,
            memory: None,
            rings: [None, None],
            merges: false,
            frame: vec![0; LONGEST].into_boxed_slice(),
            broken: false,
        };
        let handle = Handle {
            commands: sender,
            waker,
        };
        Ok((card, handle))
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// The first failure of waiting, which means that the process is beyond help.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut wait = None;
        loop {
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                done => done?,
            }
            self.take_commands();
            wait = self.round(&events);
        }
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Features(features) => {
                    self.merges = features & 1 << VIRTIO_NET_F_MRG_RXBUF != 0;
                }
                Command::Memory(memory) => self.memory = Some(memory),
                Command::Start { index, ring, reply } => {
                    // Who asks waits for the answer.
                    let _ = reply.send(self.start(index, *ring));
                }
                Command::Stop { index, reply } => {
                    let _ = reply.send(self.stop(index));
                }
                Command::Call { index, call } => {
                    if let Some(Some(ring)) = self.rings.get_mut(index) {
                        ring.set_call(call);
                    }
                }
                Command::Ask(work) => work(&mut self.nat),
            }
        }
    }

    fn start(
        &mut self,
        index: usize,
        (queue, bell, call): (Queue, OwnedFd, Option<OwnedFd>),
    ) -> Result<(), BadRing> {
        let memory = self.memory.as_ref().ok_or(BadRing)?;
        let place = self.rings.get_mut(index).ok_or(BadRing)?;
        let ring = Ring::new(memory, queue, bell, call)?;
        self.poll
            .registry()
            .register(
                &mut SourceFd(&ring.kick().as_raw_fd()),
                kick(index),
                Interest::READABLE,
            )
            .map_err(|_| BadRing)?;
        *place = Some(ring);
        Ok(())
    }

    fn stop(&mut self, index: usize) -> Option<u16> {
        let ring = self.rings.get_mut(index)?.take()?;
        let descriptor = ring.kick().as_raw_fd();
        // One that is gone already is as good.
        let _ = self.poll.registry().deregister(&mut SourceFd(&descriptor));
        Some(ring.base())
    }

    /// Everything there is to do, in an order in which nobody waits for ever; how long there is nothing then.
    fn round(&mut self, events: &Events) -> Option<Duration> {
        let now = Instant::now();
        let memory = self.memory.clone();
        let memory = memory.as_deref();
        let [to_guest, from_guest] = &mut self.rings;
        let mut wire = ToGuest {
            ring: to_guest.as_mut().zip(memory),
            merges: self.merges,
            broken: false,
        };
        for event in events {
            match event.token() {
                COMMANDS => {}
                token if token == kick(TO_GUEST) => {
                    if let Some((ring, _)) = &wire.ring {
                        ring.clear_kick();
                    }
                }
                token if token == kick(FROM_GUEST) => {
                    if let Some(ring) = from_guest {
                        ring.clear_kick();
                    }
                }
                _ => self.nat.stirred(event, &mut wire, now),
            }
        }
        let mut more = false;
        let mut broken = [false; RINGS];
        if let Some((ring, memory)) = from_guest.as_mut().zip(memory) {
            match take_frames(&mut self.nat, ring, memory, &mut self.frame, &mut wire, now) {
                Ok(left) => more = left,
                Err(BadRing) => broken[FROM_GUEST] = true,
            }
        }
        // Where the guest has no room for what waits, it was asked to ring when it makes some.
        let due = self.nat.flush(true, &mut wire, now);
        let told = match &mut wire.ring {
            Some((ring, memory)) => ring.notify(memory),
            None => Ok(()),
        };
        broken[TO_GUEST] = told.is_err() || wire.broken;
        for index in (0..RINGS).filter(|index| broken[*index]) {
            self.give_up(index);
        }
        if more { Some(Duration::ZERO) } else { due }
    }

    /// A ring that the guest broke is used no more until it is set up anew.
    fn give_up(&mut self, index: usize) {
        // Its bell is open in the monitor, too, and would be in the way of the next one.
        let _ = self.stop(index);
        if !std::mem::replace(&mut self.broken, true) {
            tracing::warn!(index, "the guest broke a ring of frames");
        }
    }
}

/// Takes frames of the guest for one turn; whether there may be more.
fn take_frames(
    nat: &mut Nat,
    ring: &mut Ring,
    memory: &Memory,
    buffer: &mut [u8],
    wire: &mut ToGuest<'_>,
    now: Instant,
) -> Result<bool, BadRing> {
    ring.disable_kicks(memory)?;
    let mut left = TURN;
    loop {
        while left > 0
            && let Some(length) = rings::from_guest(ring, memory, buffer)?
        {
            left -= 1;
            nat.receive(&buffer[..length], wire, now);
        }
        // What came while we looked rang no bell.
        if left == 0 || !ring.enable_kicks(memory)? {
            break;
        }
        // A look that finds nothing counts as well: the guest may take back what it made available.
        left -= 1;
    }
    ring.notify(memory)?;
    Ok(left == 0)
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};
    use virtio_queue::QueueT as _;
    use vm_memory::{Bytes as _, GuestAddress};

    use super::*;

    const AVAILABLE: u64 = 0x2000;

    fn queue() -> Queue {
        let mut queue = Queue::new(16).unwrap();
        queue
            .try_set_desc_table_address(GuestAddress(0x1000))
            .unwrap();
        queue
            .try_set_avail_ring_address(GuestAddress(AVAILABLE))
            .unwrap();
        queue
            .try_set_used_ring_address(GuestAddress(0x3000))
            .unwrap();
        queue.set_ready(true);
        queue
    }

    /// The monitor keeps a ring's bell open and lends it again.
    #[test]
    fn a_ring_that_was_broken_is_set_up_again() {
        let (mut card, _handle) = Card::new(Plan::default(), Limits::default()).unwrap();
        let memory = Memory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let memory = Arc::new(memory);
        card.memory = Some(Arc::clone(&memory));
        let bell = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        for _ in 0..3 {
            let lent = (queue(), bell.try_clone().unwrap(), None);
            card.start(FROM_GUEST, lent).unwrap();
            // More chains than the ring has.
            memory
                .write_obj(17_u16, GuestAddress(AVAILABLE + 2))
                .unwrap();
            card.round(&Events::with_capacity(1));
            assert!(card.rings[FROM_GUEST].is_none());
        }
    }
}
