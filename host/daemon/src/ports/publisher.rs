//! What is listened on for one container.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lighter_protocol::{Bind, Bound, Failed, FailedCode, Message, Publish, Transport};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::door::Door;
use super::listening::Listening;
use super::port::Port;
use super::{Entry, Publications, Refused, refusal, tcp, udp};
use crate::host_port::failed;
use crate::vm::{MessageStream, StreamError};

/// How long a port that another container has is waited for: one that was stopped a moment ago closes
/// its ports as its stream's end is read.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// Why a stream of ports ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Over {
    /// The stream itself.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// What came was no [`Bind`].
    #[error("`{0}` instead of a port")]
    Strange(&'static str),
}

/// The ports of one stream. What it listens on is closed with it.
pub(super) struct Publisher<D> {
    all: Arc<Publications>,
    stream: u64,
    wanted: Publish,
    door: D,
    tasks: JoinSet<()>,
    over: watch::Sender<bool>,
    ports: usize,
    sockets: usize,
}

impl<D: Door> Publisher<D> {
    /// Takes one of the places there are.
    pub fn enter(all: &Arc<Publications>, wanted: Publish, door: D) -> Option<Self> {
        let mut book = all.book();
        if book.streams >= all.limits.streams {
            return None;
        }
        book.streams += 1;
        book.next_stream += 1;
        Some(Self {
            all: Arc::clone(all),
            stream: book.next_stream,
            wanted,
            door,
            tasks: JoinSet::new(),
            over: watch::Sender::new(false),
            ports: 0,
            sockets: 0,
        })
    }

    /// The container's name, or its id where it has none.
    pub fn name(&self) -> &str {
        match self.wanted.name.as_str() {
            "" => &self.wanted.id,
            name => name,
        }
    }

    /// Does what the guest says until it ends.
    pub async fn obey(&mut self, stream: &mut MessageStream) -> Result<(), Over> {
        loop {
            let bind = match stream.receive().await? {
                Message::Bind(bind) => bind,
                other => return Err(Over::Strange(other.name())),
            };
            let failed = self.bind(&bind).await.err();
            if let Some(failed) = &failed {
                self.refuse(&bind, failed);
            }
            let number = bind.number;
            stream.send(Bound { number, failed }).await?;
        }
    }

    /// Says that a port could not be had, where that was not said a moment ago.
    fn refuse(&self, bind: &Bind, failed: &Failed) {
        let (container, reason) = (self.name().to_owned(), failed.message.clone());
        let (transport, port) = (bind.transport, bind.port);
        let refused = Refused {
            container,
            transport,
            port,
            reason,
        };
        let said = refused.clone();
        let is_news = self.all.book().refusals.note(&self.wanted.id, refused);
        if is_news {
            let Refused {
                container, reason, ..
            } = said;
            tracing::info!(container, port, reason, "not published");
        }
    }

    /// Stops listening; after this everything is closed.
    pub async fn close(mut self) {
        self.over.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }

    async fn bind(&mut self, bind: &Bind) -> Result<(), Failed> {
        self.take_place(bind)?;
        let (listening, addresses) = match self.listen(bind).await {
            Ok(listening) => listening,
            Err(failed) => {
                self.give_place_back(bind);
                return Err(failed);
            }
        };
        let port = Arc::new(Port {
            id: self.wanted.id.clone(),
            number: bind.number,
            transport: bind.transport,
        });
        match listening {
            Listening::Tcp(listeners) => {
                for listener in listeners {
                    let arrivals = Arc::clone(&self.all.arrivals);
                    let (port, door) = (Arc::clone(&port), self.door.clone());
                    let mut over = self.over.subscribe();
                    self.tasks.spawn(async move {
                        tokio::select! {
                            () = tcp::accept(listener, port, door, arrivals) => {}
                            // An error says that nobody can tell any more.
                            _ = over.wait_for(|over| *over) => {}
                        }
                    });
                }
            }
            Listening::Udp(sockets) => {
                let serial = self.all.flows.next_port();
                for socket in sockets {
                    let flows = Arc::clone(&self.all.flows);
                    let (port, door) = (Arc::clone(&port), self.door.clone());
                    let over = self.over.subscribe();
                    self.tasks
                        .spawn(udp::take(socket, (serial, port), door, flows, over));
                }
            }
        }
        let entry = Entry {
            container: self.name().to_owned(),
            transport: bind.transport,
            addresses,
            port: bind.port,
        };
        let key = (self.stream, bind.number);
        let mut book = self.all.book();
        book.ports.insert(key, entry);
        book.refusals
            .forget(&self.wanted.id, bind.transport, bind.port);
        Ok(())
    }

    /// Counts a port, if there is room for it.
    fn take_place(&mut self, bind: &Bind) -> Result<(), Failed> {
        let (limits, mut book) = (self.all.limits, self.all.book());
        let busy = |text| Err(failed(FailedCode::Busy, text));
        if book.ports.contains_key(&(self.stream, bind.number)) {
            let text = format!("number {} has a port already", bind.number);
            return Err(failed(FailedCode::Malformed, text));
        }
        if self.ports >= limits.ports {
            return busy(format!(
                "a container may have {} published ports",
                limits.ports
            ));
        }
        if book.sockets + bind.addresses.len() > limits.sockets {
            return busy(format!(
                "this host listens on {} addresses for containers, and on no more",
                limits.sockets
            ));
        }
        book.sockets += bind.addresses.len();
        self.sockets += bind.addresses.len();
        self.ports += 1;
        Ok(())
    }

    fn give_place_back(&mut self, bind: &Bind) {
        self.all.book().sockets -= bind.addresses.len();
        self.sockets -= bind.addresses.len();
        self.ports -= 1;
    }

    async fn listen(&self, bind: &Bind) -> Result<(Listening, Vec<IpAddr>), Failed> {
        let deadline = Instant::now() + RELEASE_LIMIT;
        loop {
            let released = self.all.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            let (address, error) = match Listening::open(bind) {
                Ok(listening) => return Ok(listening),
                Err(not_bound) => not_bound,
            };
            let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
            let holder = self.holder(bind.transport, address).filter(|_| in_use);
            let Some(holder) = holder else {
                return Err(refusal::of(bind.transport, address, &error, &self.all.lookup).await);
            };
            if tokio::time::timeout_at(deadline, released).await.is_err() {
                let owner = format!("the container `{holder}`");
                return Err(refusal::in_use(Some(&owner)));
            }
        }
    }

    /// The container that an address of the host is published for.
    fn holder(&self, transport: Transport, address: SocketAddr) -> Option<String> {
        let wanted = address.ip();
        let book = self.all.book();
        let same = |entry: &&Entry| {
            let meets = |ip: &IpAddr| {
                ip.is_ipv4() == wanted.is_ipv4()
                    && (*ip == wanted || ip.is_unspecified() || wanted.is_unspecified())
            };
            entry.transport == transport
                && entry.port == address.port()
                && entry.addresses.iter().any(meets)
        };
        let found = book.ports.values().find(same);
        found.map(|entry| entry.container.clone())
    }
}

impl<D> Drop for Publisher<D> {
    fn drop(&mut self) {
        let mut book = self.all.book();
        book.streams -= 1;
        book.sockets -= self.sockets;
        book.ports.retain(|(stream, _), _| *stream != self.stream);
        drop(book);
        self.all.released.notify_waiters();
    }
}
