//! Published ports: the guest says what is to be listened on for its containers, and whoever comes is
//! brought to it.
//!
//! ```text
//!   guest ──Publish, Bind──► Publications ──► listening ──► tcp ──client's socket──► Door ──► guest
//!                                │                     └──► udp ──datagrams────────► Door ──► guest
//!                             limits, book
//! ```
//!
//! Called by `host_port`, for guests that have shown the secret; `control` asks what is published.
//! Bytes of TCP never pass this process. What a guest can make the host listen on is what
//! `docker run -p` can; what that may cost is bounded here ([`limits`]).
//!
//! Everything of a stream is closed before the next one can be told that it has the same port.

mod door;
mod flow;
mod flows;
mod limits;
mod listening;
mod port;
mod publisher;
mod refusal;
mod refused;
mod tcp;
mod udp;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lighter_platform::text::clipped;
use lighter_protocol::{FailedCode, Opened, Publish, Transport};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};

use crate::host_port::{failed, refuse};
use crate::vm::MessageStream;
use door::Door;
use flows::Flows;
use limits::Limits;
use publisher::Publisher;
use refused::Refusals;

pub use refused::Refused;

/// Everything that is listened on for containers.
#[derive(Debug)]
pub struct Publications {
    book: Mutex<Book>,
    limits: Limits,
    /// Clients on their way to the guest.
    arrivals: Arc<Semaphore>,
    /// Clients of UDP.
    flows: Arc<Flows>,
    /// Somebody's ports were closed.
    released: Notify,
    /// One at a time looks for the process that has a port.
    lookup: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Book {
    streams: usize,
    sockets: usize,
    next_stream: u64,
    /// By stream and by the guest's own number.
    ports: BTreeMap<(u64, u32), Entry>,
    refusals: Refusals,
}

/// One port of one container.
#[derive(Debug)]
struct Entry {
    container: String,
    transport: Transport,
    /// Those that are listened on.
    addresses: Vec<IpAddr>,
    port: u16,
}

/// One port of one container on one address, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The container's name.
    pub container: String,
    /// `tcp` or `udp`.
    pub transport: Transport,
    /// The host's address; `0.0.0.0` and `::` are all of their family.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// Most of them that `status` shows.
const MOST_SHOWN: usize = 512;
/// Most characters of a container's name there.
const MOST_NAME: usize = 100;

impl Default for Publications {
    fn default() -> Self {
        Self::with(Limits::here())
    }
}

impl Publications {
    fn with(limits: Limits) -> Self {
        Self {
            book: Mutex::default(),
            arrivals: Arc::new(Semaphore::new(limits.arrivals)),
            flows: Arc::new(Flows::new(limits)),
            released: Notify::new(),
            lookup: Arc::new(Semaphore::new(1)),
            limits,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many ports are published now, and the first of them.
    #[must_use]
    pub fn snapshot(&self) -> (usize, Vec<Published>) {
        let book = self.book();
        let each = book.ports.values().flat_map(|entry| {
            entry.addresses.iter().map(|address| Published {
                container: clipped(&entry.container, MOST_NAME),
                transport: entry.transport,
                address: *address,
                port: entry.port,
            })
        });
        (book.ports.len(), each.take(MOST_SHOWN).collect())
    }

    /// The ports that could not be had, as far as they are still wanted.
    #[must_use]
    pub fn refused(&self) -> Vec<Refused> {
        self.book().refusals.shown()
    }

    /// Listens for one container for as long as the guest keeps the stream open, and the machine is there.
    pub(crate) async fn serve<D: Door>(
        self: &Arc<Self>,
        mut stream: MessageStream,
        wanted: Publish,
        door: D,
    ) {
        let Some(mut publisher) = Publisher::enter(self, wanted, door.clone()) else {
            let text = format!(
                "ports of {} containers are published already",
                self.limits.streams
            );
            return refuse(stream, failed(FailedCode::Busy, text)).await;
        };
        tokio::select! {
            ended = async {
                stream.send(Opened::Publish).await?;
                publisher.obey(&mut stream).await
            } => if let Err(error) = ended {
                tracing::debug!(container = publisher.name(), %error, "ports are no longer published");
            },
            () = door.ended() => {}
        }
        publisher.close().await;
        // By its end the guest knows that everything is closed.
        drop(stream);
    }
}
