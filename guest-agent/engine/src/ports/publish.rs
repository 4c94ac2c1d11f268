//! Publishing: at a start and when a network is joined, taken back at the end, gone on with by the next engine.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use lighter_network::ports::{Arrival, Listening, Ports, Transport, Way, is_here_too};
use tokio::sync::{oneshot, watch};

use super::PublishedPort;
use super::book::Taken;
use super::host::{HostLease, PortError};
use super::wanted::{Wanted, wanted};
use super::way::ContainerPort;
use crate::containers::{Container, Record, lock};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::keeper::Kept;

/// What the host's stream is called in the store.
const KEPT: &str = "ports";
/// How many ports of a range are tried where others than containers have them; dockerd's.
const ATTEMPTS: u32 = 10;
/// How long the end of a container waits for the host to have closed its ports.
const CLOSING: Duration = Duration::from_secs(2);
/// Between two tries to have again what somebody took while the host was gone.
const AGAIN: Duration = Duration::from_secs(10);

/// What is published of a container; its connections end with it.
#[derive(Debug)]
pub(crate) struct Published {
    ended: watch::Sender<bool>,
    /// Asks whoever has the host's side to close it, and is told when that is done.
    close: oneshot::Sender<oneshot::Sender<()>>,
    _listening: Vec<Listening>,
    _taken: Vec<Taken>,
}

/// One that is being put together.
struct Draft {
    ended: watch::Sender<bool>,
    lease: Box<dyn HostLease>,
    listening: Vec<Listening>,
    taken: Vec<Taken>,
    ports: Vec<PublishedPort>,
}

impl Engine {
    /// Publishes what a container asked for, if it is in a network by which it can be reached; what that is.
    pub(crate) async fn publish(
        &self,
        container: &Arc<Container>,
        record: &Record,
    ) -> Result<Vec<PublishedPort>> {
        let places = container.places().unwrap_or_default();
        let (Some(ports), Some(at)) = (self.ports(), self.reached_at(record, &places)) else {
            return Ok(Vec::new());
        };
        let failed = |error: Error| in_networking(container, record, &error);
        let default = self.config().settings.ip.parse().ok();
        let wanted = wanted(&record.config, &record.host_config, default).map_err(failed)?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        if lock(&container.published).is_some() {
            return Ok(container.state().run.ports);
        }
        ports.lead_back().await.map_err(crate::networks::refused)?;
        let opened = self
            .config()
            .host_ports
            .open(&record.id, &record.name)
            .await;
        let mut draft = Draft {
            ended: watch::Sender::new(false),
            lease: opened.map_err(|error| failed(refused(&error)))?,
            listening: Vec::new(),
            taken: Vec::new(),
            ports: Vec::new(),
        };
        for (number, one) in (0..).zip(&wanted) {
            let published = self.publish_one(container, ports, &mut draft, number, one, at);
            if let Err(error) = published.await {
                draft.lease.close().await;
                return Err(failed(error));
            }
        }
        if let Err(error) = self.keep(container, &*draft.lease) {
            draft.lease.close().await;
            return Err(error);
        }
        let ports = draft.ports.clone();
        self.hold(container, draft);
        Ok(ports)
    }

    async fn publish_one(
        &self,
        container: &Arc<Container>,
        ports: &Ports,
        draft: &mut Draft,
        number: u32,
        wanted: &Wanted,
        (v4, v6): (Option<IpAddr>, Option<IpAddr>),
    ) -> Result<()> {
        let Wanted {
            transport,
            addresses,
            first,
            last,
            ..
        } = wanted;
        let way = self.way(container, wanted.port, &draft.ended);
        // Those that are refused stay taken until one is found, so that it is another one.
        let mut refused = Vec::new();
        loop {
            let taken = self.book().take(*transport, addresses, (*first, *last));
            let taken = taken.map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
            let port = taken.port;
            let listened = self.listen(ports, draft, number, wanted, port, &way).await;
            let error = match listened {
                Ok(listening) => {
                    draft.listening.push(listening);
                    draft.taken.push(taken);
                    draft.ports.extend(addresses.iter().map(|ip| PublishedPort {
                        number,
                        port: wanted.port,
                        transport: *transport,
                        host_ip: *ip,
                        host_port: port,
                    }));
                    return Ok(());
                }
                Err(error) => error,
            };
            refused.push(taken);
            let others =
                first != last && u32::try_from(refused.len()).unwrap_or(ATTEMPTS) < ATTEMPTS;
            if !(others && matches!(error, PortError::InUse(_))) {
                let at = v4.or(v6).map(|ip| SocketAddr::new(ip, wanted.port));
                let at = at.map(|at| at.to_string()).unwrap_or_default();
                let kind = kind(*transport);
                let on = addresses.first().map(|ip| SocketAddr::new(*ip, port));
                let on = on.map(|on| on.to_string()).unwrap_or_default();
                let text = format!("failed to bind host port for {on}:{at}/{kind}: {error}");
                return Err(Error::new(Kind::Internal, text));
            }
        }
    }

    /// Has both listen: the machine, for those in it, and then the host.
    async fn listen(
        &self,
        ports: &Ports,
        draft: &mut Draft,
        number: u32,
        wanted: &Wanted,
        port: u16,
        way: &Arc<dyn Way>,
    ) -> Result<Listening, PortError> {
        let (here, there) = self.sides(&wanted.addresses);
        let listening = ports.listen(wanted.transport, &here, port, way).await;
        let listening = listening.map_err(|error| refusal(&error))?;
        if !there.is_empty() {
            let bind = draft.lease.bind(number, wanted.transport, &there, port);
            bind.await?;
        }
        Ok(listening)
    }

    /// Which of these the machine listens on, and which the host.
    fn sides(&self, addresses: &[IpAddr]) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let only_here = self.config().host_ports.is_here();
        let own = |ip: &IpAddr| {
            let all = self.networks().all();
            let mut pools = all.iter().flat_map(|network| &network.pools);
            pools.any(|pool| pool.gateway == Some(*ip))
        };
        let here = |ip: &&IpAddr| only_here || is_here_too(**ip) || own(ip);
        let there = |ip: &&IpAddr| !only_here && !own(ip);
        let (first, second) = (
            addresses.iter().filter(here),
            addresses.iter().filter(there),
        );
        (first.copied().collect(), second.copied().collect())
    }

    fn way(
        &self,
        container: &Arc<Container>,
        port: u16,
        ended: &watch::Sender<bool>,
    ) -> Arc<dyn Way> {
        Arc::new(ContainerPort {
            engine: self.own(),
            container: Arc::downgrade(container),
            port,
            ended: ended.subscribe(),
        })
    }

    /// Puts the host's side into the store.
    fn keep(&self, container: &Container, lease: &dyn HostLease) -> Result<()> {
        let Some(descriptor) = lease.descriptor() else {
            return Ok(());
        };
        let copied = descriptor.try_clone_to_owned();
        let copied =
            copied.map_err(|error| Error::internal("a descriptor cannot be copied", error))?;
        self.keeper(container).put(KEPT, &copied)
    }

    /// Has what was put together last until it is taken back.
    fn hold(&self, container: &Arc<Container>, draft: Draft) {
        let (close, asked) = oneshot::channel();
        *lock(&container.published) = Some(Published {
            ended: draft.ended,
            close,
            _listening: draft.listening,
            _taken: draft.taken,
        });
        let Some(engine) = self.own().upgrade() else {
            return;
        };
        let container = Arc::clone(container);
        tokio::spawn(engine.look_after(container, Some(draft.lease), asked));
    }

    /// Has the host listen again whenever one comes back, until it is asked to close.
    async fn look_after(
        self: Arc<Self>,
        container: Arc<Container>,
        mut lease: Option<Box<dyn HostLease>>,
        mut asked: oneshot::Receiver<oneshot::Sender<()>>,
    ) {
        let done = loop {
            tokio::select! {
                done = &mut asked => break done,
                () = self.next_lease(&container, &mut lease) => {}
            }
        };
        if let Some(lease) = lease {
            lease.close().await;
        }
        if let Ok(done) = done {
            // Whoever asked may have waited long enough.
            let _ = done.send(());
        }
    }

    /// Waits until the host has gone, or has come back and listens again.
    async fn next_lease(&self, container: &Arc<Container>, lease: &mut Option<Box<dyn HostLease>>) {
        if let Some(held) = lease {
            held.gone().await;
            *lease = None;
            return;
        }
        // Begun before the first try: a host that comes meanwhile is not missed.
        let returned = self.config().host_ports.returned();
        *lease = self.bind_again(container).await;
        if lease.is_some() {
            return;
        }
        returned.await;
        *lease = self.bind_again(container).await;
        if lease.is_none() {
            // Whoever has a port may let go of it.
            tokio::time::sleep(AGAIN).await;
            *lease = self.bind_again(container).await;
        }
    }

    /// Asks a host that came back for the ports that a container has.
    async fn bind_again(&self, container: &Arc<Container>) -> Option<Box<dyn HostLease>> {
        let record = container.record();
        let opened = self
            .config()
            .host_ports
            .open(&record.id, &record.name)
            .await;
        let warn = |error: &PortError| {
            tracing::warn!(%error, container = record.name, "a port is not published again");
        };
        let mut lease = opened.inspect_err(warn).ok()?;
        let ports = container.state().run.ports;
        for (number, transport, addresses, port) in grouped(&ports) {
            let (_, there) = self.sides(&addresses);
            if there.is_empty() {
                continue;
            }
            // The others are of use without it.
            let _ = lease
                .bind(number, transport, &there, port)
                .await
                .inspect_err(warn);
        }
        let kept = self.keep(container, &*lease);
        kept.inspect_err(|error| {
            tracing::error!(error = error.text(), "ports do not outlive the engine");
        })
        .ok()?;
        Some(lease)
    }

    /// Publishes or takes back, after a network was joined or left.
    pub(crate) async fn settle_ports(&self, container: &Arc<Container>) -> Result<()> {
        let (record, places) = (container.record(), container.places().unwrap_or_default());
        let ports = if self.reached_at(&record, &places).is_some() {
            self.publish(container, &record).await?
        } else {
            self.unpublish(container).await;
            Vec::new()
        };
        container.change(|state| state.run.ports = ports);
        Ok(())
    }

    /// Takes back what is published of a container. When this returns others can have it.
    pub(crate) async fn unpublish(&self, container: &Container) {
        let Some(published) = lock(&container.published).take() else {
            return;
        };
        let Published { ended, close, .. } = published;
        ended.send_replace(true);
        let (done, closed) = oneshot::channel();
        if close.send(done).is_ok() && tokio::time::timeout(CLOSING, closed).await.is_err() {
            tracing::warn!(container = container.id(), "the host does not close ports");
        }
        self.keeper(container).remove(KEPT);
    }

    /// Goes on with what is published of a container that went on without an engine.
    pub(crate) async fn publish_again(&self, container: &Arc<Container>, kept: Option<OwnedFd>) {
        let run = container.state().run;
        let Some(ports) = self.ports().filter(|_| !run.ports.is_empty()) else {
            return;
        };
        if let Err(error) = ports.lead_back().await {
            tracing::error!(%error, "answers of published ports do not come back");
        }
        let ended = watch::Sender::new(false);
        let (mut listening, mut taken) = (Vec::new(), Vec::new());
        for (number, transport, addresses, port) in grouped(&run.ports) {
            taken.push(self.book().note(transport, &addresses, port));
            let own = run.ports.iter().find(|one| one.number == number);
            let way = self.way(container, own.map_or(0, |one| one.port), &ended);
            let (here, _) = self.sides(&addresses);
            match ports.listen(transport, &here, port, &way).await {
                Ok(one) => listening.push(one),
                Err(error) => {
                    tracing::error!(%error, port, "the machine itself does not reach a port");
                }
            }
        }
        let (close, asked) = oneshot::channel();
        *lock(&container.published) = Some(Published {
            ended,
            close,
            _listening: listening,
            _taken: taken,
        });
        let lease = kept.and_then(|kept| {
            let resumed = self.config().host_ports.resume(kept);
            let warn = |error: &PortError| tracing::warn!(%error, "ports are published anew");
            resumed.inspect_err(warn).ok()
        });
        let lease = match lease {
            Some(lease) => Some(lease),
            None => self.bind_again(container).await,
        };
        if let Some(engine) = self.own().upgrade() {
            tokio::spawn(engine.look_after(Arc::clone(container), lease, asked));
        }
    }

    /// Brings somebody whom the host hands on to a container; returns when they have parted.
    pub async fn arrived(&self, id: &str, number: u32, arrival: Arrival) {
        let Some(ports) = self.ports() else { return };
        let arrival = self
            .arrived_at_host_network(ports, id, number, arrival)
            .await;
        let (Some(arrival), Ok(container)) = (arrival, self.containers().find(id)) else {
            return;
        };
        let run = container.state().run;
        let Some(own) = run.ports.iter().find(|one| one.number == number) else {
            return;
        };
        let ended = match &*lock(&container.published) {
            Some(published) => published.ended.subscribe(),
            None => return,
        };
        let way = ContainerPort {
            engine: self.own(),
            container: Arc::downgrade(&container),
            port: own.port,
            ended,
        };
        ports.serve(arrival, &way).await;
    }
}

/// The name of the stream to the host among what an engine before this one kept.
pub(crate) fn kept(kept: &mut Kept) -> Option<OwnedFd> {
    kept.remove(KEPT)
}

/// Ports with all their addresses.
fn grouped(ports: &[PublishedPort]) -> Vec<(u32, Transport, Vec<IpAddr>, u16)> {
    let mut all: Vec<(u32, Transport, Vec<IpAddr>, u16)> = Vec::new();
    for one in ports {
        match all.iter_mut().find(|(number, ..)| *number == one.number) {
            Some((_, _, addresses, _)) => addresses.push(one.host_ip),
            None => all.push((one.number, one.transport, vec![one.host_ip], one.host_port)),
        }
    }
    all
}

/// How a start fails in which a port cannot be published.
fn in_networking(container: &Container, record: &Record, error: &Error) -> Error {
    let places = container.places().unwrap_or_default();
    let mut ids = places.values().map(|place| place.endpoint_id.as_str());
    let text = format!(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {} \
         ({}): {}",
        record.name,
        ids.next().unwrap_or_default(),
        error.text()
    );
    Error::new(error.kind(), text)
}

fn refused(error: &PortError) -> Error {
    Error::new(Kind::Internal, error.to_string())
}

fn refusal(error: &std::io::Error) -> PortError {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => PortError::InUse("address already in use".into()),
        std::io::ErrorKind::AddrNotAvailable => {
            PortError::Refused("cannot assign requested address".into())
        }
        _ => PortError::Refused(error.to_string()),
    }
}

/// The name on the wire.
pub(super) fn kind(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}
