//! The subnets of the default network: those of the settings `bip`, `fixed-cidr` and `fixed-cidr-v6`, else of the pools.
//!
//! Chosen once a boot, and noted in the run directory: containers that go on without an engine stay where they are,
//! whatever the next one would have chosen.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::give::settle;
use super::pools::Pools;
use super::subnet::{Blocks, Subnet};
use super::{IpamConfig, Network, Pool};
use crate::config::{EngineConfig, HostRoute, Settings};
use crate::error::{Error, Kind, Result};

/// Its addresses.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Addresses {
    pools: Vec<Pool>,
    /// As inspect shows them.
    shown: Vec<IpamConfig>,
}

impl Addresses {
    /// Those of this boot: of an earlier engine's choice where `same_boot` says that there was one.
    ///
    /// # Errors
    /// Settings that are no subnets, or that overlap one of `recorded`; what cannot be written down.
    pub(super) fn settled(
        config: &EngineConfig,
        pools: &Pools,
        recorded: &[Network],
        same_boot: bool,
    ) -> Result<Self> {
        let noted = config.run_dir.join("default-bridge.json");
        if same_boot && let Some(earlier) = read(&noted) {
            return Ok(earlier);
        }
        let own = recorded
            .iter()
            .flat_map(|network| network.pools.iter().map(move |pool| (network, pool.subnet)));
        let own: Vec<(&Network, Subnet)> = own.collect();
        let routes = config.host_routes.borrow().clone();
        let others = (&*config.foreign_subnets, &*routes);
        let chosen = choose(&config.settings, pools, &own, others)?;
        write(&noted, &chosen)
            .map_err(|error| Error::internal("the default network cannot be noted", error))?;
        Ok(chosen)
    }

    /// Gives them to the network.
    pub(super) fn give(self, network: &mut Network) {
        network.enable_ipv6 = self.pools.iter().any(|pool| pool.subnet.is_v6());
        network.pools = self.pools;
        network.ipam.config = Some(self.shown);
    }
}

fn choose(
    settings: &Settings,
    pools: &Pools,
    own: &[(&Network, Subnet)],
    (foreign, routes): (&[Subnet], &[HostRoute]),
) -> Result<Addresses> {
    let taken: Blocks = own.iter().map(|(_, subnet)| *subnet).collect();
    let mut taken_or_foreign = taken;
    foreign
        .iter()
        .for_each(|subnet| taken_or_foreign.add(*subnet));
    let of_pools = |v6| {
        let chosen = pools.choose(v6, &taken_or_foreign, routes);
        let chosen = chosen.or_else(|error| {
            if v6 {
                return Err(error);
            }
            // An engine that does not open could not remove a network to make room either.
            tracing::warn!("the address pools are full: the default network takes a default one");
            Pools::defaults().choose(v6, &taken_or_foreign, routes)
        });
        Ok::<_, Error>((pool(chosen?), true))
    };
    let v4 = match (&*settings.bip, &*settings.fixed_cidr) {
        ("", "") => of_pools(false)?,
        (bip, range) => (of_settings(bip, range)?, !bip.is_empty()),
    };
    let mut all = vec![v4];
    if settings.ipv6 {
        all.push(match &*settings.fixed_cidr_v6 {
            "" => of_pools(true)?,
            range => (of_settings("", range)?, false),
        });
    }
    // As dockerd shows them: those that are named before the others.
    all.sort_by_key(|(pool, _)| !pool.named);
    let mut addresses = Addresses {
        pools: Vec::new(),
        shown: Vec::new(),
    };
    for (mut pool, shows_gateway) in all {
        if let Some((network, subnet)) = own.iter().find(|(_, own)| own.overlaps(pool.subnet)) {
            return Err(Error::new(
                Kind::InvalidArgument,
                overlap(settings, pool.subnet, *subnet, &network.name),
            ));
        }
        if foreign.iter().any(|link| link.overlaps(pool.subnet)) {
            let text = format!(
                "error creating default \"bridge\" network: {} of the settings overlaps with the machine's own link",
                pool.subnet
            );
            return Err(Error::new(Kind::InvalidArgument, text));
        }
        settle(&mut pool, &IpamConfig::default(), true).map_err(|error| {
            let text = format!(
                "error creating default \"bridge\" network: {}",
                error.text()
            );
            Error::new(error.kind(), text)
        })?;
        let gateway = pool.gateway.filter(|_| shows_gateway);
        addresses.shown.push(IpamConfig {
            subnet: pool.subnet.to_string(),
            ip_range: pool
                .range
                .map(|range| range.to_string())
                .unwrap_or_default(),
            gateway: gateway.map(|ip| ip.to_string()).unwrap_or_default(),
            auxiliary_addresses: None,
        });
        addresses.pools.push(pool);
    }
    Ok(addresses)
}

/// What to do about a subnet of the settings that a network has. That cannot be removed while there is no engine.
fn overlap(settings: &Settings, own: Subnet, other: Subnet, network: &str) -> String {
    let key = match (own.is_v6(), settings.bip.is_empty()) {
        (true, _) => "engine.fixed-cidr-v6",
        (false, true) => "engine.fixed-cidr",
        (false, false) => "engine.bip",
    };
    format!(
        "error creating default \"bridge\" network: {own} of the setting `{key}` overlaps with {other} of network \
         `{network}`: set another with `lighter config set {key} VALUE` or take it back with `lighter config unset \
         {key}`, then `lighter down` and `lighter up`; to have it, remove that network before you set it"
    )
}

fn pool(subnet: Subnet) -> Pool {
    Pool {
        subnet,
        range: None,
        gateway: None,
        others: BTreeSet::new(),
        named: false,
    }
}

/// The subnet of a router's address with its prefix, and the part of it that addresses are taken from; either may be
/// empty.
fn of_settings(router: &str, range: &str) -> Result<Pool> {
    let read = |what: &str, text: &str| {
        let wrong = || Error::invalid(format!("parse {what} failed: invalid CIDR address: {text}"));
        Subnet::parse(text).ok_or_else(wrong)
    };
    if router.is_empty() {
        let range = read("fixed-cidr", range)?.masked();
        let mut pool = pool(range);
        pool.named = true;
        pool.range = Some(range);
        return Ok(pool);
    }
    let router = read("bip", router)?;
    let mut pool = pool(router.masked());
    pool.named = true;
    pool.gateway = Some(router.ip());
    if !range.is_empty() {
        let range = read("fixed-cidr", range)?.masked();
        if !pool.subnet.overlaps(range) || range.prefix() < pool.subnet.prefix() {
            let text = format!("fixed-cidr {range} is not in {}", pool.subnet);
            return Err(Error::invalid(text));
        }
        pool.range = Some(range);
    }
    Ok(pool)
}

/// What an earlier engine noted. One that could not note it did not come up.
fn read(noted: &Path) -> Option<Addresses> {
    serde_json::from_slice(&std::fs::read(noted).ok()?).ok()
}

fn write(noted: &Path, addresses: &Addresses) -> io::Result<()> {
    let beside: PathBuf = noted.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec(addresses)?)?;
    std::fs::rename(beside, noted)
}

#[cfg(test)]
mod tests {
    use super::super::builtin;
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    /// The shown subnets, ranges and gateways, and the routers; or what is wrong.
    fn chosen(settings: &str, recorded: &str, foreign: &[&str]) -> Result<Vec<String>> {
        let settings: Settings = serde_json::from_str(settings).unwrap();
        let [_, _, mut other] = builtin::all("m");
        other.name = "nn".into();
        let own: Vec<_> = Subnet::parse(recorded)
            .map(|own| (&other, own))
            .into_iter()
            .collect();
        let pools = Pools::new(&settings.default_address_pools, "m");
        let foreign: Vec<Subnet> = foreign.iter().map(|text| subnet(text)).collect();
        let addresses = choose(&settings, &pools, &own, (&foreign, &[]))?;
        let shown = addresses.shown.iter().zip(&addresses.pools);
        let shown = shown.map(|(shown, pool)| {
            let IpamConfig {
                subnet,
                ip_range,
                gateway,
                ..
            } = shown;
            let router = pool.gateway.unwrap();
            format!("{subnet} {ip_range} {gateway} {router}")
        });
        Ok(shown.collect())
    }

    #[test]
    fn the_settings_are_read_as_dockerd_does() {
        for (settings, expected) in [
            ("{}", &["172.17.0.0/16  172.17.0.1 172.17.0.1"][..]),
            (
                r#"{"bip":"10.99.0.5/24"}"#,
                &["10.99.0.0/24  10.99.0.5 10.99.0.5"],
            ),
            (
                r#"{"fixed-cidr":"172.17.4.0/24"}"#,
                &["172.17.4.0/24 172.17.4.0/24  172.17.4.1"],
            ),
            (
                r#"{"bip":"10.99.0.5/16","fixed-cidr":"10.99.4.0/24"}"#,
                &["10.99.0.0/16 10.99.4.0/24 10.99.0.5 10.99.0.5"],
            ),
            (
                r#"{"ipv6":true,"fixed-cidr-v6":"fd00:1::5/64"}"#,
                &[
                    "fd00:1::/64 fd00:1::/64  fd00:1::1",
                    "172.17.0.0/16  172.17.0.1 172.17.0.1",
                ],
            ),
            (
                r#"{"fixed-cidr-v6":"fd00:1::/64"}"#,
                &["172.17.0.0/16  172.17.0.1 172.17.0.1"],
            ),
            (
                r#"{"ipv6":true,"default-address-pools":[{"base":"10.7.0.0/16","size":24},{"base":"fd07::/48","size":64}]}"#,
                &[
                    "10.7.0.0/24  10.7.0.1 10.7.0.1",
                    "fd07::/64  fd07::1 fd07::1",
                ],
            ),
        ] {
            assert_eq!(chosen(settings, "", &[]).unwrap(), expected, "{settings}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (settings, text) in [
            (
                r#"{"bip":"x/24"}"#,
                "parse bip failed: invalid CIDR address: x/24",
            ),
            (
                r#"{"bip":"10.99.0.0/24"}"#,
                "error creating default \"bridge\" network: failed to allocate gateway (10.99.0.0): Address already in use",
            ),
            (
                r#"{"bip":"10.99.0.1/24","fixed-cidr":"10.98.0.0/25"}"#,
                "fixed-cidr 10.98.0.0/25 is not in 10.99.0.0/24",
            ),
            (
                r#"{"bip":"10.50.1.1/24"}"#,
                "error creating default \"bridge\" network: 10.50.1.0/24 of the setting `engine.bip` overlaps with \
                 10.50.0.0/16 of network `nn`: set another with `lighter config set engine.bip VALUE` or take it back \
                 with `lighter config unset engine.bip`, then `lighter down` and `lighter up`; to have it, remove that \
                 network before you set it",
            ),
        ] {
            let refused = chosen(settings, "10.50.0.0/16", &[]).unwrap_err();
            assert_eq!(refused.text(), text, "{settings}");
        }
    }

    #[test]
    fn what_is_chosen_goes_out_of_the_way() {
        let first = |recorded, foreign| chosen("{}", recorded, foreign).unwrap()[0].clone();
        assert!(first("172.17.0.0/16", &[]).starts_with("172.18.0.0/16"));
        assert!(first("", &["172.16.0.0/14"]).starts_with("172.20.0.0/16"));
        // Not even who names it has the machine's own link.
        let named = chosen(r#"{"bip":"10.1.0.1/24"}"#, "", &["10.1.0.0/16"]).unwrap_err();
        assert!(
            named
                .text()
                .ends_with("overlaps with the machine's own link")
        );
        // Pools that are full do not keep the engine from opening.
        let full = r#"{"default-address-pools":[{"base":"10.7.0.0/24","size":24}]}"#;
        let beside = chosen(full, "10.7.0.0/24", &[]).unwrap();
        assert!(beside[0].starts_with("172.17.0.0/16"), "{}", beside[0]);
    }

    #[test]
    fn the_next_engine_of_a_boot_finds_what_was_chosen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("noted");
        assert!(read(&path).is_none());
        let pools = Pools::new(&[], "m");
        let settings = Settings {
            ipv6: true,
            ..Settings::default()
        };
        let addresses = choose(&settings, &pools, &[], (&[], &[])).unwrap();
        write(&path, &addresses).unwrap();
        assert_eq!(read(&path).unwrap(), addresses);
    }
}
