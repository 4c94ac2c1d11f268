//! Who may be reached from a network: rules of routing that look at the bridge a packet came in by.
//!
//! A packet from one of the network's own addresses is routed as the host's are, but never out by a bridge; one
//! from an address that is not the network's goes nowhere, without a word to whoever has that address. What is
//! for the host itself, all gateways included, the kernel delivers before it comes to these.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::route::{RouteHeader, RouteProtocol};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use crate::links::NETWORKS;
use crate::netlink::Netlink;
use crate::plan::{Address, Bridge};

/// What our rules are known by among those of others.
const OURS: u8 = 108;
/// Where they stand: behind the kernel's own table of local addresses, before everything else.
const FIRST: u32 = 20_100;

/// What becomes of a packet, in the order in which that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// It goes where the host's own packets go, unless that is a network.
    Passes,
    /// Its sender is told that there is no way.
    Unreachable,
    /// It vanishes.
    Dropped,
}

/// One rule of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    fate: Fate,
    v6: bool,
    /// The subnet whose packets it is about; nothing means all.
    from: Option<(IpAddr, u8)>,
}

/// What is in the kernel, by bridge.
#[derive(Debug, Default)]
pub(crate) struct Rules(HashMap<String, BTreeSet<Rule>>);

impl Rules {
    /// What an engine before this one left.
    pub fn read(netlink: &mut Netlink) -> Result<Self, Errno> {
        let mut rules = Self::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut all = RuleMessage::default();
            all.header.family = family;
            for message in netlink.list(&RouteNetlinkMessage::GetRule(all))? {
                if let RouteNetlinkMessage::NewRule(message) = message
                    && let Some((bridge, rule)) = parsed(&message)
                {
                    rules.0.entry(bridge).or_default().insert(rule);
                }
            }
        }
        Ok(rules)
    }

    /// Those of networks, extensions included.
    pub fn bridges(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Makes these the rules of a bridge. At no moment does more pass than before or after.
    pub fn set(
        &mut self,
        netlink: &mut Netlink,
        bridge: &str,
        wanted: &BTreeSet<Rule>,
    ) -> Result<(), Errno> {
        let there = self.0.entry(bridge.to_owned()).or_default();
        for rule in wanted.iter().rev() {
            if !there.contains(rule) {
                netlink.ensure(RouteNetlinkMessage::NewRule(rule.message(bridge)))?;
                there.insert(*rule);
            }
        }
        for rule in there.difference(wanted).copied().collect::<Vec<_>>() {
            match netlink.remove(RouteNetlinkMessage::DelRule(rule.message(bridge))) {
                Ok(()) | Err(Errno::NOENT) => there.remove(&rule),
                Err(errno) => return Err(errno),
            };
        }
        if there.is_empty() {
            self.0.remove(bridge);
        }
        Ok(())
    }
}

/// Those of a network.
pub(crate) fn of(bridge: &Bridge) -> BTreeSet<Rule> {
    let mut rules = of_extension();
    for gateway in &bridge.gateways {
        let passes = (!bridge.internal).then_some(Fate::Passes);
        for fate in passes.into_iter().chain([Fate::Unreachable]) {
            rules.insert(Rule {
                fate,
                v6: gateway.ip.is_ipv6(),
                from: Some(subnet(*gateway)),
            });
        }
    }
    rules
}

/// Those of a bridge that has no addresses: nothing is routed from there.
pub(crate) fn of_extension() -> BTreeSet<Rule> {
    let dropped = |v6| Rule {
        fate: Fate::Dropped,
        v6,
        from: None,
    };
    BTreeSet::from([dropped(false), dropped(true)])
}

impl Rule {
    fn message(&self, bridge: &str) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = if self.v6 {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        let attributes = &mut message.attributes;
        attributes.push(RuleAttribute::Iifname(bridge.to_owned()));
        attributes.push(RuleAttribute::Priority(FIRST + self.fate as u32));
        attributes.push(RuleAttribute::Protocol(RouteProtocol::from(OURS)));
        if let Some((subnet, prefix)) = self.from {
            message.header.src_len = prefix;
            attributes.push(RuleAttribute::Source(subnet));
        }
        message.header.action = match self.fate {
            Fate::Passes => {
                message.header.table = RouteHeader::RT_TABLE_MAIN;
                attributes.push(RuleAttribute::SuppressIfGroup(NETWORKS));
                RuleAction::ToTable
            }
            Fate::Unreachable => RuleAction::Unreachable,
            Fate::Dropped => RuleAction::Blackhole,
        };
        message
    }
}

fn parsed(message: &RuleMessage) -> Option<(String, Rule)> {
    let (mut ours, mut bridge, mut source) = (false, None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(protocol) => ours = u8::from(*protocol) == OURS,
            RuleAttribute::Iifname(name) => bridge = Some(name.clone()),
            RuleAttribute::Source(address) => source = Some(*address),
            _ => {}
        }
    }
    let v6 = message.header.family == AddressFamily::Inet6;
    let from = match (source, message.header.src_len) {
        (None, 0) => None,
        (None, _) => return None,
        (Some(source), prefix) => Some((source, prefix)),
    };
    let fate = match message.header.action {
        RuleAction::ToTable => Fate::Passes,
        RuleAction::Unreachable => Fate::Unreachable,
        RuleAction::Blackhole => Fate::Dropped,
        _ => return None,
    };
    let rule = Rule { fate, v6, from };
    ours.then_some((bridge?, rule))
}

/// The subnet an address lies in.
fn subnet(address: Address) -> (IpAddr, u8) {
    let prefix = u32::from(address.prefix);
    let ip = match address.ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    };
    (ip, address.prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_known_again() {
        let bridge = Bridge {
            name: "br-1".into(),
            gateways: vec![
                Address {
                    ip: "172.18.0.1".parse().unwrap(),
                    prefix: 16,
                },
                Address {
                    ip: "fd00:1::1".parse().unwrap(),
                    prefix: 64,
                },
            ],
            internal: false,
            icc: true,
            mtu: None,
        };
        let rules = of(&bridge);
        assert_eq!(rules.len(), 6);
        for rule in rules {
            assert_eq!(parsed(&rule.message("br-1")), Some(("br-1".into(), rule)));
        }
        let internal = of(&Bridge {
            internal: true,
            ..bridge
        });
        assert!(internal.iter().all(|rule| rule.fate != Fate::Passes));
        assert_eq!(internal.len(), 4);
    }

    #[test]
    fn the_subnet_is_what_the_prefix_says() {
        let of = |ip: &str, prefix| {
            let ip = ip.parse().unwrap();
            subnet(Address { ip, prefix }).0.to_string()
        };
        assert_eq!(of("10.1.2.3", 16), "10.1.0.0");
        assert_eq!(of("10.1.2.3", 32), "10.1.2.3");
        assert_eq!(of("10.1.2.3", 0), "0.0.0.0");
        assert_eq!(of("fd00:1:2:3::4", 48), "fd00:1:2::");
        assert_eq!(of("fd00:1:2:3::4", 0), "::");
    }
}
