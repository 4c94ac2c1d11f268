//! What differs from run to run is replaced by a name before two answers are compared.

use std::collections::BTreeMap;

use serde_json::Value;

/// Replaces ids, digests, times and durations.
pub fn text(text: &str) -> String {
    let mut out = String::new();
    for line in ports_sorted(text) {
        // Older clients say the first when they were quick enough to wait already, and the second when a
        // request failed at create and not at start.
        if line.ends_with("error waiting for container: context canceled\"")
            || line.starts_with("See 'docker ")
        {
            continue;
        }
        // Of a port that is taken at both, either is named.
        let line = line.replace("Bind for 0.0.0.0:", "Bind for *:");
        let line = line.replace("Bind for :::", "Bind for *:");
        let line = without_owner(&line);
        let listed = endpoints_sorted(&line);
        let words: Vec<String> = listed.split(' ').map(word).collect();
        out.push_str(words.join(" ").trim_end());
        out.push('\n');
    }
    out
}

/// Ports that older clients list in the order of a Go map; the addresses of one port keep theirs.
fn ports_sorted(text: &str) -> Vec<&str> {
    fn port(line: &str) -> Option<&str> {
        let (port, _) = line.split_once(" -> ")?;
        let (number, protocol) = port.split_once('/')?;
        (number.parse::<u16>().is_ok() && ["tcp", "udp"].contains(&protocol)).then_some(port)
    }
    let mut lines: Vec<&str> = text.lines().collect();
    for listed in lines.chunk_by_mut(|one, next| port(one).is_some() == port(next).is_some()) {
        if listed.iter().all(|line| port(line).is_some()) {
            listed.sort_by_key(|line| port(line));
        }
    }
    lines
}

/// What only we say behind the words for a port that is taken: which container has it.
fn without_owner(line: &str) -> String {
    let Some((before, name)) = line.split_once(" by the container `") else {
        return line.to_owned();
    };
    let is_taken = ["port is already allocated", "address already in use"];
    match name.split_once('`') {
        Some((_, behind)) if is_taken.iter().any(|words| before.ends_with(words)) => {
            format!("{before}{behind}")
        }
        _ => line.to_owned(),
    }
}

/// Networks that a message lists in the order of a Go map.
fn endpoints_sorted(line: &str) -> String {
    let Some((before, list)) = line.split_once("multiple network endpoints: ") else {
        return line.to_owned();
    };
    let mut names: Vec<&str> = list.trim_end_matches('.').split(", ").collect();
    names.sort_unstable();
    format!("{before}multiple network endpoints: {}", names.join(", "))
}

fn word(word: &str) -> String {
    let parts: Vec<&str> = word.split(',').collect();
    if parts.len() > 1 && parts.iter().all(|part| part.contains('=')) {
        // Labels, which older clients join in the order of a Go map.
        let mut sorted: Vec<String> = parts.into_iter().map(plain).collect();
        sorted.sort();
        return sorted.join(",");
    }
    parts.into_iter().map(plain).collect::<Vec<_>>().join(",")
}

fn plain(word: &str) -> String {
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let bare = core.strip_prefix("sha256:").unwrap_or(core);
    let hex = bare.len() >= 12 && bare.bytes().all(|b| b.is_ascii_hexdigit());
    let port = core.strip_prefix("veth");
    let port = port.filter(|id| id.len() == 7 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    let time = core.len() >= 19 && core.as_bytes()[4] == b'-' && core.contains('T');
    if hex {
        word.replace(bare, "<id>")
    } else if let Some(id) = port {
        word.replace(id, "<id>")
    } else if time {
        word.replace(core, "<time>")
    } else {
        word.to_owned()
    }
}

/// Every field of a JSON value with its type and value, as far as that is not of the moment.
pub fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                flatten(&format!("{path}.{}", word(name)), field, found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), item, found);
            }
        }
        Value::String(text) => {
            found.insert(path.to_owned(), format!("{:?}", scalar(text)));
        }
        other => {
            found.insert(path.to_owned(), other.to_string());
        }
    }
}

/// A text without what is of the machine: where an engine keeps its things.
fn scalar(text: &str) -> String {
    if text.starts_with('/') && text.contains("/containers/") {
        let name = text.rsplit('/').next().unwrap_or_default();
        let name = match name.split_once('-') {
            Some((id, rest)) if id.len() == 64 => format!("<id>-{rest}"),
            _ => word(name),
        };
        return format!("<container>/{name}");
    }
    if text.starts_with('/') && (text.contains("/overlay2/") || text.contains("/layers/")) {
        return "<layers>".into();
    }
    if text.starts_with('/') && text.ends_with("/_data") {
        return "<volume>".into();
    }
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn ports_are_sorted_and_the_addresses_of_one_are_not() {
    let listed = "of p1\n80/tcp -> [::]:2\n80/tcp -> 0.0.0.0:1\n53/udp -> 0.0.0.0:3\nend";
    let sorted = "of p1\n53/udp -> 0.0.0.0:3\n80/tcp -> [::]:2\n80/tcp -> 0.0.0.0:1\nend\n";
    assert_eq!(text(listed), sorted);
}

#[test]
fn whose_a_port_is_is_ours_alone_to_say() {
    let bare = "Bind for 0.0.0.0:80 failed: port is already allocated";
    let ours = format!("{bare} by the container `q1`");
    assert_eq!(text(&ours), text(bare));
    assert_ne!(text("started by the container `q1`"), text("started"));
    let card = |id: &str| text(&format!("setting interface \"veth{id}\" MAC"));
    assert_eq!(card("739701d"), card("59c6d25"));
}
