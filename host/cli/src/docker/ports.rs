//! `--publish` and `--expose`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::flags::put;
use crate::exit::CliError;

/// Puts the ports into the request.
pub fn fill(body: &mut Value, publish: &[String], expose: &[String]) -> Result<(), CliError> {
    let mut exposed = Map::new();
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for text in publish {
        let wrong = || {
            let container = text.rsplit(':').next().unwrap_or(text);
            let container = container.split('/').next().unwrap_or(container);
            CliError::usage(match range(container) {
                Some(_) => format!("Invalid hostPort or address: {text}"),
                None => format!("Invalid containerPort: {container}"),
            })
        };
        for (port, binding) in published(text).ok_or_else(wrong)? {
            exposed.insert(port.clone(), json!({}));
            bindings.entry(port).or_default().push(binding);
        }
    }
    for text in expose {
        let wrong = || CliError::usage(format!("invalid range format for --expose: {text}"));
        let (ports, protocol) = with_protocol(text).ok_or_else(wrong)?;
        for port in range(ports).ok_or_else(wrong)? {
            exposed.insert(format!("{port}/{protocol}"), json!({}));
        }
    }
    if !exposed.is_empty() {
        put(body, "ExposedPorts", Value::Object(exposed));
    }
    if !bindings.is_empty() {
        put(body, "HostConfig.PortBindings", json!(bindings));
    }
    Ok(())
}

fn with_protocol(text: &str) -> Option<(&str, String)> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    matches!(protocol.as_str(), "tcp" | "udp" | "sctp").then_some((ports, protocol))
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

/// `[[ip:][host]:]container[/protocol]`, with ranges of one length.
fn published(text: &str) -> Option<Vec<(String, Value)>> {
    let (address, protocol) = with_protocol(text)?;
    let (rest, container) = address.rsplit_once(':').unwrap_or(("", address));
    let (ip, host) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (ip, host) = rest.split_once(']')?;
            (ip, host.strip_prefix(':').unwrap_or(host))
        }
        None => rest.rsplit_once(':').unwrap_or(("", rest)),
    };
    if !ip.is_empty() {
        ip.parse::<std::net::IpAddr>().ok()?;
    }
    let container = range(container)?;
    let binding = |port: String| json!({ "HostIp": ip, "HostPort": port });
    if host.is_empty() {
        return Some(
            container
                .map(|p| (format!("{p}/{protocol}"), binding(String::new())))
                .collect(),
        );
    }
    let hosts = range(host)?;
    if container.len() == 1 && hosts.len() > 1 {
        // Any one of the host's range will do.
        let port = format!("{}/{protocol}", container.start());
        return Some(vec![(port, binding(host.to_owned()))]);
    }
    if container.len() != hosts.len() {
        return None;
    }
    let pairs = container.zip(hosts);
    Some(
        pairs
            .map(|(c, h)| (format!("{c}/{protocol}"), binding(h.to_string())))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(text: &str) -> Value {
        let mut body = json!({});
        fill(&mut body, &[text.to_owned()], &[]).unwrap();
        body["HostConfig"]["PortBindings"].clone()
    }

    #[test]
    fn all_forms_are_read() {
        for (text, expected) in [
            (
                "80",
                json!({ "80/tcp": [{ "HostIp": "", "HostPort": "" }] }),
            ),
            (
                "8080:80/udp",
                json!({ "80/udp": [{ "HostIp": "", "HostPort": "8080" }] }),
            ),
            (
                "127.0.0.1:8080:80",
                json!({ "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "8080" }] }),
            ),
            (
                "127.0.0.1::80",
                json!({ "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "" }] }),
            ),
            (
                "[::1]:1:80",
                json!({ "80/tcp": [{ "HostIp": "::1", "HostPort": "1" }] }),
            ),
            (
                "9000-9001:80",
                json!({ "80/tcp": [{ "HostIp": "", "HostPort": "9000-9001" }] }),
            ),
        ] {
            assert_eq!(binding(text), expected, "{text}");
        }
        assert_eq!(binding("9000-9001:80-81")["81/tcp"][0]["HostPort"], "9001");
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "", "x", "0", "70000", "1:2:3:4", "1-2:3-5", "80/icmp", "a.b:1:2",
        ] {
            let mut body = json!({});
            assert!(fill(&mut body, &[text.to_owned()], &[]).is_err(), "{text}");
        }
    }
}
