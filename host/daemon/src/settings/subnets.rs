//! What the default network's subnets may be, judged before the machine hears of them.

use std::net::IpAddr;

use lighter_protocol::EngineSettings;

use super::error::Wrong;

/// What is wrong with them.
pub(super) fn wrong(engine: &EngineSettings) -> Vec<Wrong> {
    let all = [
        (
            "engine.bip",
            &engine.bip,
            false,
            "an IPv4 address with a prefix",
            "10.99.0.1/24",
        ),
        (
            "engine.fixed-cidr",
            &engine.fixed_cidr,
            false,
            "an IPv4 subnet",
            "10.99.0.0/25",
        ),
        (
            "engine.fixed-cidr-v6",
            &engine.fixed_cidr_v6,
            true,
            "an IPv6 subnet",
            "fd00:1::/64",
        ),
    ];
    let malformed = all
        .into_iter()
        .filter_map(|(key, value, v6, what, example)| {
            let fits = |(ip, _): &(IpAddr, u32)| ip.is_ipv6() == v6;
            let read = parse(value).filter(fits);
            (!value.is_empty() && read.is_none()).then(|| Wrong {
                key,
                value: value.clone(),
                why: format!(
                    "it must be {what} of at most {}, such as `{example}`",
                    longest(v6)
                ),
            })
        });
    let mut wrong: Vec<_> = malformed.collect();
    let is_wrong = |key| wrong.iter().any(|wrong| wrong.key == key);
    if !is_wrong("engine.bip") {
        let fixed_cidr = Some(&*engine.fixed_cidr).filter(|_| !is_wrong("engine.fixed-cidr"));
        wrong.extend(wrong_together(&engine.bip, fixed_cidr.unwrap_or_default()));
    }
    wrong
}

/// What is wrong with an address of the router that is well formed, or with the part that containers get.
fn wrong_together(bip: &str, fixed_cidr: &str) -> Option<Wrong> {
    let (router, prefix) = parse(bip)?;
    let own = bits(router) >> (32 - prefix);
    if bits(router).trailing_zeros() >= 32 - prefix || bits(router).trailing_ones() >= 32 - prefix {
        return Some(Wrong {
            key: "engine.bip",
            value: bip.to_owned(),
            why: "it must be an address in its subnet, and not the first or last of it".to_owned(),
        });
    }
    let (first, part) = parse(fixed_cidr)?;
    let is_part = part >= prefix && bits(first) >> (32 - prefix) == own;
    (!is_part).then(|| Wrong {
        key: "engine.fixed-cidr",
        value: fixed_cidr.to_owned(),
        why: format!("it must be a part of the subnet of `engine.bip`, {bip}"),
    })
}

/// The longest prefix with room for a router and a container.
fn longest(v6: bool) -> u32 {
    if v6 { 126 } else { 30 }
}

/// An address and a prefix of at least one bit.
fn parse(text: &str) -> Option<(IpAddr, u32)> {
    let (ip, prefix) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    // As the engine reads it: digits, and no zero before them.
    if prefix.starts_with('0') || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let prefix = prefix.parse().ok()?;
    if ip.is_loopback() || ip.is_multicast() {
        return None;
    }
    (1..=longest(ip.is_ipv6()))
        .contains(&prefix)
        .then_some((ip, prefix))
}

/// An IPv4 address as a number.
fn bits(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(bip: &str, fixed_cidr: &str, fixed_cidr_v6: &str) -> Option<&'static str> {
        let engine = EngineSettings {
            bip: bip.into(),
            fixed_cidr: fixed_cidr.into(),
            fixed_cidr_v6: fixed_cidr_v6.into(),
            ..EngineSettings::default()
        };
        let all = wrong(&engine);
        assert!(all.len() < 2, "{all:?}");
        all.first().map(|wrong| wrong.key)
    }

    #[test]
    fn subnets_that_cannot_be_are_named() {
        for (bip, fixed, fixed_v6, expected) in [
            ("", "", "", None),
            ("10.99.0.1/24", "10.99.0.128/25", "fd00:1::/64", None),
            ("", "172.17.4.0/24", "", None),
            ("10.99.0.1", "", "", Some("engine.bip")),
            ("10.99.0.0/24", "", "", Some("engine.bip")),
            ("10.99.0.255/24", "", "", Some("engine.bip")),
            ("10.99.0.1/31", "", "", Some("engine.bip")),
            ("10.99.0.1/0", "", "", Some("engine.bip")),
            ("10.99.0.1/024", "", "", Some("engine.bip")),
            ("10.99.0.1/+24", "", "", Some("engine.bip")),
            ("127.0.0.1/8", "", "", Some("engine.bip")),
            ("224.0.0.1/24", "", "", Some("engine.bip")),
            ("fd00::1/64", "", "", Some("engine.bip")),
            ("", "x", "", Some("engine.fixed-cidr")),
            (
                "10.99.0.1/24",
                "10.98.0.0/25",
                "",
                Some("engine.fixed-cidr"),
            ),
            (
                "10.99.0.1/24",
                "10.99.0.0/23",
                "",
                Some("engine.fixed-cidr"),
            ),
            ("", "", "10.0.0.0/8", Some("engine.fixed-cidr-v6")),
            ("", "", "fd00::/127", Some("engine.fixed-cidr-v6")),
        ] {
            assert_eq!(
                judged(bip, fixed, fixed_v6),
                expected,
                "{bip} {fixed} {fixed_v6}"
            );
        }
    }
}
