//! `network create`.

use std::net::IpAddr;

use clap::ArgMatches;
use serde_json::{Value, json};

use super::super::Context;
use super::super::flags::{Flag, Kind, fill, flag, text, texts};
use super::super::values;
use crate::exit::{CliError, Code};

/// Its flags.
pub const FLAGS: &[Flag] = &[
    flag(
        "attachable",
        None,
        Kind::Switch,
        "Attachable",
        "Enable manual container attachment",
    ),
    flag(
        "aux-address",
        None,
        Kind::Pairs,
        "",
        "Addresses that others have (name=address)",
    ),
    flag(
        "driver",
        Some('d'),
        Kind::Text,
        "Driver",
        "Driver of the network (bridge|macvlan|ipvlan)",
    ),
    flag("gateway", None, Kind::List, "", "Gateway of a subnet"),
    flag(
        "internal",
        None,
        Kind::Switch,
        "Internal",
        "Let nothing of the network out",
    ),
    flag(
        "ip-range",
        None,
        Kind::List,
        "",
        "Part of a subnet that containers' addresses are from",
    ),
    flag(
        "ipam-driver",
        None,
        Kind::Text,
        "IPAM.Driver",
        "Driver that gives addresses (default: default)",
    ),
    flag(
        "ipam-opt",
        None,
        Kind::Pairs,
        "IPAM.Options",
        "Options of that driver",
    ),
    flag(
        "ipv4",
        None,
        Kind::Switch,
        "EnableIPv4",
        "Give containers IPv4 addresses (default: true)",
    ),
    flag(
        "ipv6",
        None,
        Kind::Switch,
        "EnableIPv6",
        "Give containers IPv6 addresses",
    ),
    flag(
        "label",
        None,
        Kind::Pairs,
        "Labels",
        "Set metadata on the network",
    ),
    flag(
        "opt",
        Some('o'),
        Kind::Pairs,
        "Options",
        "Options of the driver",
    ),
    flag("subnet", None, Kind::List, "", "Subnet in CIDR form"),
];

/// Makes a network and prints its ID.
///
/// # Errors
/// In docker's words.
pub async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let mut body = json!({
        "Name": text(arguments, "target"),
        "Driver": "bridge",
        "IPAM": { "Driver": "default" },
    });
    fill(&mut body, FLAGS, arguments)?;
    let pools = pools(&Given {
        subnets: list(arguments, "subnet"),
        ranges: list(arguments, "ip-range"),
        gateways: list(arguments, "gateway"),
        others: texts(arguments, "aux-address"),
    });
    body["IPAM"]["Config"] = pools.map_err(CliError::new)?;
    let made = context.api.post_json("/networks/create", &body).await?;
    if let Some(warning) = made["Warning"].as_str().filter(|text| !text.is_empty()) {
        context.printer.warning(warning);
    }
    context
        .printer
        .line(made["Id"].as_str().unwrap_or_default());
    Ok(Code::OK)
}

/// Given often, or once with commas.
fn list(arguments: &ArgMatches, name: &str) -> Vec<String> {
    let all = texts(arguments, name);
    let parts = all.iter().flat_map(|text| text.split(','));
    parts.map(str::to_owned).collect()
}

/// What was said of addresses.
#[derive(Default)]
struct Given {
    subnets: Vec<String>,
    ranges: Vec<String>,
    gateways: Vec<String>,
    others: Vec<String>,
}

/// Puts each range, gateway and address of others to the subnet that it lies in.
fn pools(given: &Given) -> Result<Value, String> {
    let most = given.ranges.len().max(given.gateways.len());
    if given.subnets.len() < most {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut pools: Vec<Value> = Vec::new();
    for subnet in &given.subnets {
        for other in pools.iter().filter_map(|pool| pool["Subnet"].as_str()) {
            if holds(subnet, other)? || holds(other, subnet)? {
                return Err("multiple overlapping subnet configuration is not supported".to_owned());
            }
        }
        pools.push(json!({ "Subnet": subnet }));
    }
    for range in &given.ranges {
        cidr(range)?;
        let pool =
            pool_of(&mut pools, range)?.ok_or(format!("no matching subnet for range {range}"))?;
        if let Some(known) = pool["IPRange"].as_str() {
            return Err(format!(
                "cannot configure multiple ranges ({range}, {known}) on the same subnet ({})",
                pool["Subnet"].as_str().unwrap_or_default()
            ));
        }
        pool["IPRange"] = json!(range);
    }
    for gateway in &given.gateways {
        let pool = pool_of(&mut pools, gateway)?
            .ok_or(format!("no matching subnet for gateway {gateway}"))?;
        if let Some(known) = pool["Gateway"].as_str() {
            return Err(format!(
                "cannot configure multiple gateways ({gateway}, {known}) for the same subnet ({})",
                pool["Subnet"].as_str().unwrap_or_default()
            ));
        }
        pool["Gateway"] = json!(gateway);
    }
    for (name, address) in values::pairs(&given.others) {
        let pool = pool_of(&mut pools, &address)?
            .ok_or(format!("no matching subnet for aux-address {address}"))?;
        pool["AuxiliaryAddresses"][name] = json!(address);
    }
    Ok(json!(pools))
}

/// The first pool in whose subnet it lies.
fn pool_of<'a>(pools: &'a mut [Value], it: &str) -> Result<Option<&'a mut Value>, String> {
    for pool in pools {
        if holds(pool["Subnet"].as_str().unwrap_or_default(), it)? {
            return Ok(Some(pool));
        }
    }
    Ok(None)
}

/// Whether an address, or the first of a range, lies in a subnet; one that is no address lies nowhere.
fn holds(subnet: &str, it: &str) -> Result<bool, String> {
    let (network, prefix) = cidr(subnet).map_err(|error| format!("invalid subnet: {error}"))?;
    let address = match it.contains('/') {
        true => cidr(it)?.0,
        false => match it.parse() {
            Ok(address) => address,
            Err(_) => return Ok(false),
        },
    };
    Ok(match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let differ = a.to_bits() ^ b.to_bits();
            differ.leading_zeros() >= u32::from(prefix)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let differ = a.to_bits() ^ b.to_bits();
            differ.leading_zeros() >= u32::from(prefix)
        }
        _ => false,
    })
}

fn cidr(text: &str) -> Result<(IpAddr, u8), String> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= longest).then_some((address, prefix))
    });
    parsed.ok_or_else(|| format!("invalid CIDR address: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn everything_goes_to_the_subnet_it_lies_in() {
        let made = pools(&Given {
            subnets: texts(&["10.0.0.0/24", "fd00::/64"]),
            ranges: texts(&["10.0.0.128/25"]),
            gateways: texts(&["fd00::1", "10.0.0.1"]),
            others: texts(&["a=10.0.0.5", "b=fd00::5"]),
        });
        let expected = json!([
            {
                "Subnet": "10.0.0.0/24", "IPRange": "10.0.0.128/25", "Gateway": "10.0.0.1",
                "AuxiliaryAddresses": { "a": "10.0.0.5" },
            },
            { "Subnet": "fd00::/64", "Gateway": "fd00::1", "AuxiliaryAddresses": { "b": "fd00::5" } },
        ]);
        assert_eq!(made.unwrap(), expected);
        assert_eq!(pools(&Given::default()).unwrap(), json!([]));
    }

    #[test]
    fn what_lies_nowhere_or_twice_is_refused() {
        let subnets = || texts(&["10.0.0.0/24", "10.1.0.0/24"]);
        for (given, text) in [
            (
                Given {
                    gateways: texts(&["10.0.0.1"]),
                    ..Given::default()
                },
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                Given {
                    subnets: subnets(),
                    gateways: texts(&["10.2.0.1"]),
                    ..Given::default()
                },
                "no matching subnet for gateway 10.2.0.1",
            ),
            (
                Given {
                    subnets: subnets(),
                    ranges: texts(&["zz"]),
                    ..Given::default()
                },
                "invalid CIDR address: zz",
            ),
            (
                Given {
                    subnets: subnets(),
                    gateways: texts(&["10.0.0.1", "10.0.0.2"]),
                    ..Given::default()
                },
                "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/24)",
            ),
            (
                Given {
                    subnets: texts(&["10.0.0.0/24", "10.0.0.0/25"]),
                    ..Given::default()
                },
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                Given {
                    subnets: texts(&["zz", "yy"]),
                    ..Given::default()
                },
                "invalid subnet: invalid CIDR address: yy",
            ),
        ] {
            assert_eq!(pools(&given).unwrap_err(), text);
        }
    }

    #[test]
    fn prefixes_are_compared_to_their_last_bit() {
        assert!(holds("0.0.0.0/0", "255.1.2.3").unwrap());
        assert!(holds("10.0.0.0/32", "10.0.0.0").unwrap());
        assert!(!holds("10.0.0.0/32", "10.0.0.1").unwrap());
        assert!(holds("::/0", "fd00::1").unwrap());
        assert!(!holds("fd00::/128", "fd00::1").unwrap());
        assert!(!holds("10.0.0.0/8", "fd00::1").unwrap());
    }
}
