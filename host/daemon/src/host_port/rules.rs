//! Which addresses are dialled for whom.
//!
//! A registry decides where its redirects and token services lead. Were those followed to the
//! host's own loopback, to its neighbours on the link or to a cloud's metadata service, a hostile
//! registry could reach services that trust the host. Such addresses are dialled only for the
//! very registry the user named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses under which clouds answer for their metadata outside the link-local range.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether this address belongs to the host itself or to its closest surroundings.
pub fn is_close(address: IpAddr) -> bool {
    let address = plain(address);
    if METADATA.contains(&address) {
        return true;
    }
    match address {
        IpAddr::V4(v4) => {
            let this_network = v4.octets()[0] == 0;
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || this_network
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
        }
    }
}

/// Whether this is a host's name, or a registry's with its port: nothing else may be written to a
/// log or a terminal.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:[]%".contains(&b);
    (1..=300).contains(&text.len()) && text.bytes().all(plain)
}

/// The IPv4 address inside an IPv6 one, where that is what it stands for.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    let [a, b, c, .., hi, lo] = v6.segments();
    let embedded = |hi: u16, lo: u16| {
        let ([a, b], [c, d]) = (hi.to_be_bytes(), lo.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // NAT64, whose gateway would go to the embedded address.
        (0x64, 0xff9b) => embedded(hi, lo),
        // 6to4.
        (0x2002, _) => embedded(b, c),
        // The old IPv4-compatible form, but not `::` and `::1` themselves.
        (0, 0) if v6.segments()[..6].iter().all(|s| *s == 0) && (hi, lo) > (0, 1) => {
            embedded(hi, lo)
        }
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_host_and_its_surroundings_are_close() {
        for text in [
            "127.0.0.1",
            "127.255.0.3",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "2002:7f00:1::",
        ] {
            assert!(is_close(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn addresses_of_others_are_not() {
        for text in [
            "10.0.0.1",
            "192.168.1.5",
            "8.8.8.8",
            "2606:4700::1",
            "fd12::1",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(!is_close(text.parse().unwrap()), "{text}");
        }
    }
}
