//! How somebody who comes to a published port reaches the container, at that moment.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use lighter_network::ports::{Route, Share, Way};
use tokio::sync::watch;

use crate::containers::{Container, Place, Record};
use crate::engine::Engine;
use crate::networks::Network;

/// Where a container is reached.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    pub v4: Option<At>,
    pub v6: Option<At>,
}

/// An address, and the bridge that leads there.
#[derive(Debug, Clone)]
pub(super) struct At {
    pub ip: IpAddr,
    pub bridge: String,
}

/// What all that is published of a container has in common, for as long as it is.
#[derive(Debug, Default)]
pub(super) struct Publication {
    /// Set with its end.
    pub ended: watch::Sender<bool>,
    pub share: Arc<Share>,
}

/// One port of a container.
pub(super) struct ContainerPort {
    engine: Weak<Engine>,
    container: Weak<Container>,
    port: u16,
    ended: watch::Receiver<bool>,
    share: Arc<Share>,
}

impl Way for ContainerPort {
    fn route(&self, client: Option<SocketAddr>, v6: bool) -> Option<Route> {
        let (engine, container) = (self.engine.upgrade()?, self.container.upgrade()?);
        let reached = engine.reached_at(&container.record(), &container.places()?)?;
        // IPv6 where both have it.
        let at = match (v6, reached.v4, reached.v6) {
            (true, _, Some(at)) | (_, None, Some(at)) | (_, Some(at), _) => at,
            (_, None, None) => return None,
        };
        let client = client.filter(|client| client.is_ipv4() == at.ip.is_ipv4());
        let client = client.filter(|client| !engine.is_near(client.ip()));
        Some(Route {
            to: SocketAddr::new(at.ip, self.port),
            client: client.map(|client| (client, at.bridge)),
        })
    }

    fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    fn share(&self) -> Arc<Share> {
        Arc::clone(&self.share)
    }
}

impl Engine {
    /// To this port of a container.
    pub(super) fn way(
        &self,
        container: &Arc<Container>,
        port: u16,
        of: &Publication,
    ) -> ContainerPort {
        ContainerPort {
            engine: self.own(),
            container: Arc::downgrade(container),
            port,
            ended: of.ended.subscribe(),
            share: Arc::clone(&of.share),
        }
    }

    /// The addresses of a container in the first network by which it reaches the world, where that is a bridge.
    pub(super) fn reached_at(
        &self,
        record: &Record,
        places: &BTreeMap<String, Place>,
    ) -> Option<Reached> {
        let at = |v6| {
            let (network, ip) = self.reached_by(record, places, v6)?;
            let bridge = network.bridge()?.name;
            Some(At { ip, bridge })
        };
        let (v4, v6) = (at(false), at(true));
        (v4.is_some() || v6.is_some()).then_some(Reached { v4, v6 })
    }

    /// The first network with a gateway of a family in which a container has an address of it, where that is a bridge,
    /// and the address.
    fn reached_by(
        &self,
        record: &Record,
        places: &BTreeMap<String, Place>,
        v6: bool,
    ) -> Option<(Arc<Network>, IpAddr)> {
        let mut ways = self.ways_out(record, places).into_iter();
        ways.find_map(|place| {
            let (gateway, own) = match v6 {
                false => (place.gateway_v4, place.ipv4),
                true => (place.gateway_v6, place.ipv6),
            };
            let ip = gateway.and(own)?.ip();
            let network = self.network_find(&place.network_id).ok()?;
            network.bridge().is_some().then_some((network, ip))
        })
    }

    /// Where ports of a container are on the host whose address nobody chose; nothing means everywhere. It is the
    /// network by which it is reached that says, that of IPv4 before that of IPv6.
    pub(super) fn default_binding(
        &self,
        record: &Record,
        places: &BTreeMap<String, Place>,
    ) -> Option<IpAddr> {
        let of = |v6| self.reached_by(record, places, v6);
        let network = of(false).or_else(|| of(true)).map(|(network, _)| network);
        match network.and_then(|network| network.host_binding()) {
            Some(own) => Some(own).filter(|ip| !ip.is_unspecified()),
            None => self.config().settings.ip.parse().ok(),
        }
    }

    /// Whether an address is the machine's or one of its networks', so that nobody else comes from there.
    fn is_near(&self, ip: IpAddr) -> bool {
        if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            // It is somebody else's on every link.
            return true;
        }
        let foreign = self.config().foreign_subnets.iter();
        foreign.copied().any(|subnet| subnet.contains(ip))
            || self.networks().all().iter().any(|network| {
                let mut pools = network.pools.iter();
                pools.any(|pool| pool.subnet.contains(ip))
            })
    }
}
