//! What the host tells the guest at boot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything the guest needs from the host to become an engine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BootSettings {
    /// The host's clock, nanoseconds since 1970.
    pub clock_unix_ns: u64,
    /// Which machine the data disk must belong to.
    pub machine_id: String,
    /// The guest's name.
    pub hostname: String,
    /// Resolvers, for what the guest itself resolves.
    #[serde(default)]
    pub dns: Vec<String>,
    /// Search domains.
    #[serde(default)]
    pub search: Vec<String>,
    /// The host's trusted certificate authorities, as PEM text.
    #[serde(default)]
    pub trust_roots_pem: String,
    /// Host folders that containers may be given.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// Paths by which the host knows the engine's API socket: a container that is given one of
    /// them gets the engine's own socket in the guest.
    #[serde(default)]
    pub api_sockets: Vec<String>,
    /// The proxies by which the host dials, for showing only.
    #[serde(default)]
    pub proxies: Proxies,
    /// The engine's settings.
    #[serde(default)]
    pub engine: EngineSettings,
    /// How large the data disk is meant to be; the file system grows to it.
    #[serde(default)]
    pub disk_size_bytes: u64,
    /// The person this machine belongs to.
    #[serde(default)]
    pub host_user: HostUser,
    /// Where the host has routes of its own to.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// A route of the host's, other than its default one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads, in CIDR notation.
    pub to: String,
    /// True where no router is between.
    #[serde(default)]
    pub direct: bool,
}

/// The host's proxies, as they may be shown: without passwords.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Proxies {
    /// For plain HTTP.
    pub http: String,
    /// For TLS.
    pub https: String,
    /// What is reached without.
    pub none_for: String,
}

/// A host folder on the allow-list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Share {
    /// The name by which host and guest speak of it.
    pub id: String,
    /// The folder on the host.
    pub host_path: String,
    /// True where nothing in the guest may write.
    #[serde(default)]
    pub read_only: bool,
}

/// The user on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostUser {
    /// Numeric user id; 0 where the platform has none.
    pub uid: u32,
    /// Numeric group id; 0 where the platform has none.
    pub gid: u32,
    /// Login name.
    pub name: String,
    /// Home folder.
    pub home: String,
}

/// Settings of the engine under the names that `daemon.json` gives them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct EngineSettings {
    /// Mirrors asked before Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Registries that may be spoken to without TLS or with an unknown certificate.
    pub insecure_registries: Vec<String>,
    /// The log driver of containers that name none; empty means the engine's default.
    pub log_driver: String,
    /// Its options.
    pub log_opts: BTreeMap<String, String>,
    /// Resolvers for containers.
    pub dns: Vec<String>,
    /// Search domains for containers.
    pub dns_search: Vec<String>,
    /// Resolver options for containers.
    pub dns_opts: Vec<String>,
    /// Where the subnets of new networks are taken from.
    pub default_address_pools: Vec<AddressPool>,
    /// The host's address that ports are published on where nobody says; empty means all.
    pub ip: String,
    /// The address of the default network's router, with the prefix of its subnet; empty means one of the pools.
    pub bip: String,
    /// The part of that subnet that addresses are taken from; empty means all.
    pub fixed_cidr: String,
    /// True where the default network has IPv6.
    pub ipv6: bool,
    /// Its subnet of IPv6; empty means one of the pools.
    pub fixed_cidr_v6: String,
    /// False where the host's loopback does not lead to what containers of the host's network listen on.
    pub host_network_ports: Option<bool>,
    /// Labels shown by `docker info`.
    pub labels: Vec<String>,
    /// True for containers in user namespaces, in which their root is nobody outside.
    pub userns_remap: bool,
    /// Seconds that containers get to stop when the machine stops; absent means 15.
    pub shutdown_timeout: Option<u32>,
    /// How many layers are downloaded at once; absent means 3.
    pub max_concurrent_downloads: Option<u32>,
    /// True for debug messages in the engine's log.
    pub debug: bool,
}

/// A range that subnets are cut from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AddressPool {
    /// The range, in CIDR notation.
    pub base: String,
    /// The prefix length of each subnet.
    pub size: u8,
}
