//! The flags of `run` and `create` that say which networks a container is in, and how.

use super::flags::{Flag, Kind, flag};

/// Those of one network, which `network connect` has, too.
pub const IP: Flag = flag(
    "ip",
    None,
    Kind::Text,
    "",
    "IPv4 address (e.g., 172.30.100.104)",
);
/// The same for IPv6.
pub const IP6: Flag = flag(
    "ip6",
    None,
    Kind::Text,
    "",
    "IPv6 address (e.g., 2001:db8::33)",
);
/// Names of others.
pub const LINK: Flag = flag(
    "link",
    None,
    Kind::List,
    "",
    "Add a link to another container",
);
/// Addresses of the link itself.
pub const LINK_LOCAL_IP: Flag = flag(
    "link-local-ip",
    None,
    Kind::List,
    "",
    "Link-local address of the container",
);

/// All of them; what reads them is `endpoints`.
pub const NETWORKS: &[Flag] = &[
    IP,
    IP6,
    LINK,
    LINK_LOCAL_IP,
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
