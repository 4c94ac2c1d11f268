//! Which addresses are given out: in memory alone, known again from the containers that run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::subnet::{self, Subnet};
use super::{Network, Pool};
use crate::error::{Error, Kind, Result};

/// Addresses by the id of their network. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given(Arc<Mutex<BTreeMap<String, BTreeSet<IpAddr>>>>);

impl Given {
    /// Gives out an address of a family: this one, or the first that is free.
    pub(crate) fn take(
        &self,
        network: &Network,
        v6: bool,
        wanted: Option<IpAddr>,
    ) -> Result<(Subnet, Option<IpAddr>)> {
        let mut all = self.lock();
        let used = all.entry(network.id.clone()).or_default();
        let pools = network.pools.iter();
        let mut pools = pools.filter(|pool| pool.subnet.is_v6() == v6);
        let free = |pool: &Pool, ip| !pool.keeps(ip) && !used.contains(&ip);
        let found = match wanted {
            Some(ip) => pools
                .find(|pool| pool.subnet.contains(ip))
                .filter(|pool| free(pool, ip))
                .map(|pool| (pool, ip))
                .ok_or_else(|| Error::forbidden("Address already in use"))?,
            None => pools
                .find_map(|pool| Some((pool, first(pool, |ip| free(pool, ip))?)))
                .ok_or_else(|| none_left(network, v6))?,
        };
        let (pool, ip) = found;
        let address = Subnet::new(ip, pool.subnet.prefix());
        let address = address.ok_or_else(|| none_left(network, v6))?;
        used.insert(ip);
        Ok((address, pool.gateway))
    }

    /// Says that a container that runs has this address.
    pub(crate) fn note(&self, network: &str, ip: IpAddr) {
        self.lock()
            .entry(network.to_owned())
            .or_default()
            .insert(ip);
    }

    /// Takes an address back.
    pub(crate) fn give_back(&self, network: &str, ip: IpAddr) {
        let mut all = self.lock();
        if let Some(used) = all.get_mut(network) {
            used.remove(&ip);
            if used.is_empty() {
                all.remove(network);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<IpAddr>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Whether an address is nobody's to have.
    fn keeps(&self, ip: IpAddr) -> bool {
        self.is_edge(ip) || self.gateway == Some(ip) || self.others.contains(&ip)
    }
}

fn first(pool: &Pool, free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let range = pool.range.unwrap_or(pool.subnet);
    let mut ip = range.first();
    while !free(ip) {
        ip = subnet::next(ip).filter(|ip| range.contains(*ip))?;
    }
    Some(ip)
}

fn none_left(network: &Network, v6: bool) -> Error {
    let family = if v6 { "IPv6" } else { "IPv4" };
    Error::new(
        Kind::Unavailable,
        format!(
            "no available {family} addresses on this network's address pools: {} ({})",
            network.name, network.id
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::builtin;

    fn network(subnet: &str, range: Option<&str>) -> Network {
        let [_, _, mut network] = builtin::all("m");
        network.pools = vec![Pool {
            subnet: Subnet::parse(subnet).unwrap(),
            range: range.and_then(Subnet::parse),
            gateway: Subnet::parse(subnet).and_then(|own| subnet::next(own.first())),
            others: BTreeSet::new(),
            named: true,
        }];
        network
    }

    fn take(given: &Given, network: &Network, wanted: Option<&str>) -> String {
        let wanted = wanted.map(|ip| ip.parse().unwrap());
        let v6 = network.pools[0].subnet.is_v6();
        match given.take(network, v6, wanted) {
            Ok((address, _)) => address.to_string(),
            Err(error) => error.text(),
        }
    }

    #[test]
    fn the_first_free_address_is_given_and_comes_back() {
        let (given, network) = (Given::default(), network("10.1.0.0/29", None));
        assert_eq!(take(&given, &network, None), "10.1.0.2/29");
        assert_eq!(take(&given, &network, Some("10.1.0.4")), "10.1.0.4/29");
        assert_eq!(take(&given, &network, None), "10.1.0.3/29");
        assert_eq!(take(&given, &network, None), "10.1.0.5/29");
        given.give_back(&network.id, "10.1.0.3".parse().unwrap());
        assert_eq!(take(&given, &network, None), "10.1.0.3/29");
        assert_eq!(take(&given, &network, None), "10.1.0.6/29");
        assert!(take(&given, &network, None).starts_with("no available IPv4 addresses"));
    }

    #[test]
    fn an_address_that_is_somebodys_is_refused() {
        let (given, network) = (Given::default(), network("10.1.0.0/24", None));
        given.note(&network.id, "10.1.0.9".parse().unwrap());
        for ip in ["10.1.0.0", "10.1.0.1", "10.1.0.9", "10.1.0.255"] {
            assert_eq!(take(&given, &network, Some(ip)), "Address already in use");
        }
    }

    #[test]
    fn a_range_bounds_what_is_chosen_and_not_what_is_asked() {
        let given = Given::default();
        let network = network("fd00::/64", Some("fd00::8/127"));
        assert_eq!(take(&given, &network, None), "fd00::8/64");
        assert_eq!(take(&given, &network, None), "fd00::9/64");
        assert!(take(&given, &network, None).starts_with("no available IPv6 addresses"));
        assert_eq!(take(&given, &network, Some("fd00::5")), "fd00::5/64");
    }
}
