//! Subnets of both families: an address and how much of it names the subnet.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A block of addresses, written as in `10.1.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    ip: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// The block of this prefix, in bits; none where the family has not so many.
    pub fn new(ip: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= width(ip)).then_some(Self { ip, prefix })
    }

    /// Reads CIDR notation; the address may lie anywhere in the block.
    pub fn parse(text: &str) -> Option<Self> {
        let (ip, prefix) = text.split_once('/')?;
        let plain = prefix.bytes().all(|byte| byte.is_ascii_digit())
            && (prefix == "0" || !prefix.starts_with('0'));
        let prefix = prefix.parse().ok().filter(|_| plain)?;
        Self::new(ip.parse().ok()?, prefix)
    }

    /// The address it was made of.
    pub fn ip(self) -> IpAddr {
        self.ip
    }

    /// Length of the prefix, in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether it is of IPv6.
    pub fn is_v6(self) -> bool {
        self.ip.is_ipv6()
    }

    /// The block, named by its first address.
    #[must_use]
    pub fn masked(self) -> Self {
        Self {
            ip: self.first(),
            ..self
        }
    }

    /// Its first address.
    pub fn first(self) -> IpAddr {
        address(self.is_v6(), number(self.ip) & !self.host_bits())
    }

    /// Its last address.
    pub fn last(self) -> IpAddr {
        address(self.is_v6(), number(self.ip) | self.host_bits())
    }

    /// Whether the address lies in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        self.is_v6() == ip.is_ipv6()
            && number(ip) & !self.host_bits() == number(self.ip) & !self.host_bits()
    }

    /// Whether any address lies in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }

    fn host_bits(self) -> u128 {
        let bits = u32::from(width(self.ip) - self.prefix);
        1_u128.checked_shl(bits).map_or(u128::MAX, |bit| bit - 1)
    }
}

/// Blocks of addresses in which another one is looked for however many there are: none of them overlaps another, for
/// of two that do one lies in the other.
#[derive(Debug, Clone, Default)]
pub struct Blocks(BTreeMap<IpAddr, Subnet>);

impl Blocks {
    /// Adds one, and forgets those that lie in it.
    pub fn add(&mut self, block: Subnet) {
        let there = self.last_in(block);
        if there.is_some_and(|other| other.prefix() <= block.prefix()) {
            return;
        }
        let inside = self.0.range(block.first()..=block.last());
        let inside: Vec<IpAddr> = inside.map(|(first, _)| *first).collect();
        for first in inside {
            self.0.remove(&first);
        }
        self.0.insert(block.first(), block);
    }

    /// The last one that has an address of this block.
    pub fn last_in(&self, block: Subnet) -> Option<Subnet> {
        let (_, last) = self.0.range(..=block.last()).next_back()?;
        last.overlaps(block).then_some(*last)
    }

    /// Whether any has an address of this block.
    pub fn overlap(&self, block: Subnet) -> bool {
        self.last_in(block).is_some()
    }
}

impl FromIterator<Subnet> for Blocks {
    fn from_iter<T: IntoIterator<Item = Subnet>>(all: T) -> Self {
        let mut blocks = Self::default();
        all.into_iter().for_each(|block| blocks.add(block));
        blocks
    }
}

/// The address behind this one; none behind the last of its family.
pub fn next(ip: IpAddr) -> Option<IpAddr> {
    let next = number(ip).checked_add(1)?;
    (ip.is_ipv6() || next <= u128::from(u32::MAX)).then(|| address(ip.is_ipv6(), next))
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv6() { 128 } else { 32 }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(v6: bool, number: u128) -> IpAddr {
    if v6 {
        Ipv6Addr::from_bits(number).into()
    } else {
        // All that is above 32 bits was masked away or refused.
        Ipv4Addr::from_bits(u32::try_from(number & u128::from(u32::MAX)).unwrap_or(0)).into()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("{text} is no subnet"));
        Self::parse(&text).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    #[test]
    fn blocks_know_their_ends_and_each_other() {
        for (text, first, last) in [
            ("10.1.2.3/24", "10.1.2.0", "10.1.2.255"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.3"),
            ("1.2.3.4/0", "0.0.0.0", "255.255.255.255"),
            ("fd00::7/64", "fd00::", "fd00::ffff:ffff:ffff:ffff"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            let block = subnet(text);
            assert_eq!(block.first().to_string(), first);
            assert_eq!(block.last().to_string(), last);
            assert_eq!(block.to_string(), text);
        }
        for (a, b, both) in [
            ("10.0.0.0/8", "10.9.0.0/24", true),
            ("10.9.0.0/24", "10.0.0.0/8", true),
            ("10.9.0.0/24", "10.9.1.0/24", false),
            ("0.0.0.0/0", "::/0", false),
        ] {
            assert_eq!(subnet(a).overlaps(subnet(b)), both, "{a} {b}");
        }
    }

    #[test]
    fn among_blocks_the_overlapping_is_found_wherever_it_is() {
        let mut blocks: Blocks = ["10.1.0.0/16", "10.3.0.0/24", "10.3.1.7/24", "fd00::/64"]
            .map(subnet)
            .into_iter()
            .collect();
        let last = |blocks: &Blocks, text| blocks.last_in(subnet(text)).map(|b| b.to_string());
        for (text, found) in [
            ("10.1.200.0/24", Some("10.1.0.0/16")),
            ("10.0.0.0/8", Some("10.3.1.7/24")),
            ("10.3.0.0/16", Some("10.3.1.7/24")),
            ("10.3.0.9/32", Some("10.3.0.0/24")),
            ("10.2.0.0/16", None),
            ("10.3.2.0/24", None),
            ("0.0.0.0/0", Some("10.3.1.7/24")),
            ("fd00::1/128", Some("fd00::/64")),
            ("fd00:0:0:1::/64", None),
            ("::/0", Some("fd00::/64")),
        ] {
            assert_eq!(last(&blocks, text).as_deref(), found, "{text}");
        }
        // One that holds others takes their place, and one that is held changes nothing.
        for text in ["10.0.0.0/8", "10.3.0.0/24", "10.0.0.0/8"] {
            blocks.add(subnet(text));
            assert_eq!(
                last(&blocks, "10.200.0.0/16").as_deref(),
                Some("10.0.0.0/8")
            );
        }
        assert_eq!(blocks.0.len(), 2);
    }

    #[test]
    fn what_go_does_not_read_is_no_subnet() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0/8",
            "x/8",
        ] {
            assert_eq!(Subnet::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_last_address_has_none_behind_it() {
        for (ip, behind) in [
            ("10.0.0.255", Some("10.0.1.0")),
            ("255.255.255.255", None),
            ("fd00::ffff", Some("fd00::1:0")),
        ] {
            let behind = behind.map(|ip| ip.parse().unwrap());
            assert_eq!(next(ip.parse().unwrap()), behind);
        }
    }
}
