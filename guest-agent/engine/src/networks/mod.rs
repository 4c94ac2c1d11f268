//! Networks as records: what there is, what its user asked for, and which addresses are whose.
//!
//! The three that always exist are not in the database; the others are, synced before they are acknowledged.
//!
//! Called by: the API for its routes, and containers for their places in networks.
//! Must never: let two networks that exist have an address in common.

mod builtin;
mod clean;
mod default_bridge;
mod give;
mod given;
mod list;
mod make;
mod options;
mod parents;
mod pools;
mod registry;
mod request;
pub mod subnet;
mod validate;
mod wired;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use builtin::is_name as is_builtin;
pub use clean::PRUNE_FILTERS;
pub(crate) use given::Given;
pub use list::FILTERS;
pub(crate) use registry::Networks;
pub use request::{ConfigReference, IpamConfig, IpamRequest, NetworkCreate};
pub use subnet::Subnet;
pub(crate) use validate::joined;
pub(crate) use wired::{open as open_wiring, open_ports, refused};

use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::error::Result;
use crate::events::Subject;

/// A network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its name, which no other has.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// `local`, or what its user said.
    pub scope: String,
    /// `bridge`, `macvlan`, `ipvlan`, `host` or `null`.
    pub driver: String,
    /// Whether it has IPv4.
    pub enable_ipv4: bool,
    /// Whether it has IPv6.
    pub enable_ipv6: bool,
    /// Its subnets, as inspect shows them.
    pub ipam: Ipam,
    /// Its subnets, as addresses are given out of them.
    pub pools: Vec<Pool>,
    /// Whether its containers reach nothing but each other.
    pub internal: bool,
    /// Of swarms; kept for the round trip.
    pub attachable: bool,
    /// Of swarms; kept for the round trip.
    pub ingress: bool,
    /// The network it was made from; empty for none.
    pub config_from: String,
    /// Whether it only holds what others are made from.
    pub config_only: bool,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Where a network's addresses come from, as inspect shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipam {
    /// `default` or `null`.
    pub driver: String,
    /// Options of that driver.
    pub options: Option<BTreeMap<String, String>>,
    /// The subnets, as far as their user named them; those that were chosen with their gateways.
    pub config: Option<Vec<IpamConfig>>,
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The subnet.
    pub subnet: Subnet,
    /// The part of it that addresses are taken from; nothing means all of it.
    pub range: Option<Subnet>,
    /// The address of the router.
    pub gateway: Option<IpAddr>,
    /// Addresses that are somebody else's.
    pub others: BTreeSet<IpAddr>,
    /// Whether its user named it: only then containers may say which address they want.
    #[serde(default)]
    pub named: bool,
}

impl Network {
    /// Whether it is one of those that always exist.
    pub fn is_builtin(&self) -> bool {
        builtin::is_name(&self.name)
    }

    /// The subnets of a family that its user named, also where it does not have that family: addresses of them may be
    /// asked for then, and are not given.
    pub(crate) fn named_subnets(&self, v6: bool) -> Vec<Subnet> {
        let has = if v6 {
            self.enable_ipv6
        } else {
            self.enable_ipv4
        };
        let own = |subnet: &Subnet| subnet.is_v6() == v6;
        if has {
            let named = self.pools.iter().filter(|pool| pool.named);
            return named.map(|pool| pool.subnet).filter(own).collect();
        }
        let shown = self.ipam.config.iter().flatten();
        let shown = shown.filter_map(|config| Subnet::parse(&config.subnet));
        shown.filter(own).collect()
    }
}

impl Engine {
    /// One network.
    ///
    /// # Errors
    /// When there is none, or several, that `reference` may mean.
    pub fn network_find(&self, reference: &str) -> Result<Arc<Network>> {
        self.networks().find(reference)
    }

    /// Says what happened to a network, with further attributes.
    pub(crate) fn network_event(&self, action: &str, network: &Network, more: &[(&str, &str)]) {
        let own = [
            ("name", network.name.as_str()),
            ("type", network.driver.as_str()),
        ];
        let attributes = own.iter().chain(more);
        let attributes = attributes.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.events()
            .emit(Subject::Network, action, &network.id, attributes.collect());
    }
}
