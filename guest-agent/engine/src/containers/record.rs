//! What is kept of a container: what create made, and what its last run left behind.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lighter_images::Digest;
use serde::{Deserialize, Serialize};

use super::links::Link;
use crate::clock::Timestamp;
use crate::ids;
use crate::model::{Config, EndpointSettings, HostConfig, is_false};
use crate::mounts::Mount;
use crate::networks::{self, Subnet};
use crate::ports::PublishedPort;

/// What create made. Changed only by rename and update.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Name, without the slash.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// The image's id.
    pub image_id: String,
    /// The image's layers, lowest first.
    pub layers: Vec<Digest>,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it runs.
    pub config: Config,
    /// How it runs here.
    pub host_config: HostConfig,
    /// Its networks.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Its links in the default network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its first process runs.
    Running,
    /// Its processes are stopped where they are.
    Paused,
    /// It ended and will be started again.
    Restarting,
    /// It is being removed.
    Removing,
    /// It ended.
    Exited,
    /// Removing it failed half way.
    Dead,
}

impl Status {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether there is a process.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// What the current or last run is or left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunState {
    /// Where it is in its life.
    pub status: Status,
    /// The first process while there is one.
    pub pid: i32,
    /// How the last run ended.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom_killed: bool,
    /// When it was last started.
    pub started: Timestamp,
    /// When it last ended.
    pub finished: Timestamp,
    /// How often it was started again by its policy.
    pub restart_count: u32,
    /// How often of late: the pause before the next time doubles with it.
    pub backoff: u32,
    /// Whether its user stopped it: it stays so when the machine comes back.
    pub manually_stopped: bool,
    /// The last result of its health check.
    pub health: Option<Health>,
    /// Its places in networks, by their names.
    pub places: BTreeMap<String, Place>,
    /// Its published ports, while it runs.
    pub ports: Vec<PublishedPort>,
}

/// A container's place in a network; of one that does not run, the network alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// The network.
    pub network_id: String,
    /// Of this run; empty where it does not run.
    pub endpoint_id: String,
    /// Its hardware address.
    pub mac_address: String,
    /// Its address, with the prefix of its subnet.
    pub ipv4: Option<Subnet>,
    /// The router; none where there is no way out.
    pub gateway_v4: Option<IpAddr>,
    /// Its IPv6 address, with the prefix of its subnet.
    pub ipv6: Option<Subnet>,
    /// The router of IPv6.
    pub gateway_v6: Option<IpAddr>,
    /// The interface in the container; empty where there is none.
    pub interface: String,
    /// Its other end, where that is a port of a bridge.
    pub port: String,
    /// Whether it is being plugged or unplugged: an engine that finds it so makes it what the record says, plugged if
    /// the container is to be in this network and unplugged if it is not.
    #[serde(skip_serializing_if = "is_false")]
    pub pending: bool,
}

impl Place {
    /// What stays known when it is left.
    pub(crate) fn left(&self) -> Self {
        Self {
            network_id: self.network_id.clone(),
            ..Self::default()
        }
    }

    pub(crate) fn show(self, endpoint: &mut EndpointSettings) {
        let text = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
        endpoint.network_id = self.network_id;
        endpoint.endpoint_id = self.endpoint_id;
        endpoint.gateway = text(self.gateway_v4);
        endpoint.ip_address = text(self.ipv4.map(Subnet::ip));
        endpoint.ip_prefix_len = self.ipv4.map_or(0, Subnet::prefix);
        endpoint.ipv6_gateway = text(self.gateway_v6);
        endpoint.global_ipv6_address = text(self.ipv6.map(Subnet::ip));
        endpoint.global_ipv6_prefix_len = self.ipv6.map_or(0, Subnet::prefix);
        endpoint.mac_address = self.mac_address;
    }
}

impl Record {
    /// Its places in its networks as inspect shows them.
    pub fn endpoints_in(&self, run: &RunState) -> BTreeMap<String, EndpointSettings> {
        let mut endpoints = self.endpoints.clone();
        for (name, endpoint) in &mut endpoints {
            match run.places.get(name).cloned() {
                Some(place) => {
                    endpoint.dns_names = self.dns_names(name, endpoint);
                    place.show(endpoint);
                }
                // Known by what was asked until it is first taken.
                None => {
                    endpoint.network_id.clear();
                    endpoint.endpoint_id.clear();
                }
            }
        }
        endpoints
    }

    /// The names that it has in a network; those of networks that always exist have none.
    pub(crate) fn dns_names(
        &self,
        network: &str,
        endpoint: &EndpointSettings,
    ) -> Option<Vec<String>> {
        if networks::is_builtin(network) {
            return None;
        }
        let own = [self.name.clone()].into_iter();
        let aliases = endpoint.aliases.iter().flatten().cloned();
        let last = [
            ids::short(&self.id).to_owned(),
            self.config.hostname.clone(),
        ];
        let mut names: Vec<String> = Vec::new();
        for name in own.chain(aliases).chain(last) {
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
        Some(names)
    }
}

/// State of the health check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last probes, oldest first.
    pub log: Vec<Probe>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Probe {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit code, -1 if it took too long.
    pub exit_code: i32,
    /// The beginning of its output.
    pub output: String,
}
