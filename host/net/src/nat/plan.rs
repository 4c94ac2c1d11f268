//! Who is who on the link to the guest, and where its packets may go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::wire::EthernetAddress;

use crate::close::is_close;

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
