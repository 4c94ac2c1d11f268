//! What differs from run to run is replaced by a name before two answers are compared.

/// Replaces ids, digests, times and durations.
pub fn text(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let words: Vec<String> = line.split(' ').map(word).collect();
        out.push_str(words.join(" ").trim_end());
        out.push('\n');
    }
    out
}

fn word(word: &str) -> String {
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let bare = core.strip_prefix("sha256:").unwrap_or(core);
    let hex = bare.len() >= 12 && bare.bytes().all(|b| b.is_ascii_hexdigit());
    let time = core.len() >= 19 && core.as_bytes()[4] == b'-' && core.contains('T');
    if hex {
        word.replace(bare, "<id>")
    } else if time {
        word.replace(core, "<time>")
    } else {
        word.to_owned()
    }
}

/// The paths of all fields of a JSON value, arrays by their first element: its shape.
pub fn shape(value: &serde_json::Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", value, &mut found);
    found.sort();
    found
}

fn walk(path: &str, value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                found.push(path.clone());
                walk(&path, field, found);
            }
        }
        serde_json::Value::Array(items) => {
            if let Some(first) = items.first() {
                walk(&format!("{path}[]"), first, found);
            }
        }
        _ => {}
    }
}
