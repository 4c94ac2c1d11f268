//! What templates can call, and how values look.

use std::cmp::Ordering;

use serde_json::Value;

use super::printf::printf;

/// All functions.
pub const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// Calls a function.
pub fn apply(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |at: usize| arguments.get(at).map(shown).unwrap_or_default();
    let least = |count: usize| match arguments.len() >= count {
        true => Ok(()),
        false => Err(format!(
            "wrong number of args for {name}: want {count} got {}",
            arguments.len()
        )),
    };
    least(match name {
        "print" | "println" => 0,
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "join" | "split" | "truncate" => 2,
        "pad" => 3,
        _ => 1,
    })?;
    let first = arguments.first().unwrap_or(&Value::Null);
    Ok(match name {
        "json" => Value::String(first.to_string()),
        "print" => Value::String(spaced(arguments)),
        "println" => {
            let words: Vec<String> = arguments.iter().map(shown).collect();
            Value::String(format!("{}\n", words.join(" ")))
        }
        "printf" => Value::String(printf(&text(0), &arguments[1..])),
        "upper" => Value::String(text(0).to_uppercase()),
        "lower" => Value::String(text(0).to_lowercase()),
        "title" => Value::String(title(&text(0))),
        "truncate" => Value::String(text(0).chars().take(count(arguments, 1)?).collect()),
        "pad" => Value::String(match text(0) {
            empty if empty.is_empty() => empty,
            text => {
                let spaces = |at| Ok::<_, String>(" ".repeat(count(arguments, at)?));
                format!("{}{text}{}", spaces(1)?, spaces(2)?)
            }
        }),
        "split" => text(0).split(&text(1)).map(Value::from).collect(),
        "join" => join(first, &text(1)),
        "len" => Value::from(match first {
            Value::Array(items) => items.len(),
            Value::Object(map) => map.len(),
            Value::String(text) => text.len(),
            other => return Err(format!("len of {}", shown(other))),
        }),
        "index" => arguments[1..].iter().try_fold(first.clone(), index)?,
        "slice" => slice(arguments)?,
        "eq" => Value::Bool(arguments[1..].iter().any(|other| other == first)),
        "ne" => Value::Bool(*first != arguments[1]),
        "lt" => Value::Bool(compare(arguments)? == Ordering::Less),
        "le" => Value::Bool(compare(arguments)? != Ordering::Greater),
        "gt" => Value::Bool(compare(arguments)? == Ordering::Greater),
        "ge" => Value::Bool(compare(arguments)? != Ordering::Less),
        "not" => Value::Bool(!truth(first)),
        _ => return Err(format!("function {name:?} not defined")),
    })
}

/// Most that a template may ask for by a number: no terminal is wider.
const MOST: u64 = 10_000;

fn count(arguments: &[Value], at: usize) -> Result<usize, String> {
    let number = arguments.get(at).and_then(Value::as_u64);
    let number = number.filter(|number| *number <= MOST);
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| "a count must be a whole number, and not a large one".to_owned())
}

/// Go puts spaces between operands of which neither is text.
fn spaced(arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut before: Option<&Value> = None;
    for value in arguments {
        if before.is_some_and(|before| !before.is_string() && !value.is_string()) {
            out.push(' ');
        }
        out.push_str(&shown(value));
        before = Some(value);
    }
    out
}

fn join(list: &Value, separator: &str) -> Value {
    match list {
        Value::Array(items) => {
            let parts: Vec<String> = items.iter().map(shown).collect();
            Value::String(parts.join(separator))
        }
        Value::Null => Value::String(String::new()),
        other => other.clone(),
    }
}

fn position(key: &Value, length: usize) -> Result<usize, String> {
    let at = key.as_u64().and_then(|at| usize::try_from(at).ok());
    at.filter(|at| *at <= length)
        .ok_or_else(|| format!("index out of range: {}", shown(key)))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that a fold wants")]
fn index(value: Value, key: &Value) -> Result<Value, String> {
    match &value {
        Value::Array(items) => items
            .get(position(key, items.len())?)
            .cloned()
            .ok_or_else(|| format!("index out of range: {}", shown(key))),
        Value::Object(map) => Ok(map.get(&shown(key)).cloned().unwrap_or_default()),
        Value::Null => Err("index of untyped nil".to_owned()),
        other => Err(format!("can't index item of {}", shown(other))),
    }
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let between = |length: usize| {
        let bound = |at: usize, otherwise: usize| match arguments.get(at) {
            Some(key) => position(key, length),
            None => Ok(otherwise),
        };
        let (from, to) = (bound(1, 0)?, bound(2, length)?);
        match from <= to {
            true => Ok(from..to),
            false => Err(format!("invalid slice index: {from} > {to}")),
        }
    };
    match &arguments[0] {
        Value::String(text) => {
            let part = text.get(between(text.len())?);
            let part = part.ok_or("a slice may not cut a character")?;
            Ok(Value::String(part.to_owned()))
        }
        Value::Array(items) => Ok(Value::Array(items[between(items.len())?].to_vec())),
        other => Err(format!("can't slice item of {}", shown(other))),
    }
}

fn compare(arguments: &[Value]) -> Result<Ordering, String> {
    match (&arguments[0], &arguments[1]) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            _ => Ok(a
                .as_f64()
                .unwrap_or_default()
                .total_cmp(&b.as_f64().unwrap_or_default())),
        },
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .flat_map(|c| {
            let upper = std::mem::replace(&mut start, c.is_whitespace());
            let letters: Vec<char> = match upper {
                true => c.to_uppercase().collect(),
                false => vec![c],
            };
            letters
        })
        .collect()
}

/// Whether a condition holds: everything but nothing, zero and what is empty.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value as Go prints it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let parts: Vec<_> = items.iter().map(shown).collect();
            format!("[{}]", parts.join(" "))
        }
        Value::Object(map) => {
            let mut parts: Vec<_> = map
                .iter()
                .map(|(k, v)| format!("{k}:{}", shown(v)))
                .collect();
            parts.sort();
            format!("map[{}]", parts.join(" "))
        }
        other => other.to_string(),
    }
}
