//! How somebody who comes to a published port reaches the container, at that moment.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Weak;

use lighter_network::ports::{Route, Way};
use tokio::sync::watch;

use crate::containers::{Container, Place, Record};
use crate::engine::Engine;

/// One port of a container.
pub(super) struct ContainerPort {
    pub engine: Weak<Engine>,
    pub container: Weak<Container>,
    pub port: u16,
    pub ended: watch::Receiver<bool>,
}

impl Way for ContainerPort {
    fn route(&self, client: Option<SocketAddr>, v6: bool) -> Option<Route> {
        let (engine, container) = (self.engine.upgrade()?, self.container.upgrade()?);
        let (v4_at, v6_at) = engine.reached_at(&container.record(), &container.places()?)?;
        // IPv6 where both have it.
        let at = match (v6, v4_at, v6_at) {
            (true, _, Some(ip)) | (_, None, Some(ip)) | (_, Some(ip), _) => ip,
            (_, None, None) => return None,
        };
        let client = client.filter(|client| client.is_ipv4() == at.is_ipv4());
        Some(Route {
            to: SocketAddr::new(at, self.port),
            client: client.filter(|client| !engine.is_near(client.ip())),
        })
    }

    fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }
}

impl Engine {
    /// The addresses of a container in the first network by which it reaches the world, where that is a bridge.
    pub(super) fn reached_at(
        &self,
        record: &Record,
        places: &BTreeMap<String, Place>,
    ) -> Option<(Option<IpAddr>, Option<IpAddr>)> {
        let leads_out = |place: &Place| {
            let network = self.network_find(&place.network_id);
            network.is_ok_and(|network| network.bridge().is_some())
        };
        let ordered = self.ways_out(record, places);
        let of = |gateway: fn(&Place) -> bool, own: fn(&Place) -> Option<IpAddr>| {
            let mut out = ordered.iter().filter(|place| gateway(place));
            out.find(|place| leads_out(place))
                .and_then(|place| own(place))
        };
        let v4 = of(
            |place| place.gateway_v4.is_some(),
            |place| place.ipv4.map(|subnet| subnet.ip()),
        );
        let v6 = of(
            |place| place.gateway_v6.is_some(),
            |place| place.ipv6.map(|subnet| subnet.ip()),
        );
        (v4.is_some() || v6.is_some()).then_some((v4, v6))
    }

    /// Whether an address is the machine's or one of its networks', so that nobody else comes from there.
    fn is_near(&self, ip: IpAddr) -> bool {
        let foreign = self.config().foreign_subnets.iter();
        foreign.copied().any(|subnet| subnet.contains(ip))
            || self.networks().all().iter().any(|network| {
                let mut pools = network.pools.iter();
                pools.any(|pool| pool.subnet.contains(ip))
            })
    }
}
