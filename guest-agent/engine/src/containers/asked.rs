//! What is asked of a container's place in a network, judged in dockerd's words.
//!
//! Called by create and connect, before anything is kept of it.

use std::net::IpAddr;

use super::mac;
use crate::model::EndpointSettings;
use crate::networks::{self, Network, joined};

/// What stands for an interface in the settings of an endpoint.
pub(super) const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// What was asked for, without what only a run can give.
pub(super) fn wanted(endpoint: &EndpointSettings) -> EndpointSettings {
    EndpointSettings {
        ipam_config: endpoint.ipam_config.clone(),
        links: endpoint.links.clone(),
        aliases: endpoint.aliases.clone(),
        mac_address: endpoint.mac_address.clone(),
        driver_opts: endpoint.driver_opts.clone(),
        gw_priority: endpoint.gw_priority,
        ..EndpointSettings::default()
    }
}

/// Judges the settings of a place, in dockerd's words.
pub(super) fn check(
    network: Option<&Network>,
    name: &str,
    endpoint: &EndpointSettings,
) -> Result<(), String> {
    let ipam = endpoint.ipam_config.clone().unwrap_or_default();
    let addresses = [&ipam.ipv4_address, &ipam.ipv6_address];
    let mut wrong: Vec<String> = Vec::new();
    if networks::is_builtin(name) {
        if addresses.iter().any(|ip| !ip.is_empty()) {
            wrong.push(
                "user specified IP address is supported on user defined networks only".into(),
            );
        }
        if endpoint
            .aliases
            .as_ref()
            .is_some_and(|list| !list.is_empty())
        {
            wrong
                .push("network-scoped aliases are only supported for user-defined networks".into());
        }
    }
    for (ip, v6) in addresses.into_iter().zip([false, true]) {
        let fits = |ip: IpAddr| ip.is_ipv6() == v6 && !ip.is_unspecified();
        if !ip.is_empty() && !ip.parse().is_ok_and(fits) {
            let family = if v6 { "IPv6" } else { "IPv4" };
            wrong.push(format!("invalid {family} address: {ip}"));
        }
    }
    for ip in ipam.link_local_ips.iter().flatten() {
        if !ip.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified()) {
            wrong.push(format!("invalid link-local IP address: {ip}"));
        }
    }
    if let Some(network) = network {
        let outside = addresses.into_iter().zip([false, true]);
        wrong.extend(outside.filter_map(|(ip, v6)| check_inside(network, ip, v6)));
    }
    if !endpoint.mac_address.is_empty() && mac::parse(&endpoint.mac_address).is_none() {
        return Err(format!("invalid MAC address {}", endpoint.mac_address));
    }
    let sysctls = endpoint.driver_opts.iter().flatten();
    let sysctls = sysctls.filter(|(key, _)| *key == SYSCTLS);
    wrong.extend(sysctls.flat_map(|(_, list)| list.split(',').filter_map(check_sysctl)));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("invalid endpoint settings:\n{}", joined(&wrong)))
}

fn check_inside(network: &Network, ip: &str, v6: bool) -> Option<String> {
    if ip.is_empty() {
        return None;
    }
    let named = network.named_subnets(v6);
    if named.is_empty() {
        let text = "user specified IP address is supported only when connecting to networks with \
                    user configured subnets";
        return Some(text.into());
    }
    let inside = |ip| named.iter().any(|subnet| subnet.contains(ip));
    (!ip.parse().is_ok_and(inside))
        .then(|| format!("no configured subnet or ip-range contain the IP address {ip}"))
}

fn check_sysctl(setting: &str) -> Option<String> {
    let parts: Vec<&str> = setting.splitn(5, '.').collect();
    let known = matches!(
        parts.as_slice(),
        [_, "ipv4" | "ipv6" | "mpls", _, "IFNAME" | "ifname", _]
    );
    (!known).then(|| {
        format!(
            "unrecognised network interface sysctl '{setting}'; represent 'net.X.Y.ethN.Z=V' as \
             'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
        )
    })
}
