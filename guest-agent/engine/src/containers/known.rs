//! Which names a container knows: those of the containers that run in its networks.
//!
//! Called by the name server of [`lighter_network::names`], on the engine's own threads: nothing in here waits.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use lighter_network::names::{Onward, Zone};

use super::record::Place;
use super::{Container, Record, lock};
use crate::engine::Engine;
use crate::ids;
use crate::model::EndpointSettings;
use crate::networks::{self, Network, Subnet};

/// The containers of an engine, as long as it is there.
pub(super) struct Known(pub(super) Weak<Engine>);

impl Zone for Known {
    fn addresses(&self, asker: &str, name: &str, v6: bool) -> Option<Vec<IpAddr>> {
        let engine = self.0.upgrade()?;
        let asker = engine.containers().find(asker).ok()?;
        let record = asker.record();
        let joined = engine.joined(&asker);
        let mut known = false;
        for (name, of) in readings(name) {
            for (key, place, network) in &joined {
                if of.is_some_and(|of| !of.eq_ignore_ascii_case(&network.name)) {
                    continue;
                }
                let name = linked(record.endpoints.get(key), name).unwrap_or(Cow::Borrowed(name));
                let mut found = engine.places_named(&place.network_id, &name);
                known |= !found.is_empty();
                found.retain(|place| address(place, v6).is_some());
                if !found.is_empty() {
                    return Some(
                        found
                            .iter()
                            .filter_map(|place| address(place, v6))
                            .collect(),
                    );
                }
            }
        }
        known.then(Vec::new)
    }

    fn name(&self, asker: &str, ip: IpAddr) -> Option<String> {
        let engine = self.0.upgrade()?;
        let asker = engine.containers().find(asker).ok()?;
        let joined = engine.joined(&asker);
        joined.iter().find_map(|(_, place, network)| {
            let all = engine.containers().all();
            let has = |container: &&Arc<Container>| {
                let own = place_in(container, &place.network_id);
                own.is_some_and(|(_, own)| address(&own, ip.is_ipv6()) == Some(ip))
            };
            let owner = all.iter().find(has)?;
            Some(format!("{}.{}", owner.name(), network.name))
        })
    }

    fn onward(&self, asker: &str) -> Onward {
        let engine = self.0.upgrade();
        let asker = engine
            .as_ref()
            .map(|engine| engine.containers().find(asker));
        let (Some(engine), Some(Ok(asker))) = (engine, asker) else {
            return Onward::default();
        };
        let resolving = engine.resolving(&asker.record());
        let mut onward = Onward {
            servers: engine.outer_servers(&resolving),
            from_container: resolving.own_servers,
            plain_names: resolving.ndots().is_none_or(|dots| dots == 0),
        };
        // Through the host's servers a container would reach the world that is to reach nobody.
        if !onward.from_container && !engine.has_way_out(&asker) {
            onward.servers.clear();
        }
        onward
    }
}

impl Engine {
    /// The places of a container in networks that have names, in the order that they are looked into.
    fn joined(&self, container: &Container) -> Vec<(String, Place, Arc<Network>)> {
        let record = container.record();
        let places = container.places().unwrap_or_default().into_iter();
        let named = places.filter(|(name, _)| !networks::is_builtin(name));
        let mut joined: Vec<_> = named
            .filter_map(|(name, place)| {
                let network = self.network_find(&place.network_id).ok()?;
                Some((name, place, network))
            })
            .collect();
        // Those first that the way out may lead through; stable, so that the others are in the order of their names.
        joined.sort_by_key(|(name, place, network)| {
            let priority = record.endpoints.get(name).map_or(0, |own| own.gw_priority);
            let families = [place.gateway_v4, place.gateway_v6];
            let families = families.iter().flatten().count();
            (Reverse(priority), network.internal, Reverse(families))
        });
        joined
    }

    /// Whether it is in a network that leads anywhere.
    fn has_way_out(&self, container: &Container) -> bool {
        let places = container.places().unwrap_or_default();
        let leads = |place: &Place| {
            let network = self.network_find(&place.network_id);
            !place.interface.is_empty() && network.is_ok_and(|network| !network.internal)
        };
        places.values().any(leads)
    }

    /// The places in a network of the containers that have a name there.
    fn places_named(&self, network_id: &str, name: &str) -> Vec<Place> {
        let all = self.containers().all();
        let found = all.iter().filter_map(|container| {
            let (key, place) = place_in(container, network_id)?;
            let record = container.record();
            answers_to(&record, record.endpoints.get(&key), name).then_some(place)
        });
        found.collect()
    }
}

/// The place of a container that runs in a network, and what it is known by there.
fn place_in(container: &Container, network_id: &str) -> Option<(String, Place)> {
    let lease = lock(&container.lease);
    let mut places = lease.as_ref()?.places.iter();
    let there = |place: &Place| place.network_id == network_id && !place.interface.is_empty();
    let (key, place) = places.find(|(_, place)| there(place))?;
    Some((key.clone(), place.clone()))
}

fn address(place: &Place, v6: bool) -> Option<IpAddr> {
    if v6 { place.ipv6 } else { place.ipv4 }.map(Subnet::ip)
}

/// Whether a container has this name in a network; the same that [`Record::dns_names`] lists.
fn answers_to(record: &Record, endpoint: Option<&EndpointSettings>, name: &str) -> bool {
    let aliases = endpoint.and_then(|endpoint| endpoint.aliases.as_deref());
    let mut names = aliases
        .unwrap_or_default()
        .iter()
        .map(String::as_str)
        .chain([
            record.name.as_str(),
            ids::short(&record.id),
            record.config.hostname.as_str(),
        ]);
    names.any(|own| own.eq_ignore_ascii_case(name))
}

/// What the asker itself calls this name in a network, by its links there.
fn linked<'a>(endpoint: Option<&EndpointSettings>, name: &str) -> Option<Cow<'a, str>> {
    let links = endpoint?.links.as_deref()?;
    links.iter().find_map(|link| {
        let (container, alias) = link.split_once(':')?;
        let container = container.trim_start_matches('/');
        alias
            .eq_ignore_ascii_case(name)
            .then(|| Cow::Owned(container.to_owned()))
    })
}

/// What a name may mean: itself, and at every dot a name in a network.
fn readings(name: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let dots = name.rmatch_indices('.');
    let split = dots.map(|(at, _)| (&name[..at], Some(&name[at + 1..])));
    std::iter::once((name, None)).chain(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_dots_may_be_one_in_a_network() {
        let all: Vec<_> = readings("a.b.c").collect();
        assert_eq!(
            all,
            [("a.b.c", None), ("a.b", Some("c")), ("a", Some("b.c"))]
        );
        assert_eq!(readings("a").collect::<Vec<_>>(), [("a", None)]);
    }

    #[test]
    fn links_are_names_of_the_askers_own() {
        let endpoint = EndpointSettings {
            links: Some(vec!["/db1:db".into(), "x".into()]),
            ..EndpointSettings::default()
        };
        assert_eq!(linked(Some(&endpoint), "DB").as_deref(), Some("db1"));
        assert_eq!(linked(Some(&endpoint), "db1"), None);
        assert_eq!(linked(None, "db"), None);
    }
}
