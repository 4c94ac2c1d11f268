//! Networks in the kernel: bridges are there as long as their records, and after every start of the engine.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use lighter_network::plan::{Address, Bridge, IpvlanMode, Joint};
use lighter_network::ports::Ports;
use lighter_network::{NetworkError, Wiring};

use super::{Network, Subnet, options};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::ids;

/// What the kernel refused.
pub(crate) fn refused(error: NetworkError) -> Error {
    Error::internal("the network cannot be wired", error)
}

impl Network {
    /// The bridge that it is, if it is one.
    pub(crate) fn bridge(&self) -> Option<Bridge> {
        if self.driver != "bridge" || self.config_only {
            return None;
        }
        let own = options::bridge(&self.options, self.internal).ok()?;
        let router = |pool: &super::Pool| {
            Some(Address {
                ip: pool.gateway.filter(|ip| own.has_address(ip.is_ipv6()))?,
                prefix: pool.subnet.prefix(),
            })
        };
        Some(Bridge {
            name: own
                .name
                .clone()
                .unwrap_or_else(|| format!("br-{}", ids::short(&self.id))),
            gateways: self.pools.iter().filter_map(router).collect(),
            internal: self.internal,
            icc: own.icc,
            mtu: own.mtu,
        })
    }

    /// The longest packet; nothing means the kernel's choice.
    pub(crate) fn mtu(&self) -> Option<u32> {
        let mtu = self.options.get(options::MTU);
        mtu.and_then(|mtu| mtu.parse().ok()).filter(|mtu| *mtu > 0)
    }

    /// How an interface is joined to it, with this name for its other end.
    pub(crate) fn joint(&self, port: &str) -> Result<Joint> {
        if let Some(bridge) = self.bridge() {
            return Ok(Joint::Bridge {
                bridge: bridge.name,
                port: port.to_owned(),
            });
        }
        let parent = self.options.get("parent").cloned().ok_or_else(|| {
            Error::unsupported(format!(
                "network {}: a {} without a parent is not supported",
                self.name, self.driver
            ))
        })?;
        if self.driver == "ipvlan" {
            let mode = options::ipvlan(&self.options)?;
            return Ok(Joint::Ipvlan { parent, mode });
        }
        let mode = options::macvlan(&self.options)?;
        Ok(Joint::Macvlan { parent, mode })
    }

    /// Where published ports of its containers are on the host whose address nobody chose, if its maker said that.
    pub(crate) fn host_binding(&self) -> Option<IpAddr> {
        // What the default network shows there is nobody's choice.
        if self.is_builtin() {
            return None;
        }
        options::host_binding(&self.options)
    }

    /// Whether its interfaces are themselves the way out of their containers.
    pub(crate) fn is_direct(&self) -> bool {
        let mode = options::ipvlan(&self.options).unwrap_or_default();
        self.driver == "ipvlan" && mode != IpvlanMode::L2
    }

    /// The address of its router in IPv4.
    pub(crate) fn router(&self) -> Option<IpAddr> {
        let mut pools = self.pools.iter().filter(|pool| !pool.subnet.is_v6());
        pools.find_map(|pool| pool.gateway)
    }
}

impl From<Subnet> for Address {
    fn from(address: Subnet) -> Self {
        Self {
            ip: address.ip(),
            prefix: address.prefix(),
        }
    }
}

/// Opens the kernel's side, where there is a network of the host's that it can be in.
pub(crate) async fn open(host_network: Option<&OwnedFd>) -> Result<Option<Wiring>> {
    let Some(host_network) = host_network else {
        return Ok(None);
    };
    let own = host_network
        .try_clone()
        .map_err(|error| Error::internal("the host's network cannot be had", error))?;
    Wiring::open(own).await.map(Some).map_err(refused)
}

/// Opens what publishes ports there.
pub(crate) fn open_ports(
    host_network: Option<&OwnedFd>,
    wiring: Option<&Wiring>,
) -> Result<Option<Ports>> {
    let (Some(host_network), Some(wiring)) = (host_network, wiring) else {
        return Ok(None);
    };
    let own = host_network
        .try_clone()
        .map_err(|error| Error::internal("the host's network cannot be had", error))?;
    Ports::start(own, wiring.clone()).map(Some).map_err(refused)
}

impl Engine {
    /// Brings the kernel to what is recorded, after an engine that may have been killed half way.
    pub(crate) async fn wire_networks(&self) {
        let Some(wiring) = self.wiring() else {
            return;
        };
        let bridges = self.networks().all();
        let bridges: Vec<Bridge> = bridges.iter().filter_map(|one| one.bridge()).collect();
        let there = wiring.bridges().await.unwrap_or_else(|error| {
            tracing::error!(%error, "what an earlier engine made of networks is not known");
            Vec::new()
        });
        for name in there {
            if !bridges.iter().any(|bridge| bridge.name == name)
                && let Err(error) = wiring.remove_bridge(&name).await
            {
                tracing::warn!(%error, bridge = name, "a bridge stays");
            }
        }
        for bridge in &bridges {
            // One that cannot be must not keep the others from being.
            if let Err(error) = wiring.set_bridge(bridge).await {
                tracing::error!(%error, bridge = bridge.name, "a network is not wired");
            }
        }
        self.wire_parents(wiring).await;
    }

    /// Makes the bridge of a network, or what it is upon.
    pub(super) async fn wire(&self, network: &Network) -> Result<()> {
        match (self.wiring(), network.bridge()) {
            (Some(wiring), None) => self.wire_parent(wiring, network).await,
            (Some(wiring), Some(bridge)) => {
                wiring
                    .set_bridge(&bridge)
                    .await
                    .map_err(|error| match error {
                        NetworkError::Taken(name) => {
                            let text = format!("existing interface {name} is not a bridge");
                            Error::new(Kind::Internal, text)
                        }
                        error => refused(error),
                    })
            }
            _ => Ok(()),
        }
    }

    /// Takes it away. Its record is gone: what stays is tidied when the engine is opened again.
    pub(super) async fn unwire(&self, network: &Network) {
        let Some(wiring) = self.wiring() else {
            return;
        };
        if let Some(bridge) = network.bridge()
            && let Err(error) = wiring.remove_bridge(&bridge.name).await
        {
            tracing::warn!(%error, bridge = bridge.name, "a bridge stays");
        }
        self.unwire_parent(wiring, network).await;
    }
}
