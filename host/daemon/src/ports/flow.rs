//! One client of UDP: a stream to the guest with datagrams both ways, for as long as somebody speaks.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lighter_machine::GuestStream;
use lighter_platform::sys::{self, Datagrams};
use tokio::io::Interest;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::door::{Attempts, Door};

/// A client that neither says nor hears anything for so long is forgotten, as dockerd does.
const IDLE: Duration = Duration::from_secs(90);
/// The length before each datagram.
const LENGTH: usize = 2;
/// Most bytes that the system keeps for a guest that does not read; further ones wait here.
const MOST_UNREAD: usize = 16 << 10;
/// Read at a time; a longer datagram takes more.
const CHUNK: usize = 16 << 10;

/// What is known of a client.
#[derive(Debug)]
pub(super) struct Flow {
    waiting: Mutex<Waiting>,
    /// Bytes that wait, of all flows.
    of_all: Arc<AtomicUsize>,
    filled: Notify,
    over: Notify,
    used: Mutex<Instant>,
}

/// Bytes for the guest that it has not taken yet.
#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    start: usize,
}

/// Where answers go, and from which address of this host.
pub(super) struct Way {
    /// The socket that the client spoke to.
    pub socket: Arc<Datagrams>,
    /// Who it is.
    pub client: SocketAddr,
    /// Where it spoke to.
    pub to: IpAddr,
}

impl Flow {
    /// Of a client that the guest is told of by `introduction`.
    pub fn new(introduction: Vec<u8>, of_all: Arc<AtomicUsize>) -> Self {
        of_all.fetch_add(introduction.len(), Ordering::Relaxed);
        Self {
            waiting: Mutex::new(Waiting {
                bytes: introduction,
                start: 0,
            }),
            of_all,
            filled: Notify::new(),
            over: Notify::new(),
            used: Mutex::new(Instant::now()),
        }
    }

    /// Since when nobody said anything.
    pub fn quiet_since(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a datagram for the guest. False, and it is gone, where `most` bytes of this client or
    /// `most_of_all` of all wait already.
    pub fn push(&self, datagram: &[u8], most: usize, most_of_all: usize) -> bool {
        let Ok(length) = u16::try_from(datagram.len()) else {
            return false;
        };
        let mut waiting = self.waiting();
        let more = LENGTH + datagram.len();
        if waiting.left().len() + more > most
            || self.of_all.load(Ordering::Relaxed) + more > most_of_all
        {
            return false;
        }
        self.of_all.fetch_add(more, Ordering::Relaxed);
        waiting.bytes.extend_from_slice(&length.to_le_bytes());
        waiting.bytes.extend_from_slice(datagram);
        drop(waiting);
        self.touch();
        self.filled.notify_one();
        true
    }

    /// Ends it.
    pub fn end(&self) {
        self.over.notify_one();
    }

    /// Carries datagrams until an end is wanted, nobody says anything any more, or the guest has enough. It keeps its
    /// place among those that begin until the guest has taken it.
    pub async fn carry<D: Door>(&self, door: &D, way: &Way, begins: OwnedSemaphorePermit) {
        let carried = async {
            let mut attempts = Attempts::new();
            let stream = loop {
                match door.connect().await {
                    Ok(stream) => break stream,
                    Err(error) if attempts.again(&error).await => {}
                    Err(error) => return Err(io::Error::other(error)),
                }
            };
            drop(begins);
            sys::limit_unread(&stream, MOST_UNREAD)?;
            self.exchange(&stream, way).await
        };
        tokio::select! {
            ended = carried => if let Err(error) = ended {
                tracing::debug!(%error, client = %way.client, "a client of UDP is forgotten");
            },
            () = self.over.notified() => {}
            () = self.quiet() => {}
        }
    }

    async fn quiet(&self) {
        loop {
            let until = self.quiet_since() + IDLE;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    async fn exchange(&self, stream: &GuestStream, way: &Way) -> io::Result<()> {
        let mut answers = Vec::new();
        loop {
            let idle = self.waiting().left().is_empty();
            let interest = match idle {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            let ready = tokio::select! {
                ready = stream.ready(interest) => ready?,
                () = self.filled.notified(), if idle => continue,
            };
            if ready.is_writable() {
                self.write(stream)?;
            }
            if ready.is_readable() && !self.read(stream, &mut answers, way).await? {
                return Ok(());
            }
        }
    }

    fn write(&self, stream: &GuestStream) -> io::Result<()> {
        let mut waiting = self.waiting();
        match stream.try_write(waiting.left()) {
            Ok(count) => {
                waiting.forget(count);
                self.of_all.fetch_sub(count, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads what there is and sends the datagrams that are whole; false at the end.
    async fn read(
        &self,
        stream: &GuestStream,
        answers: &mut Vec<u8>,
        way: &Way,
    ) -> io::Result<bool> {
        // No more than the next datagram needs: there may be thousands of these.
        answers.reserve_exact(match answers.is_empty() {
            true => CHUNK,
            false => wanted(answers).saturating_sub(answers.len()),
        });
        match stream.try_read_buf(answers) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
        let mut start = 0;
        while answers.len() - start >= wanted(&answers[start..]) {
            let end = start + wanted(&answers[start..]);
            let datagram = &answers[start + LENGTH..end];
            // One that is too long, or for a client that cannot be reached, is lost as any may be.
            let _ = way.socket.send(datagram, way.client, way.to).await;
            self.touch();
            start = end;
        }
        answers.drain(..start);
        if answers.is_empty() {
            // A quiet client costs no memory.
            *answers = Vec::new();
        }
        Ok(true)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let left = self.waiting().left().len();
        self.of_all.fetch_sub(left, Ordering::Relaxed);
    }
}

impl Waiting {
    fn left(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Forgets the first `count` bytes, and the memory of all that were forgotten when those are many.
    fn forget(&mut self, count: usize) {
        self.start += count;
        if self.left().is_empty() {
            *self = Self::default();
        } else if self.start >= CHUNK && self.start >= self.left().len() {
            self.bytes.drain(..self.start);
            self.bytes.shrink_to_fit();
            self.start = 0;
        }
    }
}

/// How many bytes of a stream the next datagram takes, with its length.
fn wanted(bytes: &[u8]) -> usize {
    match bytes {
        [low, high, ..] => LENGTH + usize::from(u16::from_le_bytes([*low, *high])),
        _ => LENGTH,
    }
}
