//! A container's place in its networks, as the API describes it.

use std::collections::BTreeMap;

use super::wire;

wire! {
    /// The networks a container is created in.
    pub struct NetworkingConfig {
        /// Settings by network name.
        pub endpoints_config: Option<BTreeMap<String, EndpointSettings>>,
    }
}

wire! {
    /// A container's place in one network.
    pub struct EndpointSettings {
        /// Addresses asked for.
        #[serde(rename = "IPAMConfig")]
        pub ipam_config: Option<EndpointIpam>,
        /// Legacy links.
        pub links: Option<Vec<String>>,
        /// Further names in this network.
        pub aliases: Option<Vec<String>>,
        /// Hardware address.
        pub mac_address: String,
        /// Options of the driver.
        pub driver_opts: Option<BTreeMap<String, String>>,
        /// Preference as the default gateway.
        pub gw_priority: i64,
        /// Id of the network.
        #[serde(rename = "NetworkID")]
        pub network_id: String,
        /// Id of this place in it.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// Gateway.
        pub gateway: String,
        /// Address.
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        /// Length of its prefix.
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: u8,
        /// IPv6 gateway.
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        /// IPv6 address.
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        /// Length of its prefix.
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: u8,
        /// Names the resolver answers for.
        #[serde(rename = "DNSNames")]
        pub dns_names: Option<Vec<String>>,
    }
}

wire! {
    /// Addresses asked for.
    pub struct EndpointIpam {
        /// IPv4.
        #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
        pub ipv4_address: String,
        /// IPv6.
        #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
        pub ipv6_address: String,
        /// Link-local ones.
        #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Option::is_none")]
        pub link_local_ips: Option<Vec<String>>,
    }
}
