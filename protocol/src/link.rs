//! The addresses of the link between the guest's network and the host's `net` process.
//!
//! A constant, not a setting: nothing outside the machine ever sees these addresses. They are of the block
//! for measurements of networks (RFC 2544) and of a unique local prefix (RFC 4193), which no host routes.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The guest's hardware address; locally administered.
pub const GUEST_MAC: [u8; 6] = [0x02, b'l', b'g', b'h', 0, 2];
/// The gateway's.
pub const GATEWAY_MAC: [u8; 6] = [0x02, b'l', b'g', b'h', 0, 1];

/// The gateway, which also answers for names.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(198, 19, 79, 1);
/// The guest on its side of the link: what containers of the host network use as their own.
pub const GUEST_V4: Ipv4Addr = Ipv4Addr::new(198, 19, 79, 2);
/// The host itself, that is its loopback: `host.docker.internal`.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(198, 19, 79, 254);
/// Length of the prefix of these.
pub const PREFIX_V4: u8 = 24;

/// The gateway.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd6c, 0x6967, 0x6874, 0, 0, 0, 0, 1);
/// The guest.
pub const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfd6c, 0x6967, 0x6874, 0, 0, 0, 0, 2);
/// The host.
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd6c, 0x6967, 0x6874, 0, 0, 0, 0, 0xfe);
/// Length of the prefix of these.
pub const PREFIX_V6: u8 = 64;
