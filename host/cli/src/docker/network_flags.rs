//! The flags of `run` and `create` that say which networks a container is in, and how.

use super::flags::{Flag, Kind, flag};

/// All of them; what reads them is `endpoints`.
pub const NETWORKS: &[Flag] = &[
    flag(
        "ip",
        None,
        Kind::Text,
        "",
        "IPv4 address (e.g., 172.30.100.104)",
    ),
    flag(
        "ip6",
        None,
        Kind::Text,
        "",
        "IPv6 address (e.g., 2001:db8::33)",
    ),
    flag(
        "link",
        None,
        Kind::List,
        "",
        "Add a link to another container",
    ),
    flag(
        "link-local-ip",
        None,
        Kind::List,
        "",
        "Link-local address of the container",
    ),
    flag(
        "mac-address",
        None,
        Kind::Text,
        "",
        "MAC address of the container (e.g., 92:d0:c6:0a:29:33)",
    ),
    flag(
        "network",
        None,
        Kind::List,
        "",
        "Connect to a network: its name, or name=…,alias=…,ip=…",
    ),
    flag(
        "network-alias",
        None,
        Kind::List,
        "",
        "Another name of the container in its network",
    ),
];
