//! What containers of the host's network listen on, at the host's loopback: as on a Linux host, where they share it.
//!
//! Nobody else reaches it, as there: the host listens on its loopback only. A port that somebody of the host has stays
//! theirs, and is tried again now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use lighter_network::ports::{
    Arrival, HOST_NETWORK, Listener, Ports, Route, Share, Transport, Way,
};
use lighter_runtime::{Cgroup, ListenSignal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::host::HostLease;
use crate::containers::{Container, Record, lock};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::io::Watched;

/// More are not reached at the host's loopback: each has a stream of the host's.
const MOST: usize = 256;
/// How long it is waited after something changed: programs begin to listen on several ports, one after the other.
const SETTLES: Duration = Duration::from_millis(20);
/// After which it is looked once more: a socket for datagrams that is heard to close is there for a moment yet.
const ONCE_MORE: Duration = Duration::from_millis(500);

/// How long a port that the host has not given is not asked for again, and after which it is looked again where nothing
/// changes: twice that at most, for as long as it is listened on.
const ASKED_AGAIN: Duration = Duration::from_secs(5);

/// What the host listens on for the host's network.
#[derive(Default)]
struct Leases {
    /// By which number the host knows each.
    held: BTreeMap<Listener, (u32, Box<dyn HostLease>)>,
    /// When the host last said that somebody has a port.
    refused: BTreeMap<(Transport, u16), Instant>,
    /// Whether it was said that there are more listeners than the host has ports for.
    said_most: bool,
}

/// The host has each port once, for all addresses.
fn port((transport, address): &Listener) -> (Transport, u16) {
    (*transport, address.port())
}

impl Leases {
    /// Whether the host said a moment ago that it has none.
    fn is_refused(&self, listener: &Listener) -> bool {
        let asked = self.refused.get(&port(listener));
        asked.is_some_and(|asked| asked.elapsed() < ASKED_AGAIN)
    }

    /// Notes that the host has none; whether that is new.
    fn refuse(&mut self, listener: &Listener) -> bool {
        let before = self.refused.insert(port(listener), Instant::now());
        before.is_none()
    }

    /// Whether it is to be said now that there are more than the host has ports for: once for each time that it is so.
    fn says_most(&mut self, are_more: bool) -> bool {
        let says = are_more && !self.said_most;
        self.said_most = are_more;
        says
    }
}

/// What is listened on for the host's network, by the number that the host knows.
#[derive(Debug, Default)]
pub(crate) struct HostNetwork {
    /// What hears of listeners, loaded with the first container; nothing where the kernel has no such thing.
    signal: tokio::sync::OnceCell<Option<Arc<ListenSignal>>>,
    known: std::sync::Mutex<BTreeMap<u32, SocketAddr>>,
}

impl Engine {
    /// Hears of what a container listens on, if it is in the host's network.
    pub(crate) async fn hear_of_listeners(
        &self,
        container: &Container,
        record: &Record,
    ) -> Result<()> {
        if !self.is_in_host_network(record) || !self.config().settings.host_network_ports {
            return Ok(());
        }
        let Some(signal) = self.listen_signal().await else {
            return Ok(());
        };
        let group: Option<Cgroup> = self.group_of(container);
        let group = group.ok_or_else(|| Error::unavailable("the container has no cgroup"))?;
        signal
            .attach(&group)
            .map_err(|error| Error::internal("what a container listens on is not heard of", error))
    }

    /// Goes on with the host's network after an engine that was killed.
    pub(crate) async fn hear_of_listeners_again(&self) {
        let all = self.containers().all();
        for container in all.iter().filter(|container| container.live().is_some()) {
            let heard = self.hear_of_listeners(container, &container.record()).await;
            if let Err(error) = heard {
                tracing::warn!(
                    error = error.text(),
                    container = container.name(),
                    "not heard"
                );
            }
        }
    }

    pub(super) fn is_in_host_network(&self, record: &Record) -> bool {
        let mode = record.host_config.network_mode.as_str();
        match mode.strip_prefix("container:") {
            Some(other) => {
                let other = self.containers().find(other);
                other.is_ok_and(|other| other.record().host_config.network_mode == "host")
            }
            None => mode == "host",
        }
    }

    async fn listen_signal(&self) -> Option<Arc<ListenSignal>> {
        let engine = self.ports().and_then(|_| self.own().upgrade())?;
        if self.config().host_ports.is_here() {
            // They listen here already.
            return None;
        }
        let begin = || async {
            match begin(&engine) {
                Ok(signal) => Some(signal),
                Err(error) => {
                    tracing::warn!(%error, "what containers of the host's network listen on stays in the machine");
                    None
                }
            }
        };
        self.host_listeners()
            .signal
            .get_or_init(begin)
            .await
            .clone()
    }

    /// Brings the host's ports to what is listened on, for as long as the engine lives.
    async fn follow_listeners(
        self: Arc<Self>,
        signal: Arc<ListenSignal>,
        waits: AsyncFd<Watched<OwnedFd>>,
    ) {
        let mut leases = Leases::default();
        let mut once_more = true;
        let mut next = 0;
        // Begun before anything is asked of a host: the next one is not missed.
        let mut returned = self.config().host_ports.returned();
        loop {
            // What is told from here on is heard of once more.
            signal.clear();
            match self.ports() {
                Some(ports) => match ports.listeners().await {
                    Ok(there) => self.settle_listeners(&there, &mut leases, &mut next).await,
                    Err(error) => tracing::warn!(%error, "what is listened on is not known"),
                },
                None => return,
            }
            tokio::select! {
                heard = waits.readable() => match heard {
                    Ok(mut heard) => {
                        heard.clear_ready();
                        once_more = true;
                    }
                    Err(_) => return,
                },
                () = tokio::time::sleep(ONCE_MORE), if once_more => once_more = false,
                () = tokio::time::sleep(ASKED_AGAIN), if !leases.refused.is_empty() => {}
                () = &mut returned => {
                    returned = self.config().host_ports.returned();
                    // Another host listens on nothing yet.
                    leases = Leases::default();
                    lock(&self.host_listeners().known).clear();
                }
            }
            tokio::time::sleep(SETTLES).await;
        }
    }

    async fn settle_listeners(
        &self,
        there: &BTreeMap<Listener, u64>,
        leases: &mut Leases,
        next: &mut u32,
    ) {
        let listened: BTreeSet<_> = there.keys().map(port).collect();
        leases.refused.retain(|port, _| listened.contains(port));
        let gone: Vec<Listener> = leases
            .held
            .keys()
            .filter(|listener| !there.contains_key(listener))
            .copied()
            .collect();
        for listener in gone {
            if let Some((number, lease)) = leases.held.remove(&listener) {
                lock(&self.host_listeners().known).remove(&number);
                lease.close().await;
            }
        }
        let mut ports: BTreeSet<(Transport, u16)> = leases.held.keys().map(port).collect();
        let mut new: Vec<(Listener, u64)> = Vec::new();
        for (listener, socket) in there {
            // One of a port is enough: all are at the loopback.
            if !leases.held.contains_key(listener)
                && !leases.is_refused(listener)
                && ports.insert(port(listener))
            {
                new.push((*listener, *socket));
            }
        }
        let room = MOST.saturating_sub(leases.held.len());
        if leases.says_most(new.len() > room) {
            tracing::warn!("more than {MOST} listeners in the host's network");
        }
        new.truncate(room);
        let owners = self.owners_of(new.iter().map(|(_, socket)| *socket).collect());
        let owners = owners.await;
        for (listener, socket) in new {
            *next = next.wrapping_add(1);
            let (transport, address) = listener;
            let owner = owners.get(&socket).map_or(HOST_NETWORK, String::as_str);
            lock(&self.host_listeners().known).insert(*next, address);
            match self
                .listen_for(owner, *next, transport, address.port())
                .await
            {
                Ok(lease) => {
                    leases.refused.remove(&port(&listener));
                    leases.held.insert(listener, (*next, lease));
                }
                Err(error) => {
                    lock(&self.host_listeners().known).remove(next);
                    if leases.refuse(&listener) {
                        tracing::info!(%error, %address, ?transport, "not reached at the host's loopback");
                    }
                }
            }
        }
    }

    async fn listen_for(
        &self,
        owner: &str,
        number: u32,
        transport: Transport,
        port: u16,
    ) -> std::result::Result<Box<dyn HostLease>, super::PortError> {
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let mut lease = self.config().host_ports.open(HOST_NETWORK, owner).await?;
        lease.bind(number, transport, &loopback, port).await?;
        Ok(lease)
    }

    /// Brings somebody to a program in the host's network; gives back who came to somebody else.
    pub(super) async fn arrived_at_host_network(
        &self,
        ports: &Ports,
        id: &str,
        number: u32,
        arrival: Arrival,
    ) -> Option<Arrival> {
        if id != HOST_NETWORK {
            return Some(arrival);
        }
        let to = lock(&self.host_listeners().known).get(&number).copied();
        if let Some(to) = to {
            ports.serve(arrival, &Loopback(reached_at(to))).await;
        }
        None
    }
}

/// Loads what hears of listeners, and follows it.
fn begin(engine: &Arc<Engine>) -> std::io::Result<Arc<ListenSignal>> {
    let signal = Arc::new(ListenSignal::load()?);
    let waits = signal.descriptor().try_clone_to_owned()?;
    let waits = crate::io::watch(waits, Interest::READABLE)?;
    tokio::spawn(Arc::clone(engine).follow_listeners(Arc::clone(&signal), waits));
    Ok(signal)
}

/// A program in the host's network.
struct Loopback(SocketAddr);

impl Way for Loopback {
    fn route(&self, _client: Option<SocketAddr>, _v6: bool) -> Option<Route> {
        Some(Route {
            to: self.0,
            client: None,
        })
    }

    fn ended(&self) -> watch::Receiver<bool> {
        // It ends its connections itself: they are of one network.
        static NEVER: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));
        NEVER.subscribe()
    }

    fn share(&self) -> Arc<Share> {
        static ALL: LazyLock<Arc<Share>> = LazyLock::new(Arc::default);
        Arc::clone(&ALL)
    }
}

/// By which address whoever is in the same network reaches a listener.
fn reached_at(listens: SocketAddr) -> SocketAddr {
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listens.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(text: &str) -> Listener {
        (Transport::Tcp, text.parse().unwrap())
    }

    #[test]
    fn a_refusal_is_said_once_for_as_long_as_it_is_one() {
        let mut leases = Leases::default();
        let (one, same_port) = (listener("0.0.0.0:80"), listener("[::]:80"));
        assert!(leases.refuse(&one));
        assert!(leases.is_refused(&same_port));
        assert!(!leases.refuse(&same_port));
        assert!(leases.refuse(&listener("0.0.0.0:81")));
        leases.refused.remove(&port(&one));
        assert!(leases.refuse(&one));
    }

    #[test]
    fn that_there_are_too_many_is_said_once_for_each_time() {
        let mut leases = Leases::default();
        let said = [false, true, true, false, true].map(|more| leases.says_most(more));
        assert_eq!(said, [false, true, false, false, true]);
    }
}
