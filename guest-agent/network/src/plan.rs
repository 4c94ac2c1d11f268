//! What the engine asks of the kernel, as plain data: which bridges there are, and what of them a container has.
//!
//! The engine has judged it: names are fit for interfaces, addresses lie in their subnets. This room refuses what
//! the kernel refuses.

use std::net::IpAddr;

/// An address and how much of it names its subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of the subnet's prefix, in bits.
    pub prefix: u8,
}

/// A network that is a bridge in the host's namespace, and the rules of who may pass it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The interface: `docker0`, `br-` and twelve digits, or what its user asked for; at most 15 bytes.
    pub name: String,
    /// Its own addresses, by which containers find the way out: at most one of each family.
    pub gateways: Vec<Address>,
    /// Whether containers reach nothing but each other and the gateway.
    pub internal: bool,
    /// Whether containers reach each other.
    pub icc: bool,
    /// The longest packet, in bytes; nothing means the kernel's choice.
    pub mtu: Option<u32>,
}

/// An interface in the host's namespace that carries one virtual LAN of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    /// What it is called: at most 15 bytes.
    pub name: String,
    /// The other one.
    pub below: String,
    /// The number of the virtual LAN: 1 to 4,094.
    pub id: u16,
}

/// How an interface of a container is joined to the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joint {
    /// A pair of interfaces, whose other end is a port of a bridge.
    Bridge {
        /// The bridge.
        bridge: String,
        /// The other end, in the host's namespace: at most 15 bytes.
        port: String,
    },
    /// An interface of its own on another one.
    Macvlan {
        /// The other one, in the host's namespace.
        parent: String,
        /// How it passes packets on.
        mode: MacvlanMode,
    },
    /// One that shares the hardware address of another.
    Ipvlan {
        /// The other one, in the host's namespace.
        parent: String,
        /// How it passes packets on.
        mode: IpvlanMode,
    },
}

/// Modes of macvlan, under the kernel's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MacvlanMode {
    /// Those of one parent reach each other.
    #[default]
    Bridge,
    /// They do not.
    Private,
    /// They do by way of a switch that sends packets back.
    Vepa,
    /// The parent has one alone.
    Passthru,
}

/// Modes of ipvlan, under the kernel's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IpvlanMode {
    /// As a switch does.
    #[default]
    L2,
    /// As a router does.
    L3,
    /// As a router does whose rules see both ways.
    L3s,
}

/// An interface of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plug {
    /// What it is called there: `eth0`; at most 15 bytes.
    pub name: String,
    /// What it is joined to.
    pub joint: Joint,
    /// Its hardware address; nothing means the kernel's choice.
    pub mac: Option<[u8; 6]>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// The longest packet, in bytes; nothing means the kernel's choice.
    pub mtu: Option<u32>,
    /// Settings below `net.` that are the interface's own, with the interface's name where `IFNAME` stands:
    /// `net.ipv4.conf.IFNAME.log_martians`.
    pub sysctls: Vec<(String, String)>,
}

/// How a container reaches what is in none of its networks: by at most one of each family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WayOut {
    /// The routers, and the interface each is reached by.
    pub gateways: Vec<(IpAddr, String)>,
    /// Interfaces that themselves are the way out, where there is no router (ipvlan in its L3 modes).
    pub direct: Vec<String>,
}
