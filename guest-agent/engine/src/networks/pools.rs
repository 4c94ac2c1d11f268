//! Where the subnets of networks come from whose users name none: dockerd's pools, or the setting
//! `default-address-pools`.

use std::net::{IpAddr, Ipv6Addr};

use sha2::{Digest as _, Sha256};

use super::subnet::{self, Blocks, Subnet};
use crate::config::{AddressPool, HostRoute};
use crate::error::{Error, Kind, Result};

/// dockerd's, with the prefix of what is cut from each.
const DEFAULTS: [(&str, u8); 7] = [
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
];

/// What is cut from unique local addresses, in bits.
const LOCAL_V6: u8 = 64;

/// The pools of both families, in their order.
#[derive(Debug)]
pub(super) struct Pools(Vec<(Subnet, u8)>);

impl Pools {
    /// Those of the setting; a family it does not name has the default ones.
    pub(super) fn new(setting: &[AddressPool], machine_id: &str) -> Self {
        let read = |pool: &AddressPool| {
            let base = Subnet::parse(&pool.base).filter(|base| base.prefix() <= pool.size);
            let read = base.and_then(|base| {
                Subnet::new(base.ip(), pool.size).map(|_| (base.masked(), pool.size))
            });
            if read.is_none() {
                tracing::warn!(
                    base = pool.base,
                    size = pool.size,
                    "an address pool is left out"
                );
            }
            read
        };
        let mut pools: Vec<_> = setting.iter().filter_map(read).collect();
        if !pools.iter().any(|(base, _)| !base.is_v6()) {
            let known = |(base, size)| Subnet::parse(base).map(|base| (base, size));
            pools.extend(DEFAULTS.into_iter().filter_map(known));
        }
        if !pools.iter().any(|(base, _)| base.is_v6()) {
            pools.extend(local(machine_id).map(|base| (base, LOCAL_V6)));
        }
        Self(pools)
    }

    /// Those that there are without a setting, of IPv4.
    pub(super) fn defaults() -> Self {
        let known = |(base, size)| Subnet::parse(base).map(|base| (base, size));
        Self(DEFAULTS.into_iter().filter_map(known).collect())
    }

    /// The first block that overlaps none of `taken`, and nothing that the host has a route to.
    ///
    /// Where that leaves none, because a VPN has all private addresses behind its router, or half the world, one that
    /// the host reaches by a router; then any.
    pub(super) fn choose(&self, v6: bool, taken: &Blocks, routes: &[HostRoute]) -> Result<Subnet> {
        let kept_from: [fn(&HostRoute) -> bool; 3] = [|_| true, |route| route.direct, |_| false];
        for (attempt, kept) in kept_from.into_iter().enumerate() {
            let mut taken = taken.clone();
            let routes = routes.iter().filter(|route| kept(route));
            routes.for_each(|route| taken.add(route.to));
            if let Some(found) = self.first(v6, &taken) {
                if attempt > 0 {
                    tracing::warn!(subnet = %found, "a network where the host has a route of its own");
                }
                return Ok(found);
            }
        }
        let text = "all predefined address pools have been fully subnetted";
        Err(Error::new(Kind::InvalidArgument, text))
    }

    fn first(&self, v6: bool, taken: &Blocks) -> Option<Subnet> {
        let mut pools = self.0.iter().filter(|(base, _)| base.is_v6() == v6);
        pools.find_map(|(base, size)| free(*base, *size, taken))
    }
}

fn free(base: Subnet, size: u8, taken: &Blocks) -> Option<Subnet> {
    let mut ip = base.first();
    loop {
        let block = Subnet::new(ip, size)?;
        let Some(other) = taken.last_in(block) else {
            return Some(block);
        };
        // Behind the larger of the two, which is where the next one can begin.
        let end = if other.prefix() < size { other } else { block };
        ip = subnet::next(end.last())?;
        if !base.contains(ip) {
            return None;
        }
    }
}

/// Unique local addresses of this machine's own, as dockerd derives them from its host's id.
fn local(machine_id: &str) -> Option<Subnet> {
    let hash = Sha256::digest(machine_id);
    let mut bytes = [0_u8; 16];
    bytes[0] = 0xfd;
    for (byte, own) in bytes.iter_mut().skip(1).zip(hash.iter().skip(27)) {
        *byte = *own;
    }
    Subnet::new(IpAddr::V6(Ipv6Addr::from(bytes)), 48)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(texts: &[&str]) -> Blocks {
        texts
            .iter()
            .map(|text| Subnet::parse(text).unwrap())
            .collect()
    }

    #[test]
    fn the_first_free_block_of_dockerds_pools_is_taken() {
        let pools = Pools::new(&[], "m");
        for (taken, chosen) in [
            (&["172.17.0.0/16"][..], "172.18.0.0/16"),
            (&["172.17.0.0/16", "172.18.5.0/24"], "172.19.0.0/16"),
            (&["172.16.0.0/12"], "192.168.0.0/20"),
            (&["172.16.0.0/12", "192.168.0.0/19"], "192.168.32.0/20"),
        ] {
            assert_eq!(
                pools
                    .choose(false, &blocks(taken), &[])
                    .unwrap()
                    .to_string(),
                chosen
            );
        }
        let none = pools.choose(false, &blocks(&["172.16.0.0/12", "192.168.0.0/16"]), &[]);
        assert!(none.unwrap_err().text().contains("fully subnetted"));
    }

    #[test]
    fn what_the_host_has_routes_to_is_kept_from_as_long_as_anything_is_left() {
        let pools = Pools::new(&[], "m");
        let taken = blocks(&["172.17.0.0/16"]);
        let chosen = |routes: &[(&str, bool)]| {
            let route = |(to, direct): &(&str, bool)| HostRoute {
                to: Subnet::parse(to).unwrap(),
                direct: *direct,
            };
            let routes: Vec<_> = routes.iter().map(route).collect();
            let chosen = pools.choose(false, &taken, &routes);
            chosen.unwrap().to_string()
        };
        let near = ("172.18.0.0/15", true);
        assert_eq!(chosen(&[near]), "172.20.0.0/16");
        assert_eq!(chosen(&[near, ("172.20.7.0/24", false)]), "172.21.0.0/16");
        assert_eq!(chosen(&[near, ("172.16.0.0/12", false)]), "192.168.0.0/20");
        let world = [("0.0.0.0/1", false), ("128.0.0.0/1", false)];
        assert_eq!(chosen(&[near, world[0], world[1]]), "172.20.0.0/16");
        assert_eq!(chosen(&[near, ("128.0.0.0/1", true)]), "172.18.0.0/16");
    }

    #[test]
    fn thirty_one_networks_fit_and_no_more() {
        let pools = Pools::new(&[], "m");
        let (mut taken, mut count) = (Blocks::default(), 0);
        while let Ok(block) = pools.choose(false, &taken, &[]) {
            taken.add(block);
            count += 1;
        }
        assert_eq!(count, 31);
    }

    #[test]
    fn local_addresses_are_the_machines_own() {
        let first = |machine: &str| {
            Pools::new(&[], machine)
                .choose(true, &blocks(&[]), &[])
                .unwrap()
        };
        assert_eq!(first("m"), first("m"));
        assert_ne!(first("m"), first("n"));
        assert!(first("m").to_string().starts_with("fd"));
        assert_eq!(first("m").prefix(), 64);
        let taken = [first("m")].into_iter().collect();
        let second = Pools::new(&[], "m").choose(true, &taken, &[]).unwrap();
        assert_eq!(Some(second.first()), subnet::next(first("m").last()));
    }

    #[test]
    fn the_setting_takes_the_place_of_its_family() {
        let pool = |base: &str, size| AddressPool {
            base: base.into(),
            size,
        };
        let pools = Pools::new(&[pool("10.7.0.0/16", 24), pool("wrong", 8)], "m");
        assert_eq!(
            pools.choose(false, &blocks(&[]), &[]).unwrap().to_string(),
            "10.7.0.0/24"
        );
        assert!(pools.choose(false, &blocks(&["10.0.0.0/8"]), &[]).is_err());
        assert!(
            pools
                .choose(true, &blocks(&[]), &[])
                .unwrap()
                .to_string()
                .starts_with("fd")
        );
    }
}
