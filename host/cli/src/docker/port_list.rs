//! The `PORTS` column: ranges folded as docker folds them.

use std::collections::BTreeMap;

use serde_json::Value;

/// One port of a container, as the list tells it.
struct Port {
    ip: String,
    private: u64,
    public: u64,
    kind: String,
}

/// All ports in one text.
pub fn shown(ports: &Value) -> String {
    let mut all: Vec<Port> = ports
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| Port {
            ip: port["IP"].as_str().unwrap_or_default().to_owned(),
            private: port["PrivatePort"].as_u64().unwrap_or(0),
            public: port["PublicPort"].as_u64().unwrap_or(0),
            kind: port["Type"].as_str().unwrap_or_default().to_owned(),
        })
        .collect();
    all.sort_by(|a, b| {
        (a.private, &a.ip, a.public, &a.kind).cmp(&(b.private, &b.ip, b.public, &b.kind))
    });
    let mut singles = Vec::new();
    // First and last of the range that is growing, by address and kind.
    let mut groups: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut folded = Vec::new();
    for port in &all {
        let mut key = port.kind.clone();
        if !port.ip.is_empty() {
            if port.public != port.private {
                let address = host(&port.ip, port.public);
                singles.push(format!("{address}->{}/{}", port.private, port.kind));
                continue;
            }
            key = format!("{}/{}", port.ip, port.kind);
        }
        match groups.get_mut(&key) {
            Some((_, last)) if port.private == *last + 1 => *last = port.private,
            Some((_, last)) if port.private == *last => {}
            Some(group) => {
                folded.push(range(&key, group.0, group.1));
                *group = (port.private, port.private);
            }
            None => {
                groups.insert(key, (port.private, port.private));
            }
        }
    }
    folded.extend(
        groups
            .iter()
            .map(|(key, (first, last))| range(key, *first, *last)),
    );
    folded.extend(singles);
    folded.join(", ")
}

fn host(ip: &str, port: u64) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

fn range(key: &str, first: u64, last: u64) -> String {
    let (ip, kind) = key.rsplit_once('/').unwrap_or(("", key));
    let ports = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    if ip.is_empty() {
        return format!("{ports}/{kind}");
    }
    let ip = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    format!("{ip}:{ports}->{ports}/{kind}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_folded() {
        let port = |ip: &str, private: u64, public: u64| json!({ "IP": ip, "PrivatePort": private, "PublicPort": public, "Type": "tcp" });
        let plain = |private: u64| json!({ "PrivatePort": private, "Type": "tcp" });
        for (ports, expected) in [
            (json!([]), ""),
            (
                json!([plain(80), plain(81), plain(443)]),
                "80-81/tcp, 443/tcp",
            ),
            (
                json!([port("0.0.0.0", 80, 32786), port("::", 80, 32786)]),
                "0.0.0.0:32786->80/tcp, [::]:32786->80/tcp",
            ),
            (
                json!([port("0.0.0.0", 80, 80), port("0.0.0.0", 81, 81)]),
                "0.0.0.0:80-81->80-81/tcp",
            ),
        ] {
            assert_eq!(shown(&ports), expected);
        }
    }
}
