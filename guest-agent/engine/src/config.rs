//! What the engine is opened with. The agent fills it from the boot settings; tests by hand.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::networks::Subnet;
use crate::ports::HostPorts;

/// A boxed future, for the few traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Engine settings under the names of Docker's `daemon.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", default)]
pub struct Settings {
    /// Mirrors asked before the hub.
    pub registry_mirrors: Vec<String>,
    /// Registries (host[:port] or CIDR) that may speak plain HTTP.
    pub insecure_registries: Vec<String>,
    /// The log driver of containers that name none; empty means `json-file`.
    pub log_driver: String,
    /// Options of that driver.
    pub log_opts: std::collections::BTreeMap<String, String>,
    /// Name servers of containers, before those of the boot settings.
    pub dns: Vec<String>,
    /// Search domains of containers.
    pub dns_search: Vec<String>,
    /// Resolver options of containers.
    pub dns_opts: Vec<String>,
    /// Address pools of user-defined networks.
    pub default_address_pools: Vec<AddressPool>,
    /// The host's address that ports are published on where nobody says; empty means all.
    pub ip: String,
    /// The address of the default network's router, with the prefix of its subnet; empty means one of the pools.
    pub bip: String,
    /// The part of that subnet that addresses are taken from; empty means all.
    pub fixed_cidr: String,
    /// Whether the default network has IPv6.
    pub ipv6: bool,
    /// Its subnet of IPv6; empty means one of the pools.
    pub fixed_cidr_v6: String,
    /// Whether the host's loopback leads to what containers of the host's network listen on.
    pub host_network_ports: bool,
    /// Labels of the engine, shown by `docker info`.
    pub labels: Vec<String>,
    /// Whether containers get user namespaces, in which their root is nobody outside.
    pub userns_remap: bool,
    /// The host's proxies, shown by `docker info`: it is the host that dials.
    pub proxies: Proxies,
}

/// `proxies`, without passwords.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", default)]
pub struct Proxies {
    /// For registries in plain HTTP.
    pub http_proxy: String,
    /// For registries with TLS.
    pub https_proxy: String,
    /// What is reached without.
    pub no_proxy: String,
}

/// One entry of `default-address-pools`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct AddressPool {
    /// The pool in CIDR notation.
    pub base: String,
    /// Prefix length of the networks cut from it.
    pub size: u8,
}

/// A route of the host's, other than its default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoute {
    /// Where it leads.
    pub to: Subnet,
    /// Whether no router is between.
    pub direct: bool,
}

/// Gives access to folders of the host.
///
/// The agent implements it over the link; the host checks its allow-list and answers the path
/// under the share's mount.
pub trait HostShares: Send + Sync {
    /// Makes `path` of the host usable in the guest and returns where it is.
    ///
    /// The error is the text for the user, as the host worded it ("mounts denied: …").
    fn activate<'a>(
        &'a self,
        path: &'a Path,
        read_only: bool,
    ) -> BoxFuture<'a, Result<PathBuf, ShareError>>;
}

/// Why a folder of the host cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The path does not exist on the host.
    #[error("bind source path does not exist: {0}")]
    Missing(PathBuf),
    /// The host refused it; the text names the setting.
    #[error("{0}")]
    Denied(String),
    /// The host did not answer.
    #[error("the host did not answer: {0}")]
    Unavailable(String),
}

/// No folders of the host at all: for an engine that runs without one.
#[derive(Debug, Default)]
pub struct NoHostShares;

impl HostShares for NoHostShares {
    fn activate<'a>(
        &'a self,
        path: &'a Path,
        _read_only: bool,
    ) -> BoxFuture<'a, Result<PathBuf, ShareError>> {
        Box::pin(async move {
            Err(ShareError::Denied(format!(
                "mounts denied: {} is not shared from the host (setting `shares`)",
                path.display()
            )))
        })
    }
}

/// Everything the engine needs from outside.
pub struct EngineConfig {
    /// Root of what survives a restart (`/var/lib/docker`).
    pub data_root: PathBuf,
    /// Root of what lives as long as the VM (`/run/lighter`).
    pub run_dir: PathBuf,
    /// The socket that containers get for `/var/run/docker.sock` (`/run/docker.sock`).
    pub api_socket: PathBuf,
    /// The archive of the image that comes with the machine, if there is one.
    pub built_in_image: Option<PathBuf>,
    /// The name shown by `docker info`.
    pub hostname: String,
    /// Stable id of this engine, shown by `docker info`.
    pub machine_id: String,
    /// Name servers of the host, for containers.
    pub dns: Vec<String>,
    /// Search domains of the host.
    pub dns_search: Vec<String>,
    /// Further paths by which the host knows the API socket.
    pub api_socket_names: Vec<String>,
    /// What the machine reaches otherwise: no network of containers gets a subnet that overlaps one of these.
    pub foreign_subnets: Vec<Subnet>,
    /// Where the host has routes of its own to, as they are now: subnets of networks whose users name none keep away
    /// from there.
    pub host_routes: watch::Receiver<Vec<HostRoute>>,
    /// The address by which containers reach the host (`host-gateway`); nothing means the gateway of `bridge`.
    pub host_address: Option<std::net::IpAddr>,
    /// Settings under the names of `daemon.json`.
    pub settings: Settings,
    /// Starts processes behind the walls.
    pub launcher: lighter_runtime::LauncherConfig,
    /// The only way to the network for the engine's own connections.
    pub dialer: Arc<dyn lighter_images::Dialer>,
    /// Certificates that registries may be signed by, as PEM; empty: Mozilla's.
    pub trust_roots_pem: String,
    /// Folders of the host.
    pub host_shares: Arc<dyn HostShares>,
    /// Has the host listen for containers.
    pub host_ports: Arc<dyn HostPorts>,
}
