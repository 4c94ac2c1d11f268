//! What a request for a network says of addresses, judged in dockerd's words before anything is looked up.

use std::net::IpAddr;

use super::request::{IpamConfig, IpamRequest};
use super::subnet::Subnet;
use crate::error::{Error, Result};

/// Everything that is wrong, in one error.
pub(super) fn ipam(ipam: Option<&IpamRequest>, v6: bool) -> Result<()> {
    let configs = ipam.and_then(|ipam| ipam.config.as_ref());
    let wrong: Vec<String> = configs
        .into_iter()
        .flatten()
        .flat_map(|config| check(config, v6))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "invalid network config:\n{}",
        joined(&wrong)
    )))
}

/// Several lines as Go's daemon joins them: a list where there is more than one.
pub(crate) fn joined(lines: &[String]) -> String {
    match lines {
        [line] => line.clone(),
        lines => {
            let lines: Vec<String> = lines.iter().map(|line| format!("* {line}")).collect();
            lines.join("\n")
        }
    }
}

fn check(config: &IpamConfig, v6: bool) -> Vec<String> {
    let Some(subnet) = Subnet::parse(&config.subnet) else {
        return vec![format!(
            "invalid subnet {}: invalid CIDR block notation",
            config.subnet
        )];
    };
    if subnet.is_v6() && !v6 {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    if subnet != subnet.masked() {
        let right = subnet.masked();
        wrong.push(format!("invalid subnet {subnet}: it should be {right}"));
    }
    wrong.extend(range(&config.ip_range, subnet));
    if let Err(why) = address(&config.gateway, subnet) {
        wrong.push(format!("invalid gateway {}: {why}", config.gateway));
    }
    for (name, ip) in config.auxiliary_addresses.iter().flatten() {
        if let Err(why) = address(ip, subnet) {
            wrong.push(format!("invalid auxiliary address {name}: {why}"));
        }
    }
    wrong
}

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

fn range(text: &str, subnet: Subnet) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let one = |why: String| format!("invalid ip-range {text}: {why}");
    let Some(range) = Subnet::parse(text) else {
        return vec![one("invalid CIDR block notation".into())];
    };
    if range.is_v6() != subnet.is_v6() {
        let family = family(subnet.is_v6());
        return vec![one(format!("parent subnet is an {family} block"))];
    }
    let mut wrong = Vec::new();
    if range.prefix() < subnet.prefix() {
        wrong.push(one(format!(
            "CIDR block is bigger than its parent subnet {subnet}"
        )));
    }
    if range != range.masked() {
        wrong.push(one(format!("it should be {}", range.masked())));
    }
    if !subnet.overlaps(range) {
        wrong.push(one(format!(
            "parent subnet {subnet} doesn't contain ip-range"
        )));
    }
    wrong
}

fn address(text: &str, subnet: Subnet) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let ip: IpAddr = text.parse().map_err(|_| "invalid address".to_owned())?;
    if ip.is_ipv6() != subnet.is_v6() {
        let family = family(subnet.is_v6());
        return Err(format!("parent subnet is an {family} block"));
    }
    if !subnet.contains(ip) {
        return Err(format!(
            "parent subnet {subnet} doesn't contain this address"
        ));
    }
    Ok(())
}
