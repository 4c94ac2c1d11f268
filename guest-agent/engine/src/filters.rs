//! The `filters` parameter of list, prune and events.
//!
//! Both encodings of the wire are read: `{"label":{"k=v":true}}` (Docker's CLI, Compose) and
//! `{"label":["k=v"]}` (docker-py, dockerode). Values of one key are alternatives, but for
//! `label`, where all must match.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Most values of all keys together; a filter is not a place to send data.
const LIMIT: usize = 4096;

/// Decoded filters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Decodes the parameter; an absent or empty one filters nothing.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Result<Self> {
        let filters = Self::parse_any(text)?;
        match filters.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
            None => Ok(filters),
        }
    }

    /// The same without a look at the keys.
    pub fn parse_any(text: Option<&str>) -> Result<Self> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(Self::default());
        };
        let invalid = || Error::invalid("invalid filter");
        let value: serde_json::Value = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut filters = BTreeMap::new();
        let mut count = 0;
        for (key, values) in value.as_object().ok_or_else(invalid)? {
            let values: Vec<String> = match values {
                serde_json::Value::Array(list) => list
                    .iter()
                    .map(|value| value.as_str().map(str::to_owned).ok_or_else(invalid))
                    .collect::<Result<_>>()?,
                serde_json::Value::Object(set) => set
                    .iter()
                    .filter(|(_, on)| on.as_bool() == Some(true))
                    .map(|(value, _)| value.clone())
                    .collect(),
                _ => return Err(invalid()),
            };
            count += values.len();
            if count > LIMIT {
                return Err(Error::invalid("invalid filter: too many values"));
            }
            filters.insert(key.clone(), values);
        }
        Ok(Self(filters))
    }

    /// The values of `key`.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether `key` filters anything.
    pub fn has(&self, key: &str) -> bool {
        !self.values(key).is_empty()
    }

    /// True if `key` filters nothing or `matches` one of its values.
    pub fn any(&self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| matches(value))
    }

    /// True if `key` filters nothing or one of its values is `value`.
    pub fn exact(&self, key: &str, value: &str) -> bool {
        self.any(key, |wanted| wanted == value)
    }

    /// A boolean filter: `true`/`1`, `false`/`0`, or absent.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        let mut answer = None;
        for value in self.values(key) {
            let value_read = match value.as_str() {
                "1" | "true" | "True" | "TRUE" | "t" | "T" => true,
                "0" | "false" | "False" | "FALSE" | "f" | "F" => false,
                _ => {
                    let all = self.values(key).join(" ");
                    return Err(Error::invalid(format!("invalid filter '{key}=[{all}]'")));
                }
            };
            if answer.is_some_and(|known| known != value_read) {
                return Err(Error::invalid(format!("invalid filter '{key}'")));
            }
            answer = Some(value_read);
        }
        Ok(answer)
    }

    /// True if `labels` has all that `label` asks for and none of `label!`.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }
}

/// Reads an `until` filter: a point in time, or how long ago (`10m`, `1h30m`, `24h`).
pub fn until(text: &str) -> Result<Timestamp> {
    if let Some(time) = Timestamp::parse_parameter(text) {
        return Ok(time);
    }
    let nanoseconds = duration_ns(text)
        .ok_or_else(|| Error::invalid(format!("invalid filter 'until={text}'")))?;
    Ok(Timestamp::from_unix_ns(
        Timestamp::now().unix_ns().saturating_sub(nanoseconds),
    ))
}

/// A duration as Go writes it, `1h30m` or `1.5s`, in nanoseconds; none that is below zero.
pub(crate) fn duration_ns(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut nanoseconds: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let number = |c: char| c.is_ascii_digit() || c == '.';
        let (digits, tail) = rest.split_at(rest.find(|c| !number(c))?);
        let (unit, tail) = tail.split_at(tail.find(number).unwrap_or(tail.len()));
        let unit: i64 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole: i64 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        let mut part = whole.checked_mul(unit)?;
        let mut place = unit;
        for digit in fraction.bytes() {
            place /= 10;
            part = part.checked_add(place * i64::from(digit.checked_sub(b'0')?))?;
        }
        nanoseconds = nanoseconds.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(nanoseconds)
}

/// The one `until` of a prune, if there is one.
pub fn prune_until(filters: &Filters) -> Result<Option<Timestamp>> {
    match filters.values("until") {
        [] => Ok(None),
        [text] => until(text).map(Some).map_err(|_| {
            let text = format!("failed to parse value as time or duration: \"{text}\"");
            Error::invalid(text)
        }),
        _ => Err(Error::invalid("more than one until filter specified")),
    }
}

/// Whether `name` is matched by a `name` filter: a regular expression, searched anywhere in it.
/// What is no expression is compared as text.
pub fn name_matches(pattern: &str, name: &str) -> bool {
    regex_lite::Regex::new(pattern).map_or(pattern == name, |regex| regex.is_match(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["label", "label!", "name", "status", "dangling"];

    #[test]
    fn both_encodings_mean_the_same() {
        let new = Filters::parse(Some(r#"{"label":{"a=b":true,"c":false}}"#), KNOWN).unwrap();
        let old = Filters::parse(Some(r#"{"label":["a=b"]}"#), KNOWN).unwrap();
        assert_eq!(new, old);
    }

    #[test]
    fn errors_are_worded_as_docker_words_them() {
        for (text, message) in [
            ("xx", "invalid filter"),
            (r#"{"label":5}"#, "invalid filter"),
            (r#"{"bogus":["a"]}"#, "invalid filter 'bogus'"),
        ] {
            assert_eq!(
                Filters::parse(Some(text), KNOWN).unwrap_err().text(),
                message
            );
        }
    }

    #[test]
    fn all_labels_must_match() {
        let labels: BTreeMap<_, _> = [
            ("a".to_owned(), "b".to_owned()),
            ("c".to_owned(), String::new()),
        ]
        .into();
        let parse = |text| Filters::parse(Some(text), KNOWN).unwrap();
        assert!(parse(r#"{"label":["a=b","c"]}"#).labels(&labels));
        assert!(!parse(r#"{"label":["a=b","d"]}"#).labels(&labels));
        assert!(!parse(r#"{"label!":["a"]}"#).labels(&labels));
    }

    #[test]
    fn name_patterns() {
        for (pattern, name, expected) in [
            ("web", "my-web-1", true),
            ("^web$", "web", true),
            ("^/web$", "/web", true),
            ("^web$", "web1", false),
            ("^(a|b)$", "b", true),
            ("a.*z", "xaybz1", true),
            ("^a.*z$", "abz1", false),
        ] {
            assert_eq!(name_matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, nanoseconds) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("10us5ns", Some(10_005)),
            ("0", Some(0)),
            ("", None),
            ("5", None),
            ("5x", None),
            ("1.1.1s", None),
        ] {
            assert_eq!(duration_ns(text), nanoseconds, "{text}");
        }
    }
}
