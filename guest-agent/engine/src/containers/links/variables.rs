//! The variables that a container has of one that it links to, as dockerd makes them.

use std::net::IpAddr;

use crate::model::Config;
use crate::ports::key;

/// What a link leads to.
pub(super) struct Linked<'a> {
    /// `/owner/alias`.
    pub(super) name: &'a str,
    pub(super) ip: Option<IpAddr>,
    pub(super) config: &'a Config,
}

type Port = (u16, String);

pub(super) fn variables(linked: &Linked<'_>) -> Vec<String> {
    let alias = linked.name.rsplit('/').next().unwrap_or_default();
    let alias = alias.to_uppercase().replace('-', "_");
    let ip = linked.ip.map(|ip| ip.to_string()).unwrap_or_default();
    let exposed = linked.config.exposed_ports.iter().flatten();
    let mut ports: Vec<Port> = exposed.map(|(port, _)| key(port)).collect();
    ports.sort_by_key(|(number, kind)| (kind != "tcp", kind.clone(), *number));
    let mut all = Vec::new();
    if let Some((number, kind)) = ports.first() {
        all.push(format!("{alias}_PORT={kind}://{ip}:{number}"));
    }
    let mut row: Option<(&Port, &Port)> = None;
    for port in &ports {
        one(&alias, &ip, port, &mut all);
        row = match row {
            Some((first, last)) if last.1 == port.1 && last.0.checked_add(1) == Some(port.0) => {
                Some((first, port))
            }
            other => {
                range(&alias, &ip, other, &mut all);
                Some((port, port))
            }
        };
    }
    range(&alias, &ip, row, &mut all);
    all.push(format!("{alias}_NAME={}", linked.name));
    for pair in linked.config.env.iter().flatten() {
        let Some((name, value)) = pair.split_once('=') else {
            continue;
        };
        // They are of its own image, and of no use to others.
        if !matches!(name, "HOME" | "PATH") {
            all.push(format!("{alias}_ENV_{name}={value}"));
        }
    }
    all
}

fn one(alias: &str, ip: &str, (number, kind): &Port, all: &mut Vec<String>) {
    let of = format!("{alias}_PORT_{number}_{}", kind.to_uppercase());
    all.push(format!("{of}={kind}://{ip}:{number}"));
    all.push(format!("{of}_ADDR={ip}"));
    all.push(format!("{of}_PORT={number}"));
    all.push(format!("{of}_PROTO={kind}"));
}

/// Ports in a row, behind all of them and the next one, as dockerd has them.
fn range(alias: &str, ip: &str, row: Option<(&Port, &Port)>, all: &mut Vec<String>) {
    let Some(((first, kind), (last, _))) = row.filter(|(first, last)| first != last) else {
        return;
    };
    let of = format!("{alias}_PORT_{first}_{}", kind.to_uppercase());
    all.push(format!("{of}_START={kind}://{ip}:{first}"));
    all.push(format!("{of}_PORT_START={first}"));
    all.push(format!("{of}_END={kind}://{ip}:{last}"));
    all.push(format!("{of}_PORT_END={last}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(ports: &str, env: &str) -> Vec<String> {
        let text = format!(r#"{{"ExposedPorts":{ports},"Env":{env}}}"#);
        let config: Config = serde_json::from_str(&text).unwrap();
        variables(&Linked {
            name: "/web/my-db",
            ip: "172.17.0.2".parse().ok(),
            config: &config,
        })
    }

    #[test]
    fn one_port_is_named_in_full() {
        assert_eq!(
            made(
                r#"{"5432/tcp":{}}"#,
                r#"["A=b=c","PATH=/x","HOME=/","EMPTY"]"#
            ),
            [
                "MY_DB_PORT=tcp://172.17.0.2:5432",
                "MY_DB_PORT_5432_TCP=tcp://172.17.0.2:5432",
                "MY_DB_PORT_5432_TCP_ADDR=172.17.0.2",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_5432_TCP_PROTO=tcp",
                "MY_DB_NAME=/web/my-db",
                "MY_DB_ENV_A=b=c",
            ]
        );
        assert_eq!(made("{}", "[]"), ["MY_DB_NAME=/web/my-db"]);
    }

    #[test]
    fn ports_in_a_row_are_a_range_behind_the_next_one() {
        let names = |ports: &[&str]| {
            let ports: Vec<String> = ports
                .iter()
                .map(|port| format!("\"{port}\":{{}}"))
                .collect();
            let made = made(&format!("{{{}}}", ports.join(",")), "[]").into_iter();
            let names =
                made.filter_map(|pair| pair.split_once('=').map(|(name, _)| name.to_owned()));
            let names = names.filter_map(|name| Some(name.strip_prefix("MY_DB_PORT_")?.to_owned()));
            let parts = |name: &String| name.ends_with("ADDR") || name.ends_with("PROTO");
            let whole = |name: &String| !parts(name) && name.matches("PORT").count() == 0;
            names.filter(whole).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names(&["1", "2", "4", "6", "7"]),
            "1_TCP 2_TCP 4_TCP 1_TCP_START 1_TCP_END 6_TCP 7_TCP 6_TCP_START 6_TCP_END"
        );
        assert_eq!(
            names(&["54/udp", "443", "53/udp"]),
            "443_TCP 53_UDP 54_UDP 53_UDP_START 53_UDP_END"
        );
        assert_eq!(names(&["65535"]), "65535_TCP");
    }
}
