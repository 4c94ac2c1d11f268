//! The networks that are there without anybody making them.

use sha2::{Digest as _, Sha256};

use super::{Ipam, Network, options};
use crate::clock::Timestamp;

/// Names that nobody can give or take away.
const NAMES: [&str; 4] = ["bridge", "host", "none", "default"];

/// The interface of the default bridge.
const BRIDGE: &str = "docker0";

/// Whether a network of this name always exists.
pub(crate) fn is_name(name: &str) -> bool {
    NAMES.contains(&name)
}

/// All three, without addresses.
pub(super) fn all(machine_id: &str) -> [Network; 3] {
    let network = |name: &str, driver: &str| Network {
        name: name.into(),
        id: hex::encode(Sha256::digest(format!(
            "lighter network {machine_id} {name}"
        ))),
        created: Timestamp::now(),
        scope: "local".into(),
        driver: driver.into(),
        enable_ipv4: true,
        enable_ipv6: false,
        ipam: Ipam {
            driver: "default".into(),
            options: None,
            config: None,
        },
        pools: Vec::new(),
        internal: false,
        attachable: false,
        ingress: false,
        config_from: String::new(),
        config_only: false,
        options: [].into(),
        labels: [].into(),
    };
    let none = network("none", "null");
    [
        none,
        network("host", "host"),
        bridge(network("bridge", "bridge")),
    ]
}

fn bridge(mut network: Network) -> Network {
    network.options = [
        ("com.docker.network.bridge.default_bridge", "true"),
        ("com.docker.network.bridge.enable_icc", "true"),
        ("com.docker.network.bridge.enable_ip_masquerade", "true"),
        ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
        (options::NAME, BRIDGE),
        (options::MTU, "1500"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    network
}
