//! Who is who on the link to the guest, and where its packets may go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::wire::EthernetAddress;

/// The addresses of the link between the guest and this process. Both ends know them; nothing else does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The guest's hardware address.
    pub guest_mac: EthernetAddress,
    /// Ours.
    pub gateway_mac: EthernetAddress,
    /// The gateway, which answers for names.
    pub gateway: [IpAddr; 2],
    /// What leads to the host's own loopback.
    pub host: [IpAddr; 2],
}

impl Default for Plan {
    fn default() -> Self {
        use lighter_protocol::link;
        Self {
            guest_mac: EthernetAddress(link::GUEST_MAC),
            gateway_mac: EthernetAddress(link::GATEWAY_MAC),
            gateway: [link::GATEWAY_V4.into(), link::GATEWAY_V6.into()],
            host: [link::HOST_V4.into(), link::HOST_V6.into()],
        }
    }
}

/// Where a packet of the guest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To this address, as the guest said it.
    Remote(SocketAddr),
    /// To the host's own loopback, which the guest asked for by its name.
    Host(SocketAddr),
    /// To the service for names on the gateway.
    Names,
    /// Nowhere.
    Refused,
}

/// The port of the service for names.
pub const NAMES: u16 = 53;

impl Plan {
    /// Whether this is one of our own addresses.
    pub fn is_ours(&self, address: IpAddr) -> bool {
        self.gateway.contains(&address) || self.host.contains(&address)
    }

    /// Judges where a packet wants to go. Only what the host would send out anyway is let through: nothing
    /// of its own loopback, of the link, or of a cloud's metadata.
    pub fn target(&self, wanted: SocketAddr) -> Target {
        let address = wanted.ip();
        if self.gateway.contains(&address) {
            return match wanted.port() {
                NAMES => Target::Names,
                _ => Target::Refused,
            };
        }
        if self.host.contains(&address) {
            let loopback: IpAddr = match address {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            return Target::Host(SocketAddr::new(loopback, wanted.port()));
        }
        if wanted.port() == 0 || is_close(address) {
            return Target::Refused;
        }
        Target::Remote(wanted)
    }

    /// Where the host connects or sends to for it: `names` is where it asks for names, if it does.
    pub fn destination(&self, wanted: SocketAddr, names: Option<SocketAddr>) -> Option<SocketAddr> {
        match self.target(wanted) {
            Target::Remote(to) | Target::Host(to) => Some(to),
            Target::Names => names,
            Target::Refused => None,
        }
    }
}

/// Addresses of the host itself, of its links, of nobody, and of a cloud's metadata.
pub fn is_close(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_close_v4(address),
        IpAddr::V6(address) => is_close_v6(address),
    }
}

fn is_close_v4(address: Ipv4Addr) -> bool {
    const METADATA: [Ipv4Addr; 3] = [
        Ipv4Addr::new(168, 63, 129, 16),
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(192, 0, 0, 192),
    ];
    address.octets()[0] == 0
        || address.octets()[0] >= 240
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || METADATA.contains(&address)
}

fn is_close_v6(address: Ipv6Addr) -> bool {
    const METADATA: [Ipv6Addr; 2] = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    ];
    // Every way to write a version 4 address as one of version 6 is judged as that address, and those
    // that no translator of the host's network would take are nobody's.
    let segments = address.segments();
    let embedded = || {
        let [.., high, low] = segments;
        let (high, low) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(high[0], high[1], low[0], low[1])
    };
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_close_v4(embedded());
    }
    if segments[0] == 0x2002 {
        let (high, low) = (segments[1].to_be_bytes(), segments[2].to_be_bytes());
        return is_close_v4(Ipv4Addr::new(high[0], high[1], low[0], low[1]));
    }
    // ::, ::1, v4-mapped and v4-compatible, fe80::/10, fec0::/10, ff00::/8
    segments[..5] == [0; 5]
        || segments[0] & 0xffc0 == 0xfe80
        || segments[0] & 0xffc0 == 0xfec0
        || address.is_multicast()
        || METADATA.contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_world_is_reached() {
        let plan = Plan::default();
        let target = |text: &str| plan.target(text.parse().unwrap());
        for refused in [
            "127.0.0.1:80",
            "127.255.1.1:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "169.254.169.254:80",
            "169.254.1.1:1",
            "224.0.0.251:5353",
            "255.255.255.255:67",
            "240.0.0.1:80",
            "168.63.129.16:80",
            "100.100.100.200:80",
            "1.2.3.4:0",
            "[::]:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:8.8.8.8]:80",
            "[::7f00:1]:80",
            "[fe80::1]:80",
            "[febf::1]:80",
            "[fec0::1]:80",
            "[ff02::fb]:5353",
            "[64:ff9b::7f00:1]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[2002:7f00:1::]:80",
            "[fd00:ec2::254]:80",
        ] {
            assert_eq!(target(refused), Target::Refused, "{refused}");
        }
        for through in [
            "1.1.1.1:53",
            "10.0.0.1:80",
            "192.168.1.1:80",
            "172.17.0.1:80",
            "[2001:db8::1]:80",
            "[fd12::1]:80",
            "[64:ff9b::808:808]:443",
        ] {
            let wanted = through.parse().unwrap();
            assert_eq!(target(through), Target::Remote(wanted), "{through}");
        }
    }

    #[test]
    fn gateway_answers_for_names_only_and_the_host_by_its_name_alone() {
        let plan = Plan::default();
        for (gateway, host, loopback) in [
            (plan.gateway[0], plan.host[0], "127.0.0.1:80"),
            (plan.gateway[1], plan.host[1], "[::1]:80"),
        ] {
            assert_eq!(plan.target(SocketAddr::new(gateway, 53)), Target::Names);
            for port in [1, 22, 80, 2375, 54, 65535] {
                let wanted = SocketAddr::new(gateway, port);
                assert_eq!(plan.target(wanted), Target::Refused, "{wanted}");
            }
            let wanted = SocketAddr::new(host, 80);
            assert_eq!(plan.target(wanted), Target::Host(loopback.parse().unwrap()));
        }
    }
}
