//! Create: from a request to a record, with a subnet of its own.
//!
//! What is asked for is judged in the order in which dockerd judges it, since clients see only the first
//! thing that is wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::request::{IpamConfig, IpamRequest, NetworkCreate};
use super::subnet::Subnet;
use super::{Ipam, Network, Pool, builtin, options, validate};
use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::ids;

impl Engine {
    /// Makes a network. When this returns it is on the disk.
    ///
    /// # Errors
    /// What is wrong with the request, in dockerd's words; the name or an address of another network.
    pub async fn network_create(&self, mut request: NetworkCreate) -> Result<Arc<Network>> {
        self.require_open()?;
        check_name_and_driver(&request)?;
        let families = families(&mut request)?;
        validate::ipam(request.ipam.as_ref(), families.1)?;
        if request.name.trim().is_empty() {
            return Err(Error::invalid("invalid name: name is empty"));
        }
        let _one = self.networks().changing.lock().await;
        if self.networks().named(&request.name).is_some() {
            return Err(Error::conflict(format!(
                "network with name {} already exists",
                request.name
            )));
        }
        check_configuration(&request, families)?;
        let mut network = record(request, families)?;
        if !network.config_only {
            check_place(&network)?;
            self.configure(&mut network)?;
            if !(network.enable_ipv4 || network.enable_ipv6) {
                return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
            }
            self.give_pools(&mut network)?;
            self.check_driver(&network)?;
        }
        self.wire(&network).await?;
        if let Err(error) = self.network_insert(&network).await {
            self.unwire(&network).await;
            return Err(error);
        }
        let network = Arc::new(network);
        self.networks().add(Arc::clone(&network));
        self.network_event("create", &network, &[]);
        Ok(network)
    }

    async fn network_insert(&self, network: &Network) -> Result<()> {
        let (id, name) = (network.id.clone(), network.name.clone());
        let body = serde_json::to_string(network);
        let write = self.db().write(Sync::Durable, move |connection| {
            connection.execute(
                "INSERT INTO networks (id, name, body) VALUES (?1, ?2, ?3)",
                (&id, &name, &body?),
            )?;
            Ok(())
        });
        Ok(write.await?)
    }

    /// Takes over what the network that this one is made from holds.
    fn configure(&self, network: &mut Network) -> Result<()> {
        if network.config_from.is_empty() {
            return Ok(());
        }
        let source = self.networks().named(&network.config_from);
        let source = source.filter(|source| source.config_only).ok_or_else(|| {
            Error::not_found(format!(
                "configuration network \"{}\" does not exist",
                network.config_from
            ))
        })?;
        network.enable_ipv4 = source.enable_ipv4;
        network.enable_ipv6 = source.enable_ipv6;
        network.ipam.clone_from(&source.ipam);
        network.options.clone_from(&source.options);
        network.labels.clone_from(&source.labels);
        Ok(())
    }

    /// What the driver has to say.
    fn check_driver(&self, network: &Network) -> Result<()> {
        match network.driver.as_str() {
            "macvlan" => options::macvlan(&network.options).map(drop),
            "ipvlan" => options::ipvlan(&network.options).map(drop),
            "bridge" => self.check_bridge(network),
            kind => Err(Error::forbidden(format!(
                "only one instance of \"{kind}\" network is allowed"
            ))),
        }
    }

    fn check_bridge(&self, network: &Network) -> Result<()> {
        let count = |v6| {
            let pools = network.pools.iter();
            pools.filter(|pool| pool.subnet.is_v6() == v6).count()
        };
        if count(false) > 1 || count(true) > 1 {
            return Err(Error::forbidden(
                "bridge driver doesn't support multiple subnets",
            ));
        }
        options::bridge(&network.options, network.internal)?;
        options::check_modes(&network.options)?;
        for pool in &network.pools {
            check_v6(pool)?;
        }
        // The one it has, chosen or made of its id: two networks on one bridge would be one.
        let name = network.bridge().map(|bridge| bridge.name);
        let same = |other: &&Arc<Network>| {
            name.is_some() && other.bridge().map(|bridge| bridge.name) == name
        };
        if let Some(other) = self.networks().all().iter().find(same) {
            let (name, id) = (name.unwrap_or_default(), &other.id);
            return Err(Error::forbidden(format!(
                "cannot create network {} ({name}): conflicts with network {id} ({name}): networks \
                 have same bridge name",
                network.id
            )));
        }
        if let Some(name) = name.filter(|name| lighter_network::is_reserved(name)) {
            return Err(Error::invalid(format!(
                "invalid bridge name {name}: names of this form are the engine's own"
            )));
        }
        Ok(())
    }
}

fn check_name_and_driver(request: &NetworkCreate) -> Result<()> {
    if builtin::is_name(&request.name) {
        return Err(Error::forbidden(format!(
            "operation is not permitted on predefined {} network ",
            request.name
        )));
    }
    if request.driver == "overlay" {
        return Err(Error::forbidden(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
             to connect this node to swarm and try again.",
        ));
    }
    Ok(())
}

/// Whether it has IPv4 and IPv6.
fn families(request: &mut NetworkCreate) -> Result<(bool, bool)> {
    let options = request.options.get_or_insert_default();
    let mut family = |said: Option<bool>, option: &str| match said {
        // What was said both ways is kept once.
        Some(said) => {
            options.remove(option);
            Ok(Some(said))
        }
        None => options::switch(options, option),
    };
    let v4 = family(request.enable_ipv4, "com.docker.network.enable_ipv4")?;
    let v6 = family(request.enable_ipv6, "com.docker.network.enable_ipv6")?;
    Ok((v4.unwrap_or(true), v6.unwrap_or(false)))
}

/// What a network that holds settings, and one made from it, cannot say.
fn check_configuration(request: &NetworkCreate, (v4, v6): (bool, bool)) -> Result<()> {
    let forbidden = |text: &str| Err(Error::forbidden(text));
    let operated =
        request.ingress || request.internal || request.attachable || !request.scope.is_empty();
    if request.config_only && operated {
        return forbidden(
            "configuration network can only contain network specific fields. Network operator \
             fields like [ ingress | internal | attachable | scope ] are not supported.",
        );
    }
    let from = request.config_from.as_ref();
    if from.is_none_or(|from| from.network.is_empty()) {
        return Ok(());
    }
    if request.config_only {
        return forbidden("a configuration network cannot depend on another configuration network");
    }
    let some = |map: Option<&BTreeMap<String, String>>| map.is_some_and(|map| !map.is_empty());
    let own = |ipam: &IpamRequest| {
        !matches!(ipam.driver.as_str(), "" | "default")
            || some(ipam.options.as_ref())
            || ipam.config.as_ref().is_some_and(|list| !list.is_empty())
    };
    if v6 || !v4 || some(request.labels.as_ref()) || request.ipam.as_ref().is_some_and(own) {
        return forbidden(
            "user specified configurations are not supported if the network depends on a \
             configuration network",
        );
    }
    if some(request.options.as_ref()) {
        return forbidden(
            "network driver options are not supported if the network depends on a configuration \
             network",
        );
    }
    Ok(())
}

fn record(request: NetworkCreate, (v4, v6): (bool, bool)) -> Result<Network> {
    let or = |text: String, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text
        }
    };
    let ipam = request.ipam.unwrap_or_default();
    let config = ipam.config.filter(|list| !list.is_empty());
    let driver = if request.config_only {
        "null".to_owned()
    } else {
        or(request.driver, "bridge")
    };
    Ok(Network {
        name: request.name,
        id: ids::new_id()?,
        created: Timestamp::now(),
        scope: or(request.scope, "local"),
        driver,
        enable_ipv4: v4,
        enable_ipv6: v6,
        ipam: Ipam {
            driver: or(ipam.driver, "default"),
            options: ipam.options,
            config: config.map(by_family),
        },
        pools: Vec::new(),
        internal: request.internal,
        attachable: request.attachable,
        ingress: request.ingress,
        config_from: request.config_from.unwrap_or_default().network,
        config_only: request.config_only,
        options: request.options.unwrap_or_default(),
        labels: request.labels.unwrap_or_default(),
    })
}

/// IPv4 first, as inspect shows them.
fn by_family(mut configs: Vec<IpamConfig>) -> Vec<IpamConfig> {
    configs.sort_by_key(|config| Subnet::parse(&config.subnet).is_some_and(Subnet::is_v6));
    configs
}

/// Where the network may be: on this machine alone, by a driver that is there.
fn check_place(network: &Network) -> Result<()> {
    let known = ["bridge", "macvlan", "ipvlan", "host", "null"];
    if !known.contains(&network.driver.as_str()) {
        return Err(missing_plugin(&network.driver));
    }
    if network.scope == "swarm" {
        return Err(Error::forbidden(
            "cannot create a swarm scoped network when swarm is not active",
        ));
    }
    if network.ingress {
        return Err(Error::forbidden(
            "Ingress network can only be global scope network",
        ));
    }
    if !matches!(network.ipam.driver.as_str(), "default" | "null") {
        return Err(missing_plugin(&network.ipam.driver));
    }
    Ok(())
}

fn missing_plugin(name: &str) -> Error {
    Error::not_found(format!("plugin \"{name}\" not found"))
}

fn check_v6(pool: &Pool) -> Result<()> {
    let (IpAddr::V6(first), Some(gateway)) = (pool.subnet.first(), pool.gateway) else {
        return Ok(());
    };
    let shown = format!("{gateway}/{}", pool.subnet.prefix());
    if first.is_multicast() {
        return Err(Error::invalid(format!(
            "multicast subnet '{shown}' is not allowed"
        )));
    }
    let link_local = Subnet::parse("fe80::/64");
    if link_local.is_some_and(|own| own != pool.subnet && own.overlaps(pool.subnet)) {
        return Err(Error::invalid(format!(
            "'{shown}' clashes with the Link-Local prefix 'fe80::/64'"
        )));
    }
    Ok(())
}
