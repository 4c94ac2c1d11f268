//! What changes in a container that runs when it is put into one more network or taken out of one: its way to
//! everywhere, and the names in its `/etc/hosts`. Only what has to: what was set in the container stays.
//!
//! Called by the plugs, for connect and disconnect, and for what an engine had begun of these.
//! Must never: undo that a network was joined or left.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use lighter_network::plan::WayOut;

use super::endpoints::Places;
use super::plugs::{copy, namespace_of_live};
use super::record::Place;
use super::{Live, Record};
use crate::engine::Engine;
use crate::error::Result;
use crate::networks::refused;

impl Engine {
    /// What is left to do where a network was joined, which is one of these places.
    pub(super) async fn after_joining(
        &self,
        namespace: &OwnedFd,
        record: &Record,
        places: &Places,
        name: &str,
    ) -> Result<()> {
        let mut before = places.clone();
        let joined = before.remove(name);
        let (before, way) = (self.way_out(record, &before), self.way_out(record, places));
        // One that was begun by an engine before this one may have been set or not.
        let begun = joined.as_ref().is_some_and(|place| place.pending);
        if begun || way != before {
            self.set_way_out(copy(namespace)?, &way).await?;
        }
        self.link_again(record, places, name)?;
        joined.map_or(Ok(()), |place| self.add_to_hosts(record, &place))
    }

    /// What is left to do where a network was left, which was one of these places. It is left all the same if this
    /// fails.
    pub(super) async fn after_leaving(
        &self,
        live: &Live,
        record: &Record,
        places: &Places,
        name: &str,
    ) {
        let mut left = places.clone();
        let Some(place) = left.remove(name) else {
            return;
        };
        let (before, way) = (self.way_out(record, places), self.way_out(record, &left));
        let changed = async {
            // Of one that has ended meanwhile nobody asks for the way.
            match namespace_of_live(live) {
                Ok(namespace) if place.pending || way != before => {
                    self.set_way_out(namespace, &way).await
                }
                _ => Ok(()),
            }
        };
        for done in [changed.await, self.remove_from_hosts(record, &place)] {
            if let Err(error) = done {
                let error = error.text();
                tracing::warn!(
                    error,
                    container = record.name,
                    network = name,
                    "after leaving"
                );
            }
        }
    }

    pub(super) async fn set_way_out(&self, namespace: OwnedFd, way: &WayOut) -> Result<()> {
        match self.wiring() {
            Some(wiring) => wiring.set_way_out(namespace, way).await.map_err(refused),
            None => Ok(()),
        }
    }

    /// Places in the order in which they are the way out.
    pub(crate) fn ways_out<'a>(&self, record: &Record, places: &'a Places) -> Vec<&'a Place> {
        let priority = |name: &str| record.endpoints.get(name).map_or(0, |e| e.gw_priority);
        let mut order: Vec<_> = places.iter().collect();
        // Stable: those of one priority stay in the order of their names.
        order.sort_by_key(|(name, _)| std::cmp::Reverse(priority(name)));
        order.into_iter().map(|(_, place)| place).collect()
    }

    /// How a container with these places reaches what is in none of its networks.
    pub(super) fn way_out(&self, record: &Record, places: &Places) -> WayOut {
        let order = self.ways_out(record, places);
        let router = |gateway: fn(&Place) -> Option<IpAddr>| {
            let mut all = order.iter();
            all.find_map(|place| Some((gateway(place)?, place.interface.clone())))
        };
        let direct = order.iter().filter(|place| self.is_direct(place));
        let direct: Vec<String> = direct.map(|place| place.interface.clone()).collect();
        let gateways = [
            router(|place| place.gateway_v4),
            router(|place| place.gateway_v6),
        ];
        WayOut {
            gateways: gateways.into_iter().flatten().collect(),
            direct: direct.into_iter().take(1).collect(),
        }
    }

    /// Whether its interface is itself the way out.
    fn is_direct(&self, place: &Place) -> bool {
        let network = self.network_find(&place.network_id);
        network.is_ok_and(|network| network.is_direct())
    }
}
