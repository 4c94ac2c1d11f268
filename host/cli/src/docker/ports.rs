//! `--publish` and `--expose`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::flags::put;
use super::values::go;
use crate::exit::CliError;

/// Puts the ports into the request.
///
/// # Errors
/// In docker's words.
pub fn fill(body: &mut Value, publish: &[String], expose: &[String]) -> Result<(), CliError> {
    let mut exposed = Map::new();
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for text in publish {
        let ports = short_form(text).and_then(|text| published(&text));
        for (port, binding) in ports.map_err(CliError::usage)? {
            exposed.insert(port.clone(), json!({}));
            bindings.entry(port).or_default().push(binding);
        }
    }
    for text in expose {
        for port in exposed_by(text).map_err(CliError::usage)? {
            exposed.insert(port, json!({}));
        }
    }
    if !exposed.is_empty() {
        put(body, "ExposedPorts", Value::Object(exposed));
    }
    put(body, "HostConfig.PortBindings", json!(bindings));
    Ok(())
}

/// `target=80,published=8080,protocol=tcp` in the other form; docker knows no quotes here, and minds no other keys.
fn short_form(text: &str) -> Result<String, String> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=').filter(|(key, _)| !key.is_empty()) {
            Some(("target", value)) => target = value,
            Some(("published", value)) => published = value,
            Some(("protocol", value)) => protocol = value,
            Some(_) => {}
            None => {
                return Err(format!(
                    "invalid publish opts format (should be name=value but got '{field}')"
                ));
            }
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// Ports and protocol; neither where there are no ports.
fn with_protocol(text: &str) -> (&str, &str) {
    let mut parts = text.split('/');
    let ports = parts.next().unwrap_or_default();
    match (ports, parts.next()) {
        ("", _) => ("", ""),
        (_, None | Some("")) => (ports, "tcp"),
        (_, Some(protocol)) => (ports, protocol),
    }
}

/// `[[ip:][host]:]container[/protocol]`, with ranges of one length.
fn published(text: &str) -> Result<Vec<(String, Value)>, String> {
    let (rest, container) = text.rsplit_once(':').unwrap_or(("", text));
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (container, protocol) = with_protocol(container);
    let ip = go::host_address(address)?;
    if container.is_empty() {
        return Err(format!("No port specified: {text}<empty>"));
    }
    let (first, last) =
        go::port_range(container).map_err(|_| format!("Invalid containerPort: {container}"))?;
    let hosts = match host {
        "" => None,
        host => Some(go::port_range(host).map_err(|_| format!("Invalid hostPort: {host}"))?),
    };
    if let Some((start, end)) = hosts
        && first != last
        && end - start != last - first
    {
        return Err(format!(
            "Invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    let kind = protocol.to_ascii_lowercase();
    if !matches!(kind.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("Invalid proto: {protocol}"));
    }
    let bound = (first..=last).zip(0_u32..).map(|(port, n)| {
        let on = match hosts {
            None => String::new(),
            // Any one of the host's range will do.
            Some((start, end)) if first == last && start != end => format!("{start}-{end}"),
            Some((start, _)) => (u32::from(start) + n).to_string(),
        };
        (
            format!("{port}/{kind}"),
            json!({ "HostIp": ip, "HostPort": on }),
        )
    });
    Ok(bound.collect())
}

/// `port[-port][/protocol]`; the engine knows the protocols.
fn exposed_by(text: &str) -> Result<Vec<String>, String> {
    if text.contains(':') {
        return Err(format!("invalid port format for --expose: {text}"));
    }
    let (ports, protocol) = with_protocol(text);
    let (first, last) = go::port_range(ports)
        .map_err(|why| format!("invalid range format for --expose: {text}, error: {why}"))?;
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
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
        assert_eq!(binding("0:80")["80/tcp"][0]["HostPort"], "0");
        assert_eq!(binding("65535:65535")["65535/tcp"][0]["HostPort"], "65535");
    }

    #[test]
    fn the_long_form_is_the_short_one_in_other_words() {
        let bound = |port: &str| json!({ port: [{ "HostIp": "", "HostPort": "8080" }] });
        for (text, expected) in [
            ("target=80,published=8080,protocol=tcp", bound("80/tcp")),
            ("target=80,published=8080", bound("80/tcp")),
            (
                "mode=host,protocol=UDP,published=8080,target=80",
                bound("80/udp"),
            ),
            (
                "target=80,published=127.0.0.1:90",
                json!({ "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "90" }] }),
            ),
            (
                "target=80,published=0",
                json!({ "80/tcp": [{ "HostIp": "", "HostPort": "0" }] }),
            ),
        ] {
            assert_eq!(binding(text), expected, "{text}");
        }
        assert_eq!(
            binding("target=80-81,published=90-91")["81/tcp"][0]["HostPort"],
            "91"
        );
    }

    fn refusal(publish: &[&str], expose: &[&str]) -> String {
        let owned = |all: &[&str]| {
            all.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let mut body = json!({});
        fill(&mut body, &owned(publish), &owned(expose))
            .unwrap_err()
            .message
    }

    #[test]
    fn what_is_no_port_is_refused_in_dockers_words() {
        for (text, why) in [
            ("", "No port specified: <empty>"),
            ("1.2.3.4:80:", "No port specified: 1.2.3.4:80:<empty>"),
            ("x", "Invalid containerPort: x"),
            ("70000", "Invalid containerPort: 70000"),
            ("9-8:8", "Invalid hostPort: 9-8"),
            ("a.b:80", "Invalid hostPort: a.b"),
            (
                "1-2:3-5",
                "Invalid ranges specified for container and host Ports: 3-5 and 1-2",
            ),
            (
                "3:1-2",
                "Invalid ranges specified for container and host Ports: 1-2 and 3",
            ),
            ("80/icmp", "Invalid proto: icmp"),
            ("a.b:1:2", "Invalid ip address: a.b"),
            (
                "1:2:3:4",
                "Invalid ip address 1:2: address 1:2:: too many colons in address",
            ),
            ("published=8080", "No port specified: 8080:/tcp<empty>"),
            (
                "target=80,published",
                "invalid publish opts format (should be name=value but got 'published')",
            ),
        ] {
            assert_eq!(refusal(&[text], &[]), why, "{text}");
        }
        for (text, why) in [
            ("80:80", "invalid port format for --expose: 80:80"),
            (
                "/tcp",
                "invalid range format for --expose: /tcp, error: Empty string specified for ports.",
            ),
        ] {
            assert_eq!(refusal(&[], &[text]), why, "{text}");
        }
    }
}
