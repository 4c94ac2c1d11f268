//! Which subnets a new network has: those that its user named, and one of the pools for a family without.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::request::IpamConfig;
use super::subnet::{self, Blocks, Subnet};
use super::{Network, Pool, options};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

const OVERLAPS: &str = "invalid pool request: Pool overlaps with other one on this address space";

impl Engine {
    /// Settles the subnets: those that were asked for, and one of the pools for a family without.
    pub(super) fn give_pools(&self, network: &mut Network) -> Result<()> {
        if matches!(network.driver.as_str(), "host" | "null") {
            return Ok(());
        }
        let asked = network.ipam.config.clone().unwrap_or_default();
        let mut taken = self.taken_subnets();
        let mut shown = asked.clone();
        for v6 in [false, true] {
            let mut pools = Vec::new();
            for config in &asked {
                if let Some(pool) = pool_of(config).filter(|pool| pool.subnet.is_v6() == v6) {
                    pools.push((pool, config));
                }
            }
            let enabled = if v6 {
                network.enable_ipv6
            } else {
                network.enable_ipv4
            };
            if !enabled {
                continue;
            }
            if pools.is_empty() {
                self.choose_pool(network, v6, &taken, &mut shown)?;
                continue;
            }
            for (mut pool, config) in pools {
                if taken.overlap(pool.subnet) {
                    return Err(Error::forbidden(OVERLAPS));
                }
                taken.add(pool.subnet);
                settle(&mut pool, config, options::has_router(network, v6))?;
                network.pools.push(pool);
            }
        }
        network.ipam.config = Some(shown);
        Ok(())
    }

    fn choose_pool(
        &self,
        network: &mut Network,
        v6: bool,
        taken: &Blocks,
        shown: &mut Vec<IpamConfig>,
    ) -> Result<()> {
        if network.ipam.driver == "null" {
            let family = if v6 { "ipv6" } else { "ipv4" };
            return Err(Error::invalid(format!("{family} pool is empty")));
        }
        let mut pool = Pool {
            subnet: {
                let routes = self.config().host_routes.borrow().clone();
                self.networks().pools.choose(v6, taken, &routes)?
            },
            range: None,
            gateway: None,
            others: BTreeSet::new(),
            named: false,
        };
        let router = options::has_router(network, v6);
        settle(&mut pool, &IpamConfig::default(), router)?;
        shown.push(IpamConfig {
            subnet: pool.subnet.to_string(),
            gateway: pool.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
            ..IpamConfig::default()
        });
        network.pools.push(pool);
        Ok(())
    }

    /// Every subnet that is somebody's: of other networks, and what the machine reaches otherwise.
    fn taken_subnets(&self) -> Blocks {
        let networks = self.networks().all();
        let own = networks.iter().flat_map(|network| &network.pools);
        let own = own.map(|pool| pool.subnet);
        own.chain(self.config().foreign_subnets.iter().copied())
            .collect()
    }
}

fn pool_of(config: &IpamConfig) -> Option<Pool> {
    Some(Pool {
        subnet: Subnet::parse(&config.subnet)?,
        range: Subnet::parse(&config.ip_range),
        gateway: config.gateway.parse().ok(),
        others: BTreeSet::new(),
        named: true,
    })
}

/// Gives a subnet its gateway, if there is to be one, and says who else has addresses in it.
pub(super) fn settle(pool: &mut Pool, config: &IpamConfig, router: bool) -> Result<()> {
    let in_use = |what: String| {
        Error::new(
            Kind::Internal,
            format!("failed to allocate {what}: Address already in use"),
        )
    };
    if let Some(gateway) = pool.gateway {
        if pool.is_edge(gateway) {
            return Err(in_use(format!("gateway ({gateway})")));
        }
    } else if router {
        let first = pool.range.unwrap_or(pool.subnet).first();
        pool.gateway = if pool.is_edge(first) {
            subnet::next(first).filter(|ip| pool.subnet.contains(*ip))
        } else {
            Some(first)
        };
    }
    for (name, text) in config.auxiliary_addresses.iter().flatten() {
        let Ok(ip) = text.parse::<IpAddr>() else {
            continue;
        };
        if pool.is_edge(ip) || pool.gateway == Some(ip) || !pool.others.insert(ip) {
            return Err(in_use(format!("secondary ip address ({name}:{ip})")));
        }
    }
    Ok(())
}

impl Pool {
    /// Whether the address is the subnet's own: its first, and in IPv4 its last.
    pub(crate) fn is_edge(&self, ip: IpAddr) -> bool {
        let whole = if self.subnet.is_v6() { 127 } else { 31 };
        self.subnet.prefix() < whole
            && (ip == self.subnet.first() || (!self.subnet.is_v6() && ip == self.subnet.last()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(addresses: impl Iterator<Item = String>) -> IpamConfig {
        let named = addresses.map(|ip| (format!("a{ip}"), ip));
        IpamConfig {
            subnet: "10.0.0.0/8".into(),
            auxiliary_addresses: Some(named.collect()),
            ..IpamConfig::default()
        }
    }

    /// As many as one request can name: what takes a step for each two of them does not come to an end.
    #[test]
    fn addresses_of_others_may_be_many() {
        let many = (0..0x4_0000_u32).map(|number| {
            let [_, a, b, c] = (number + 2).to_be_bytes();
            format!("10.{a}.{b}.{c}")
        });
        let config = config(many);
        let mut pool = pool_of(&config).unwrap();
        settle(&mut pool, &config, true).unwrap();
        assert_eq!(pool.gateway, "10.0.0.1".parse().ok());
        assert_eq!(pool.others.len(), 0x4_0000);
    }

    #[test]
    fn the_routers_address_is_nobody_elses_where_there_is_one() {
        let config = config(std::iter::once("10.0.0.1".to_owned()));
        let mut pool = pool_of(&config).unwrap();
        let refused = settle(&mut pool, &config, true).unwrap_err();
        assert!(refused.text().contains("Address already in use"));
        let mut pool = pool_of(&config).unwrap();
        settle(&mut pool, &config, false).unwrap();
        assert_eq!(pool.gateway, None);
    }
}
