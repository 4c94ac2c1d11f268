//! The networks of a container to be made: `--network`, and the flags that say how the first of them is joined.

use std::collections::BTreeMap;

use clap::ArgMatches;
use serde_json::{Map, Value, json};

use super::flags::{put, text, texts};
use super::values::go;
use crate::exit::CliError;

/// How one network is joined.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    network: String,
    aliases: Vec<String>,
    links: Vec<String>,
    ip: String,
    ip6: String,
    link_local: Vec<String>,
    mac: String,
    options: BTreeMap<String, String>,
    priority: i64,
}

impl Endpoint {
    /// As the flags of `network connect` have it.
    ///
    /// # Errors
    /// In docker's words.
    pub fn of_flags(arguments: &ArgMatches, priority: i64) -> Result<Self, CliError> {
        let mut endpoint = Self {
            aliases: texts(arguments, "alias"),
            links: links(arguments)?,
            ip: text(arguments, "ip").unwrap_or_default(),
            ip6: text(arguments, "ip6").unwrap_or_default(),
            link_local: texts(arguments, "link-local-ip"),
            priority,
            ..Self::default()
        };
        for option in texts(arguments, "driver-opt") {
            let pair = option
                .split_once('=')
                .ok_or_else(|| CliError::new("invalid key/value pair format in driver options"))?;
            endpoint
                .options
                .insert(pair.0.to_owned(), pair.1.to_owned());
        }
        Ok(endpoint)
    }

    /// Reads one `--network`: a name, or one CSV record of `key=value`.
    fn parse(value: &str) -> Result<Self, CliError> {
        let read = match is_record(value) {
            true => Self::of_fields(value),
            false => Ok(Self {
                network: value.to_owned(),
                ..Self::default()
            }),
        };
        read.map_err(|what| {
            CliError::usage(format!(
                "invalid argument {value:?} for \"--network\" flag: {what}"
            ))
        })
    }

    fn of_fields(record: &str) -> Result<Self, String> {
        let mut endpoint = Self::default();
        for field in go::fields(record)? {
            let lower = field.to_lowercase();
            let (key, given) = lower
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| format!("invalid field {field}"))?;
            let given = given.trim();
            match key.trim() {
                "name" => given.clone_into(&mut endpoint.network),
                "alias" => endpoint.aliases.push(given.to_owned()),
                "ip" => given.clone_into(&mut endpoint.ip),
                "ip6" => given.clone_into(&mut endpoint.ip6),
                "link-local-ip" => endpoint.link_local.push(given.to_owned()),
                "mac-address" => given.clone_into(&mut endpoint.mac),
                "driver-opt" => {
                    let (option, value) = given
                        .split_once('=')
                        .filter(|(option, _)| !option.is_empty())
                        .ok_or("invalid key value pair format in driver options")?;
                    let (option, value) = (option.trim().to_owned(), value.trim().to_owned());
                    endpoint.options.insert(option, value);
                }
                "gw-priority" => {
                    endpoint.priority = go::number(given)
                        .map_err(|why| format!("invalid gw-priority ({given}): {why}"))?;
                }
                other => return Err(format!("invalid field key {other}")),
            }
        }
        match endpoint.network.is_empty() {
            true => Err("network name/id is not specified".to_owned()),
            false => Ok(endpoint),
        }
    }

    /// Adds what flags of their own say of the first network.
    fn add_flags(&mut self, arguments: &ArgMatches) -> Result<(), CliError> {
        let clash = |flag: &str, what: &str| {
            CliError::usage(format!(
                "conflicting options: cannot specify both --{flag} and per-network {what}"
            ))
        };
        let aliases = texts(arguments, "network-alias");
        let links = links(arguments)?;
        let link_local = texts(arguments, "link-local-ip");
        for (flag, what, given, own) in [
            ("network-alias", "alias", &aliases, &mut self.aliases),
            ("link", "links", &links, &mut self.links),
            (
                "link-local-ip",
                "link-local IP addresses",
                &link_local,
                &mut self.link_local,
            ),
        ] {
            if !given.is_empty() && !own.is_empty() {
                return Err(clash(flag, what));
            }
            own.extend(given.iter().cloned());
        }
        for (flag, what, own) in [
            ("ip", "IPv4 address", &mut self.ip),
            ("ip6", "IPv6 address", &mut self.ip6),
            ("mac-address", "MAC address", &mut self.mac),
        ] {
            let given = text(arguments, flag).unwrap_or_default();
            if !given.is_empty() && !own.is_empty() {
                return Err(clash(flag, what));
            }
            own.push_str(&given);
        }
        // Of the default network a link is the container's own, in `HostConfig`.
        if !is_user_defined(&self.network) {
            self.links.clear();
        }
        Ok(())
    }

    fn check(&self) -> Result<(), CliError> {
        if self.network.trim().is_empty() {
            return Err(CliError::usage("no name set for network"));
        }
        if !is_user_defined(&self.network) && !self.aliases.is_empty() {
            return Err(CliError::usage(
                "network-scoped aliases are only supported for user-defined networks",
            ));
        }
        if !self.mac.is_empty() && !go::is_mac(self.mac.trim()) {
            let text = format!("{} is not a valid mac address", self.mac);
            return Err(CliError::usage(text));
        }
        Ok(())
    }

    /// As the API has it; nothing where nothing was said.
    pub fn to_value(&self) -> Value {
        let mut value = Map::new();
        let mut addresses = Map::new();
        for (field, address) in [("IPv4Address", &self.ip), ("IPv6Address", &self.ip6)] {
            if !address.is_empty() {
                addresses.insert(field.to_owned(), json!(address));
            }
        }
        if !self.link_local.is_empty() {
            addresses.insert("LinkLocalIPs".to_owned(), json!(self.link_local));
        }
        let fields = [
            ("IPAMConfig", !addresses.is_empty(), json!(addresses)),
            ("Aliases", !self.aliases.is_empty(), json!(self.aliases)),
            ("Links", !self.links.is_empty(), json!(self.links)),
            ("MacAddress", !self.mac.is_empty(), json!(self.mac)),
            ("DriverOpts", !self.options.is_empty(), json!(self.options)),
            ("GwPriority", self.priority != 0, json!(self.priority)),
        ];
        for (field, _, given) in fields.into_iter().filter(|(_, said, _)| *said) {
            value.insert(field.to_owned(), given);
        }
        Value::Object(value)
    }
}

/// Puts the networks of a container into the body that makes it.
///
/// # Errors
/// In docker's words.
pub fn fill(body: &mut Value, arguments: &ArgMatches) -> Result<(), CliError> {
    let mut all = Vec::new();
    for value in texts(arguments, "network") {
        all.push(Endpoint::parse(&value)?);
    }
    let links = links(arguments)?;
    if !links.is_empty() {
        put(body, "HostConfig.Links", json!(links));
    }
    if all.is_empty() {
        all.push(Endpoint {
            network: "default".to_owned(),
            ..Endpoint::default()
        });
    }
    if let Some(first) = all.first_mut() {
        first.add_flags(arguments)?;
        put(body, "HostConfig.NetworkMode", json!(first.network));
    }
    let mut endpoints = Map::new();
    for endpoint in &all {
        endpoint.check()?;
        let value = endpoint.to_value();
        if endpoints.insert(endpoint.network.clone(), value).is_some() {
            let text = format!("network {:?} is specified multiple times", endpoint.network);
            return Err(CliError::usage(text));
        }
    }
    let users = all
        .iter()
        .filter(|one| is_user_defined(&one.network))
        .count();
    if 0 < users && users < all.len() {
        return Err(CliError::usage(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ));
    }
    // A network that is joined as networks are needs no word beyond its name.
    let says = |value: &Value| value.as_object().is_some_and(|fields| !fields.is_empty());
    if endpoints.len() > 1 || endpoints.values().any(says) {
        put(
            body,
            "NetworkingConfig.EndpointsConfig",
            Value::Object(endpoints),
        );
    }
    Ok(())
}

/// The links of `--link`.
fn links(arguments: &ArgMatches) -> Result<Vec<String>, CliError> {
    let all = texts(arguments, "link");
    for link in &all {
        let what = match link.split(':').count() {
            _ if link.is_empty() => "empty string specified for links".to_owned(),
            1 | 2 => continue,
            _ => format!("bad format for links: {link}"),
        };
        return Err(CliError::usage(format!(
            "invalid argument {link:?} for \"--link\" flag: {what}"
        )));
    }
    Ok(all)
}

/// Whether a `--network` is a record, and not the name of a network.
fn is_record(value: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut threes = value.as_bytes().windows(3);
    threes.any(|three| matches!(three, [before, b'=', after] if is_word(before) && is_word(after)))
}

/// Whether a network is one that somebody made.
fn is_user_defined(network: &str) -> bool {
    !matches!(network, "" | "default" | "bridge" | "host" | "none")
        && !network.starts_with("container:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::flags::with_flags;
    use crate::docker::network_flags::NETWORKS;

    fn body(words: &[&str]) -> Result<Value, String> {
        let command = with_flags(clap::Command::new("run").no_binary_name(true), NETWORKS);
        let arguments = command.try_get_matches_from(words).unwrap();
        let mut body = json!({});
        match fill(&mut body, &arguments) {
            Ok(()) => Ok(body),
            Err(error) => Err(error.message),
        }
    }

    #[test]
    fn flags_say_how_the_first_network_is_joined_and_fields_how_the_others() {
        let made = body(&[
            "--network-alias=x",
            "--ip=10.0.0.4",
            "--link=a:b",
            "--mac-address=02:00:00:00:00:01",
            "--network=n1",
            "--network=NAME=n2,alias=y,alias=z,ip6=fd00::2,driver-opt=a=b,gw-priority=3,link-local-ip=169.254.1.2",
        ])
        .unwrap();
        let expected = json!({
            "HostConfig": { "NetworkMode": "n1", "Links": ["a:b"] },
            "NetworkingConfig": { "EndpointsConfig": {
                "n1": {
                    "IPAMConfig": { "IPv4Address": "10.0.0.4" }, "Links": ["a:b"], "Aliases": ["x"],
                    "MacAddress": "02:00:00:00:00:01",
                },
                "n2": {
                    "IPAMConfig": { "IPv6Address": "fd00::2", "LinkLocalIPs": ["169.254.1.2"] },
                    "Aliases": ["y", "z"], "DriverOpts": { "a": "b" }, "GwPriority": 3,
                },
            } },
        });
        assert_eq!(made, expected);
    }

    #[test]
    fn without_anything_said_the_mode_is_all() {
        let mode = |name: &str| json!({ "HostConfig": { "NetworkMode": name } });
        assert_eq!(body(&[]).unwrap(), mode("default"));
        assert_eq!(body(&["--network=n"]).unwrap(), mode("n"));
        assert_eq!(
            body(&["--network=container:x"]).unwrap(),
            mode("container:x")
        );
        let linked = body(&["--link=a"]).unwrap();
        assert_eq!(
            linked,
            json!({ "HostConfig": { "NetworkMode": "default", "Links": ["a"] } })
        );
    }

    #[test]
    fn what_cannot_be_together_is_refused() {
        for (words, text) in [
            (
                &["--network=n", "--network=host"][..],
                "cannot attach both user-defined and non-user-defined",
            ),
            (
                &["--network=n", "--network=n"],
                "\"n\" is specified multiple times",
            ),
            (
                &["--network=name=n,ip=1.2.3.4", "--ip=1.2.3.4"],
                "both --ip and per-network IPv4 address",
            ),
            (
                &["--network-alias=x"],
                "only supported for user-defined networks",
            ),
            (&["--mac-address=zz"], "zz is not a valid mac address"),
            (&["--link=a:b:c"], "bad format for links: a:b:c"),
            (&["--network=name=n,foo=1"], "invalid field key foo"),
            (&["--network=alias=n"], "network name/id is not specified"),
            (&["--network="], "no name set for network"),
        ] {
            let error = body(words).unwrap_err();
            assert!(error.contains(text), "{words:?}: {error}");
        }
    }
}
