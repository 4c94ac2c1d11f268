//! `port`: where a container's ports are on the host.

use std::cmp::Ordering;

use clap::{Arg, ArgMatches, Command};
use serde_json::Value;

use super::api::escape;
use super::flags::text;
use super::values::go;
use super::{Context, Verb};
use crate::exit::{CliError, Code};

fn command() -> Command {
    let port = Arg::new("port")
        .value_name("PRIVATE_PORT[/PROTO]")
        .help("Only this port of the container");
    Command::new("port")
        .about("List where the ports of a container are on the host")
        .arg(super::target("CONTAINER"))
        .arg(port)
}

/// The verb of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "port",
    command,
    run: |c, a| Box::pin(run(c, a)),
}];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let name = text(arguments, "target").unwrap_or_default();
    let path = format!("/containers/{}/json", escape(&name));
    let container = context.api.get(&path).await?;
    let ports = &container["NetworkSettings"]["Ports"];
    let mut lines = match text(arguments, "port") {
        Some(port) => of_one(ports, &port, &name).map_err(CliError::new)?,
        None => of_all(ports),
    };
    lines.sort_by(|a, b| by_numbers(a, b));
    for line in lines {
        context.printer.line(&line);
    }
    Ok(Code::OK)
}

/// Where one port is.
fn of_one(ports: &Value, port: &str, container: &str) -> Result<Vec<String>, String> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, ""));
    let protocol = match protocol {
        "" => "tcp",
        protocol => protocol,
    };
    go::port(number).map_err(|why| format!("invalid port ({number}): {why}"))?;
    let places = places(&ports[format!("{number}/{protocol}")]);
    match places.is_empty() {
        true => Err(format!("No public port '{port}' published for {container}")),
        false => Ok(places),
    }
}

fn of_all(ports: &Value) -> Vec<String> {
    let ports = ports.as_object().into_iter().flatten();
    let lines = ports.flat_map(|(port, bindings)| {
        let places = places(bindings).into_iter();
        places.map(move |place| format!("{port} -> {place}"))
    });
    lines.collect()
}

fn places(bindings: &Value) -> Vec<String> {
    let bindings = bindings.as_array().into_iter().flatten();
    let places = bindings.map(|binding| {
        let word = |name: &str| binding[name].as_str().unwrap_or_default();
        match word("HostIp") {
            ip if ip.contains(':') => format!("[{ip}]:{}", word("HostPort")),
            ip => format!("{ip}:{}", word("HostPort")),
        }
    });
    places.collect()
}

/// As people order texts with numbers in them: `80/tcp` comes before `443/tcp`.
fn by_numbers(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a, b) {
            ([x, ..], [y, ..]) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (first, rest_a) = number(a);
                let (second, rest_b) = number(b);
                let order = first.len().cmp(&second.len()).then(first.cmp(second));
                if order.is_ne() {
                    return order;
                }
                (a, b) = (rest_a, rest_b);
            }
            ([x, rest_a @ ..], [y, rest_b @ ..]) => {
                if x != y {
                    return x.cmp(y);
                }
                (a, b) = (rest_a, rest_b);
            }
            (a, b) => return a.len().cmp(&b.len()),
        }
    }
}

/// The digits at the beginning, without zeros before them, and the rest.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_shown_as_docker_shows_them() {
        let ports = json!({
            "443/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "8443" }],
            "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }, { "HostIp": "::", "HostPort": "8080" }],
            "53/udp": null,
        });
        let mut all = of_all(&ports);
        all.sort_by(|a, b| by_numbers(a, b));
        let expected = [
            "80/tcp -> 0.0.0.0:8080",
            "80/tcp -> [::]:8080",
            "443/tcp -> 127.0.0.1:8443",
        ];
        assert_eq!(all, expected);
        let one = |port: &str| of_one(&ports, port, "web");
        for port in ["443", "443/tcp", "443/"] {
            assert_eq!(one(port).unwrap(), ["127.0.0.1:8443"], "{port}");
        }
        for (port, text) in [
            ("53/udp", "No public port '53/udp' published for web"),
            ("99999", "value out of range"),
            ("x", "invalid port (x)"),
        ] {
            assert!(one(port).unwrap_err().contains(text), "{port}");
        }
    }
}
