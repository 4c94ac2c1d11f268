//! Published ports: clients of the host and of the machine itself, on their way to a container.
//!
//! ```text
//!   client ──► host ══ vsock ══► [Ports::serve]    ──┐
//!   container ──► gateway of a network ─► [listen] ──┴─► carry, datagrams ──► sockets ──► address of the container
//!                                                             (in the host's namespace, from the client's own address)
//! ```
//!
//! A container sees the address of whoever comes from elsewhere, and its gateway's where that is the machine or the
//! host itself; [`transparent`] has its answers come back. Nobody reaches what listens on a container's loopback:
//! connections are made from outside of it. Nor does a container on internal networks alone: its packets find nobody
//! on a published port, whichever address of the machine they are for ([`filter`]).
//!
//! Called by: the engine when containers start and end, the agent for those whom the host hands on.
//! Must never: connect to anything but what a [`Way`] says, have more than [`CONNECTIONS`] at once, or let those of
//! one container keep those of others away ([`share`]).

mod asked;
mod carry;
mod datagrams;
mod filter;
mod listen;
mod local;
mod nested;
mod said;
mod share;
mod sockets;
mod transparent;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use lighter_protocol::{HOST_NETWORK, Transport};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OnceCell, watch};

pub use carry::Stream;
pub use listen::{Listening, is_here_too};
pub use local::Listener;
pub use share::{CONNECTIONS, Share};

use crate::{NetworkError, Wiring};
use sockets::Sockets;

/// Where a port leads.
pub trait Way: Send + Sync + 'static {
    /// How somebody reaches the container, now; nothing where it cannot be reached. A client that is nobody is the
    /// host itself, and came to an IPv6 address of it or did not.
    fn route(&self, client: Option<SocketAddr>, v6: bool) -> Option<Route>;

    /// Becomes true when the container ends.
    fn ended(&self) -> watch::Receiver<bool>;

    /// What the container has of the room for connections; all its ports have the same.
    fn share(&self) -> Arc<Share>;
}

/// How somebody reaches a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its address and port.
    pub to: SocketAddr,
    /// Whose address it sees, and by which bridge alone its answers come; nothing is its gateway's.
    pub client: Option<(SocketAddr, String)>,
}

/// Somebody whom the host hands on.
#[derive(Debug)]
pub struct Arrival {
    /// What is said.
    pub stream: UnixStream,
    /// What was read of it already.
    pub early: Vec<u8>,
    /// How it is said.
    pub transport: Transport,
    /// Who it is; nothing is the host itself.
    pub client: Option<SocketAddr>,
    /// Whether an IPv6 address of the host was asked for.
    pub v6: bool,
}

/// All that is published.
#[derive(Debug)]
pub struct Ports {
    sockets: Sockets,
    wiring: Wiring,
    led_back: OnceCell<()>,
}

impl Ports {
    /// Of the networks that are wired in this namespace.
    ///
    /// # Errors
    /// There is no room for a thread.
    pub fn start(host_network: OwnedFd, wiring: Wiring) -> Result<Self, NetworkError> {
        Ok(Self {
            sockets: Sockets::start(host_network)?,
            wiring,
            led_back: OnceCell::new(),
        })
    }

    /// Has the answers to clients of elsewhere come back; done once, before the first port is published.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn lead_back(&self) -> Result<(), NetworkError> {
        let led = self.led_back.get_or_try_init(|| self.wiring.lead_back());
        led.await.copied()
    }

    /// Listens in the host's namespace, where containers reach it by the gateways of their networks.
    ///
    /// # Errors
    /// The port is taken, or one of the addresses is not there. Nothing is listened on then.
    pub async fn listen(
        &self,
        transport: Transport,
        addresses: &[IpAddr],
        port: u16,
        way: &Arc<dyn Way>,
    ) -> io::Result<Listening> {
        listen::listen(&self.sockets, transport, addresses, port, way).await
    }

    /// What containers of the host's network listen on, and the numbers of those sockets.
    ///
    /// # Errors
    /// The kernel does not say.
    pub async fn listeners(&self) -> io::Result<BTreeMap<Listener, u64>> {
        self.sockets.listeners().await
    }

    /// Brings somebody to a container and returns when they have parted.
    pub async fn serve(&self, arrival: Arrival, way: &dyn Way) {
        serve(&self.sockets, arrival, way).await;
    }
}

async fn serve(sockets: &Sockets, arrival: Arrival, way: &dyn Way) {
    let Some(_place) = way.share().place() else {
        return;
    };
    let Arrival {
        stream,
        early,
        transport,
        client,
        v6,
    } = arrival;
    let Some(route) = way.route(client, v6) else {
        return;
    };
    let ended = way.ended();
    match transport {
        Transport::Tcp => {
            if let Some(container) = reach(sockets, &route, ended.clone()).await {
                carry::carry_from(early, stream, container, ended).await;
            }
        }
        Transport::Udp => match sockets.converse(&route).await {
            Ok(socket) => {
                let still = || way.route(client, v6).as_ref() == Some(&route);
                datagrams::converse(early, stream, &socket, ended, still).await;
            }
            Err(error) => tracing::debug!(%error, to = %route.to, "a container is not reached"),
        },
    }
}

/// Connects to a container that has not ended, and not to whoever has its address then.
async fn reach(
    sockets: &Sockets,
    route: &Route,
    mut ended: watch::Receiver<bool>,
) -> Option<TcpStream> {
    let connected = tokio::select! {
        biased;
        // An error says that nobody can tell any more, which is an end too.
        _ = ended.wait_for(|ended| *ended) => return None,
        connected = sockets.connect(route) => connected,
    };
    let reached = connected.inspect_err(|error| {
        tracing::debug!(%error, to = %route.to, "a container is not reached");
    });
    reached.ok().filter(|_| !*ended.borrow())
}
