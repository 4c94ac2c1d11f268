//! What a request asks to be published: its form, and what of it comes about.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lighter_network::ports::Transport;

use crate::error::{Error, Result};
use crate::model::{Config, HostConfig, PortBinding};

/// Where ports come from that nobody chose; dockerd takes the kernel's.
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

/// One port to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub port: u16,
    pub transport: Transport,
    pub addresses: Vec<IpAddr>,
    pub first: u16,
    pub last: u16,
}

impl Wanted {
    /// Whether one port of the host is to be had for both: whoever resolves the host's name finds it at every address.
    /// Those of which one is at the other's address too cannot have one.
    fn has_port_of(&self, other: &Self) -> bool {
        let of = |one: &Self| (one.port, one.transport, one.first, one.last);
        let meets = |ip: &IpAddr| {
            let mut others = other.addresses.iter();
            others.any(|other| {
                let any = ip.is_unspecified() || other.is_unspecified();
                ip == other || any && ip.is_ipv4() == other.is_ipv4()
            })
        };
        of(self) == of(other) && !self.addresses.iter().any(meets)
    }
}

/// Refuses what is no port, as create does.
pub(crate) fn check(host_config: &HostConfig) -> Result<()> {
    let wrong = |text: &str| Error::invalid(format!("invalid port specification: \"{text}\""));
    for (key, bindings) in host_config.port_bindings.iter().flatten() {
        let (port, _) = key.split_once('/').unwrap_or((key, ""));
        let bindings = bindings.iter().flatten();
        for binding in bindings {
            if !port.is_empty() && number(port).is_none() {
                return Err(wrong(port));
            }
            if !binding.host_port.is_empty() && range(&binding.host_port).is_none() {
                return Err(wrong(&binding.host_port));
            }
        }
    }
    Ok(())
}

/// A port's number and protocol out of the key of a map; the protocol as it is shown. What is no number is 0.
#[must_use]
pub fn key(key: &str) -> (u16, String) {
    let (port, kind) = key.split_once('/').unwrap_or((key, ""));
    let kind = match kind {
        "" => "tcp".to_owned(),
        kind => kind.to_ascii_lowercase(),
    };
    (number(port).unwrap_or(0), kind)
}

/// The ports of a container, in the order in which they get theirs on the host: those that can have only one first.
/// `default` is the address of those that say none, and `has_v4` whether the container is reached by IPv4.
///
/// # Errors
/// A protocol that cannot be carried.
pub(crate) fn wanted(
    config: &Config,
    host_config: &HostConfig,
    default: Option<IpAddr>,
    has_v4: bool,
) -> Result<Vec<Wanted>> {
    let none = BTreeMap::new();
    let bindings = host_config.port_bindings.as_ref().unwrap_or(&none);
    let mut all: Vec<Wanted> = Vec::new();
    // What is bound and not exposed is not published: clients say both.
    for text in config.exposed_ports.iter().flatten().map(|(text, _)| text) {
        let (port, kind) = key(text);
        let own = bindings
            .get(text)
            .and_then(Option::as_deref)
            .unwrap_or_default();
        let any = PortBinding::default();
        let own = match own {
            [] if host_config.publish_all_ports => std::slice::from_ref(&any),
            own => own,
        };
        for binding in own {
            let transport = match kind.as_str() {
                "tcp" => Transport::Tcp,
                "udp" => Transport::Udp,
                "sctp" => {
                    return Err(Error::unsupported(
                        "ports of sctp are not supported by this engine",
                    ));
                }
                _ => return Err(Error::new(crate::error::Kind::Internal, "unknown protocol")),
            };
            let (first, last) = match range(&binding.host_port) {
                None | Some((0, 0)) => EPHEMERAL,
                Some(range) => range,
            };
            let one = Wanted {
                port,
                transport,
                addresses: addresses(&binding.host_ip, default, has_v4),
                first,
                last,
            };
            match all.iter_mut().find(|other| one.has_port_of(other)) {
                Some(other) => {
                    other.addresses.extend(one.addresses);
                    other.addresses.sort_unstable();
                }
                None => all.push(one),
            }
        }
    }
    let freedom = |wanted: &Wanted| match (wanted.first, wanted.last) {
        EPHEMERAL => 2,
        (first, last) => u8::from(first != last),
    };
    all.sort_by_key(|wanted| (freedom(wanted), wanted.port, wanted.transport));
    Ok(all)
}

/// The host's addresses that are meant; dockerd takes what is no address for none, and an IPv4 address that is written
/// as IPv6 for what it is.
fn addresses(text: &str, default: Option<IpAddr>, has_v4: bool) -> Vec<IpAddr> {
    let said = text.parse().ok().or(default);
    match said.map(|ip: IpAddr| ip.to_canonical()) {
        Some(one) => vec![one],
        None if has_v4 => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        None => vec![Ipv6Addr::UNSPECIFIED.into()],
    }
}

/// Digits alone: others read `+80` as something else.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// `80` or `80-90`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(exposed: &str, bindings: &str, all: bool) -> (Config, HostConfig) {
        let config = format!(r#"{{"ExposedPorts":{exposed}}}"#);
        let host = format!(r#"{{"PortBindings":{bindings},"PublishAllPorts":{all}}}"#);
        (
            serde_json::from_str(&config).unwrap(),
            serde_json::from_str(&host).unwrap(),
        )
    }

    fn of(exposed: &str, bindings: &str, all: bool) -> Vec<String> {
        let (config, host) = asked(exposed, bindings, all);
        shown(&wanted(&config, &host, None, true).unwrap())
    }

    fn shown(wanted: &[Wanted]) -> Vec<String> {
        let shown = wanted.iter().map(|one| {
            let addresses: Vec<String> = one.addresses.iter().map(ToString::to_string).collect();
            let (first, last, port) = (one.first, one.last, one.port);
            format!(
                "{}:{first}-{last}>{port}/{:?}",
                addresses.join(","),
                one.transport
            )
        });
        shown.collect()
    }

    #[test]
    fn what_is_exposed_and_bound_is_wanted() {
        let bound =
            r#"{"80/tcp":[{"HostPort":"8080"},{"HostIp":"::1","HostPort":"0"}],"81/tcp":[{}]}"#;
        assert_eq!(
            of(r#"{"80/tcp":{},"53/udp":{}}"#, bound, false),
            [
                "0.0.0.0,::".to_owned() + ":8080-8080>80/Tcp",
                "::1:32768-60999>80/Tcp".into()
            ]
        );
        assert_eq!(of(r#"{"80/tcp":{}}"#, r#"{"80/tcp":null}"#, false), [""; 0]);
        let all = of(r#"{"80":{},"9/tcp":{},"53/UDP":{}}"#, "{}", true);
        assert_eq!(
            all,
            [
                "0.0.0.0,:::32768-60999>9/Tcp",
                "0.0.0.0,:::32768-60999>53/Udp",
                "0.0.0.0,:::32768-60999>80/Tcp"
            ]
        );
    }

    #[test]
    fn those_that_can_have_only_one_come_first() {
        let bound = r#"{"1/tcp":[{}],"2/tcp":[{"HostPort":"5-9"}],"3/tcp":[{"HostPort":"7"}]}"#;
        let order = of(r#"{"1/tcp":{},"2/tcp":{},"3/tcp":{}}"#, bound, false);
        assert!(order[0].ends_with(":7-7>3/Tcp"), "{order:?}");
        assert!(order[1].ends_with(":5-9>2/Tcp"), "{order:?}");
    }

    #[test]
    fn what_differs_in_the_hosts_address_alone_has_one_port() {
        let one = |bindings: &str| {
            let bindings = format!(r#"{{"80/tcp":{bindings}}}"#);
            of(r#"{"80/tcp":{}}"#, &bindings, false)
        };
        assert_eq!(
            one(r#"[{"HostIp":"::1"},{"HostIp":"127.0.0.1"}]"#),
            ["127.0.0.1,::1:32768-60999>80/Tcp"]
        );
        assert_eq!(
            one(
                r#"[{"HostIp":"127.0.0.1","HostPort":"8-9"},{"HostIp":"::1","HostPort":"8-9"},{"HostIp":"::1","HostPort":"8-10"}]"#
            ),
            ["127.0.0.1,::1:8-9>80/Tcp", "::1:8-10>80/Tcp"]
        );
        // What one port cannot be for has one each.
        assert_eq!(
            one(r#"[{"HostIp":"127.0.0.1"},{"HostIp":"127.0.0.1"},{"HostIp":"0.0.0.0"}]"#),
            [
                "127.0.0.1:32768-60999>80/Tcp",
                "127.0.0.1:32768-60999>80/Tcp",
                "0.0.0.0:32768-60999>80/Tcp"
            ]
        );
        let of_two = of(
            r#"{"80/tcp":{},"80/udp":{}}"#,
            r#"{"80/tcp":[{"HostIp":"127.0.0.1"}],"80/udp":[{"HostIp":"::1"}]}"#,
            false,
        );
        assert_eq!(of_two.len(), 2);
    }

    #[test]
    fn without_ipv4_of_its_own_all_addresses_are_those_of_ipv6() {
        let (config, host) = asked(
            r#"{"80/tcp":{}}"#,
            r#"{"80/tcp":[{"HostPort":"1"},{"HostIp":"127.0.0.1","HostPort":"2"}]}"#,
            false,
        );
        let wanted = |default| wanted(&config, &host, default, false).unwrap();
        assert_eq!(
            shown(&wanted(None)),
            [":::1-1>80/Tcp", "127.0.0.1:2-2>80/Tcp"]
        );
        let default = Some(Ipv4Addr::new(127, 0, 0, 9).into());
        assert_eq!(shown(&wanted(default))[0], "127.0.0.9:1-1>80/Tcp");
    }

    #[test]
    fn an_ipv4_address_written_as_ipv6_is_one_of_ipv4() {
        let (config, host) = asked(
            r#"{"80/tcp":{}}"#,
            r#"{"80/tcp":[{"HostIp":"::ffff:127.0.0.1","HostPort":"1"},{"HostPort":"2"}]}"#,
            false,
        );
        let default = Some("::ffff:127.0.0.9".parse().unwrap());
        assert_eq!(
            shown(&wanted(&config, &host, default, true).unwrap()),
            ["127.0.0.1:1-1>80/Tcp", "127.0.0.9:2-2>80/Tcp"]
        );
    }

    #[test]
    fn the_default_address_is_for_those_that_say_none() {
        let (config, host) = asked(
            r#"{"80/tcp":{}}"#,
            r#"{"80/tcp":[{"HostPort":"1"},{"HostIp":"0.0.0.0","HostPort":"2"},{"HostIp":"x.y","HostPort":"3"}]}"#,
            false,
        );
        let wanted = wanted(&config, &host, Some(Ipv4Addr::LOCALHOST.into()), true).unwrap();
        let first = |n: usize| wanted[n].addresses[0].to_string();
        assert_eq!(
            [first(0), first(1), first(2)],
            ["127.0.0.1", "0.0.0.0", "127.0.0.1"]
        );
    }

    #[test]
    fn what_is_no_port_is_refused() {
        let says = |bindings: &str| {
            let (_, host) = asked("{}", bindings, false);
            check(&host)
                .map_err(|error| error.text())
                .err()
                .unwrap_or_default()
        };
        let wrong = |text: &str| format!("invalid port specification: \"{text}\"");
        assert_eq!(says(r#"{"80/tcp":[{"HostPort":"abc"}]}"#), wrong("abc"));
        assert_eq!(says(r#"{"80/tcp":[{"HostPort":"70000"}]}"#), wrong("70000"));
        assert_eq!(says(r#"{"80/tcp":[{"HostPort":"9-8"}]}"#), wrong("9-8"));
        assert_eq!(says(r#"{"80/tcp":[{"HostPort":"+9"}]}"#), wrong("+9"));
        assert_eq!(says(r#"{"80-81/tcp":[{"HostPort":"9"}]}"#), wrong("80-81"));
        assert_eq!(says(r#"{"x":[{"HostPort":"80"}]}"#), wrong("x"));
        assert_eq!(says(r#"{"x":null}"#), "");
        assert_eq!(says(r#"{"/tcp":[{}]}"#), "");
        assert_eq!(says(r#"{"80/tcp":[{"HostPort":"9-12"}]}"#), "");
    }
}
