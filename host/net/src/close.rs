//! Which addresses are too close to the host for a stranger to choose: its own, those of its links, nobody's, and a
//! cloud's metadata; in every spelling.
//!
//! Called by the router for every destination of the guest, and by the daemon for what a registry leads to. There is no
//! second list of these.
//! Must never: take a version 6 address for somebody far who is somebody close by version 4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether it is one of them.
#[must_use]
pub fn is_close(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_close_v4(address),
        IpAddr::V6(address) => is_close_v6(address),
    }
}

fn is_close_v4(address: Ipv4Addr) -> bool {
    is_nobodys(address) || is_guarded(address)
}

/// Where no packet goes to one other.
fn is_nobodys(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0 || address.octets()[0] >= 240 || address.is_multicast()
}

/// Where somebody is who trusts whoever comes.
fn is_guarded(address: Ipv4Addr) -> bool {
    const METADATA: [Ipv4Addr; 3] = [
        Ipv4Addr::new(168, 63, 129, 16),
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(192, 0, 0, 192),
    ];
    address.is_loopback() || address.is_link_local() || METADATA.contains(&address)
}

fn is_close_v6(address: Ipv6Addr) -> bool {
    const METADATA: [Ipv6Addr; 2] = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    ];
    let segments = address.segments();
    // ::, ::1, v4-mapped and v4-compatible, which no translator of the host's network would take; fe80::/10, fec0::/10,
    // ff00::/8
    segments[..5] == [0; 5]
        || segments[0] & 0xffc0 == 0xfe80
        || segments[0] & 0xffc0 == 0xfec0
        || address.is_multicast()
        || METADATA.contains(&address)
        || leads_close(address)
}

/// Whether a translator or a tunnel of the host or its network would take it to a version 4 address that is close.
fn leads_close(address: Ipv6Addr) -> bool {
    let octets = address.octets();
    let at = |from: usize| {
        let [a, b, c, d] = [
            octets[from],
            octets[from + 1],
            octets[from + 2],
            octets[from + 3],
        ];
        Ipv4Addr::new(a, b, c, d)
    };
    // Behind a prefix of so many bytes; byte 8 is no part of it (RFC 6052, section 2.2).
    let behind = |prefix: usize| {
        let mut places = (prefix..).filter(|place| *place != 8);
        let mut next = || places.next().and_then(|place| octets.get(place)).copied();
        Ipv4Addr::from([(); 4].map(|()| next().unwrap_or(0)))
    };
    match address.segments() {
        // NAT64 and its kind (RFC 6052), and SIIT (RFC 2765)
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => is_close_v4(at(12)),
        // The same for local use (RFC 8215): where in it the address is only that network knows. What is nobody's in one
        // reading is the network's own part of another.
        [0x64, 0xff9b, 1, ..] => {
            let readings = [6, 7, 8, 12].map(behind);
            readings.into_iter().any(is_guarded) || readings.into_iter().all(is_nobodys)
        }
        // 6to4
        [0x2002, ..] => is_close_v4(at(2)),
        // Teredo: its server, and the client's address with every bit turned (RFC 4380, section 4)
        [0x2001, 0, ..] => {
            is_close_v4(at(4)) || is_close_v4(Ipv4Addr::from_bits(!at(12).to_bits()))
        }
        // ISATAP (RFC 5214, section 6.1), in any network
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => is_close_v4(at(12)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSE: [&str; 7] = [
        "127.0.0.1",
        "127.255.0.3",
        "169.254.169.254",
        "169.254.1.1",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
    ];
    const FAR: [&str; 5] = [
        "8.8.8.8",
        "10.0.0.1",
        "192.168.1.1",
        "172.17.0.1",
        "198.51.100.7",
    ];

    /// Every spelling of an address in one of version 6 that leads to it somewhere.
    fn spellings(address: Ipv4Addr) -> Vec<Ipv6Addr> {
        let [a, b, c, d] = address.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let mixed = |first: u8, second: u8| u16::from_be_bytes([first, second]);
        vec![
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0xabc, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, high, mixed(0, c), mixed(d, 0), 0, 0),
            Ipv6Addr::new(0x64, 0xff9b, 1, high, mixed(0, c), mixed(d, 0), 7, 7),
            Ipv6Addr::new(0x64, 0xff9b, 1, mixed(1, a), mixed(0, b), mixed(c, d), 0, 0),
            Ipv6Addr::new(0x64, 0xff9b, 1, 1, mixed(0, a), mixed(b, c), mixed(d, 0), 0),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
            Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !0x808, !0x808),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0x5efe, high, low),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0x200, 0x5efe, high, low),
        ]
    }

    #[test]
    fn who_is_close_is_so_in_every_spelling_and_nobody_else() {
        for (addresses, close) in [(&CLOSE[..], true), (&FAR, false)] {
            for text in addresses {
                let address: Ipv4Addr = text.parse().unwrap();
                assert_eq!(is_close(address.into()), close, "{text}");
                for spelling in spellings(address) {
                    assert_eq!(is_close(spelling.into()), close, "{text} as {spelling}");
                }
            }
        }
    }

    #[test]
    fn what_is_nobodys_is_not_reached_either() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::",
            "64:ff9b:1::",
            "64:ff9b:1::255.255.255.255",
            "2002::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::fb",
            "fd00:ec2::254",
            "fd20:ce::254",
        ] {
            assert!(is_close(text.parse().unwrap()), "{text}");
        }
        for text in ["2001:db8::1", "2606:4700::1", "fd12::1", "2003::1"] {
            assert!(!is_close(text.parse().unwrap()), "{text}");
        }
    }
}
