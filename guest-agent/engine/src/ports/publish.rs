//! Publishing: at a start, and when a network is joined or left; and those who come.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lighter_network::ports::{Arrival, Listening, Ports, Transport, Way, is_here_too};

use super::PublishedPort;
use super::book::{NoPort, Taken};
use super::host::{HostLease, PortError};
use super::wanted::{Wanted, wanted};
use super::way::{Publication, Reached};
use crate::containers::{Container, Record, lock};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// How many ports of a range are tried where others than containers have them; dockerd's.
const ATTEMPTS: u32 = 10;

/// What is to be published, as it is put together.
pub(super) struct Draft {
    pub publication: Publication,
    /// Nothing while there is no host: the next one is asked.
    pub lease: Option<Box<dyn HostLease>>,
    pub listening: Vec<Listening>,
    pub taken: Vec<Taken>,
    pub ports: Vec<PublishedPort>,
}

impl Draft {
    /// Has nobody listen any more.
    async fn abandon(self) {
        for listening in self.listening {
            listening.close().await;
        }
        if let Some(lease) = self.lease {
            lease.close().await;
        }
    }
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
        let default = self.default_binding(record, &places);
        let wanted = wanted(
            &record.config,
            &record.host_config,
            default,
            at.v4.is_some(),
        )
        .map_err(failed)?;
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
            publication: Publication::default(),
            lease: match opened {
                Ok(lease) => Some(lease),
                // A container that its policy starts again is not kept down by that.
                Err(PortError::Unavailable(error)) => {
                    tracing::warn!(error, container = record.name, "not published yet");
                    None
                }
                Err(error) => return Err(failed(refused(&error))),
            },
            listening: Vec::new(),
            taken: Vec::new(),
            ports: Vec::new(),
        };
        for (number, one) in (0..).zip(&wanted) {
            let published = self.publish_one(container, ports, &mut draft, number, one, &at);
            if let Err(error) = published.await {
                draft.abandon().await;
                return Err(failed(error));
            }
        }
        let kept = match &draft.lease {
            Some(lease) => self.keep(container, &**lease),
            None => Ok(()),
        };
        if let Err(error) = kept {
            draft.abandon().await;
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
        at: &Reached,
    ) -> Result<()> {
        let Wanted {
            transport,
            addresses,
            first,
            last,
            ..
        } = wanted;
        let way: Arc<dyn Way> = Arc::new(self.way(container, wanted.port, &draft.publication));
        // Those that are refused stay taken until one is found, so that it is another one.
        let mut refused = Vec::new();
        loop {
            let taken = self
                .book()
                .take(container.id(), *transport, addresses, (*first, *last));
            let taken = taken.map_err(|error| self.no_port(container, &error))?;
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
                let at = at.v4.as_ref().or(at.v6.as_ref());
                let at = at.map(|at| SocketAddr::new(at.ip, wanted.port));
                let at = at.map(|at| at.to_string()).unwrap_or_default();
                let kind = kind(*transport);
                let on = addresses.first().map(|ip| SocketAddr::new(*ip, port));
                let on = on.map(|on| on.to_string()).unwrap_or_default();
                let text = format!("failed to bind host port for {on}:{at}/{kind}: {error}");
                return Err(Error::new(Kind::Internal, text));
            }
        }
    }

    /// Dockerd's words, and which container has the port where that is another one.
    fn no_port(&self, container: &Container, error: &NoPort) -> Error {
        let mut text = error.to_string();
        if let NoPort::Allocated { owner, .. } = error
            && **owner != *container.id()
            && let Ok(owner) = self.containers().find(owner)
        {
            text.push_str(&by_container(&owner.name()));
        }
        Error::new(Kind::Internal, text)
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
        let listening = match listening.map_err(|error| refusal(&error)) {
            Err(PortError::InUse(mut text)) => {
                // Who is not published has it in the host's network.
                let owner = self.who_listens(ports, wanted.transport, port).await;
                text.push_str(&owner.map(|name| by_container(&name)).unwrap_or_default());
                return Err(PortError::InUse(text));
            }
            listening => listening?,
        };
        if let Some(lease) = draft.lease.as_mut().filter(|_| !there.is_empty()) {
            let bind = lease.bind(number, wanted.transport, &there, port);
            match bind.await {
                // The host went meanwhile, with all that it listened on: the next one is asked for all.
                Err(PortError::Unavailable(error)) => {
                    tracing::warn!(error, port, "not published yet");
                    draft.lease = None;
                }
                bound => bound?,
            }
        }
        Ok(listening)
    }

    /// Which of these the machine listens on, and which the host.
    pub(super) fn sides(&self, addresses: &[IpAddr]) -> (Vec<IpAddr>, Vec<IpAddr>) {
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
        let way = match &*lock(&container.published) {
            Some(published) => self.way(&container, own.port, published.publication()),
            None => return,
        };
        ports.serve(arrival, &way).await;
    }
}

/// What is said behind the words for a port that is taken.
fn by_container(name: &str) -> String {
    format!(" by the container `{name}`")
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
