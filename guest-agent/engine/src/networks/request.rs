//! The body of `POST /networks/create`.

use std::collections::BTreeMap;

use crate::model::wire;

wire! {
    /// A network as its user asks for it.
    pub struct NetworkCreate {
        /// Its name.
        pub name: String,
        /// `bridge` where none is named.
        pub driver: String,
        /// `local`, or what the client says.
        pub scope: String,
        /// Whether it has IPv4; it has unless its user says otherwise.
        #[serde(rename = "EnableIPv4")]
        pub enable_ipv4: Option<bool>,
        /// Whether it has IPv6.
        #[serde(rename = "EnableIPv6")]
        pub enable_ipv6: Option<bool>,
        /// Its subnets.
        #[serde(rename = "IPAM")]
        pub ipam: Option<IpamRequest>,
        /// Whether its containers reach nothing but each other.
        pub internal: bool,
        /// Of swarms; kept for the round trip.
        pub attachable: bool,
        /// Of swarms.
        pub ingress: bool,
        /// Whether it only holds what others are made from.
        pub config_only: bool,
        /// The network that holds what this one is made from.
        pub config_from: Option<ConfigReference>,
        /// Options of the driver.
        pub options: Option<BTreeMap<String, String>>,
        /// Labels.
        pub labels: Option<BTreeMap<String, String>>,
    }
}

wire! {
    /// Another network.
    pub struct ConfigReference {
        /// Its name.
        pub network: String,
    }
}

wire! {
    /// Where a network's addresses come from.
    pub struct IpamRequest {
        /// `default` or `null`.
        pub driver: String,
        /// Options of that driver.
        pub options: Option<BTreeMap<String, String>>,
        /// The subnets.
        pub config: Option<Vec<IpamConfig>>,
    }
}

wire! {
    /// One subnet.
    pub struct IpamConfig {
        /// In CIDR notation.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subnet: String,
        /// The part of it that addresses are taken from.
        #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
        pub ip_range: String,
        /// Its gateway.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub gateway: String,
        /// Addresses that are somebody else's, by name.
        #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "Option::is_none")]
        pub auxiliary_addresses: Option<BTreeMap<String, String>>,
    }
}
