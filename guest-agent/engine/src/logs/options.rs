//! Log options: `--log-opt` and the engine's `log-opts`.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::model::{Config, LogConfig};

/// What the options of a container's log come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Size at which a file is rotated.
    pub max_size: Option<u64>,
    /// Files kept, the current one included.
    pub max_files: u32,
    /// Encoded JSON object added to each entry, or empty.
    pub attrs: String,
}

impl LogOptions {
    /// Checks driver and options. `None` means nothing is logged.
    pub fn new(log: &LogConfig, config: &Config, container: &Identity<'_>) -> Result<Option<Self>> {
        match log.kind.as_str() {
            "none" => return Ok(None),
            "json-file" | "local" => {}
            "awslogs" | "fluentd" | "gcplogs" | "gelf" | "journald" | "splunk" | "syslog" => {
                return Err(Error::unsupported(format!(
                    "log driver '{}' is not supported: this engine has json-file, local and none",
                    log.kind
                )));
            }
            other => {
                return Err(Error::invalid(format!(
                    "error looking up logging plugin {other}: plugin \"{other}\" not found"
                )));
            }
        }
        let mut options = Self::defaults(&log.kind);
        for (key, value) in &log.config {
            options.set(&log.kind, key, value)?;
        }
        if options.max_files > 1 && options.max_size.is_none() {
            return Err(Error::invalid(
                "invalid logger options: max-file cannot be set without max-size",
            ));
        }
        options.attrs = attributes(log, config, container);
        Ok(Some(options))
    }

    fn defaults(driver: &str) -> Self {
        let local = driver == "local";
        Self {
            max_size: local.then_some(20 << 20),
            max_files: if local { 5 } else { 1 },
            attrs: String::new(),
        }
    }

    fn set(&mut self, driver: &str, key: &str, value: &str) -> Result<()> {
        match key {
            "max-size" => self.max_size = parse_size(value)?,
            "max-file" => {
                self.max_files =
                    value
                        .parse()
                        .ok()
                        .filter(|count| *count > 0)
                        .ok_or_else(|| {
                            Error::invalid(format!("invalid value for max-file: \"{value}\""))
                        })?;
            }
            "compress" if matches!(value, "true" | "false") => {}
            "mode" if matches!(value, "blocking" | "non-blocking") => {}
            "labels" | "labels-regex" | "env" | "env-regex" | "tag" | "max-buffer-size" => {}
            "compress" | "mode" => {
                return Err(Error::invalid(format!(
                    "invalid value for {key}: \"{value}\""
                )));
            }
            _ => {
                return Err(Error::invalid(format!(
                    "unknown log opt '{key}' for {driver} log driver"
                )));
            }
        }
        Ok(())
    }

    /// Options that are accepted and have no effect yet, for the warnings of create.
    pub fn without_effect(log: &LogConfig) -> Vec<String> {
        let idle = |(key, value): (&String, &String)| match (key.as_str(), value.as_str()) {
            ("compress", "true") => Some("compress: rotated log files stay uncompressed"),
            ("mode", "non-blocking") => Some("mode: logs are always written in blocking mode"),
            ("labels-regex" | "env-regex" | "tag", _) => Some("labels-regex, env-regex and tag"),
            _ => None,
        };
        let texts = log.config.iter().filter_map(idle);
        texts
            .map(|text| format!("log option without effect: {text}"))
            .collect()
    }
}

/// Who the log belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The container's labels.
    pub labels: &'a BTreeMap<String, String>,
}

fn attributes(log: &LogConfig, config: &Config, container: &Identity<'_>) -> String {
    let names = |key: &str| {
        let list = log.config.get(key).map_or("", String::as_str);
        list.split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .collect::<Vec<_>>()
    };
    let mut attributes = BTreeMap::new();
    for name in names("labels") {
        if let Some(value) = container.labels.get(name) {
            attributes.insert(name.to_owned(), value.clone());
        }
    }
    for name in names("env") {
        let prefix = format!("{name}=");
        let value = config
            .env
            .iter()
            .flatten()
            .find_map(|pair| pair.strip_prefix(&prefix));
        if let Some(value) = value {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    }
    if attributes.is_empty() {
        return String::new();
    }
    serde_json::to_string(&attributes).unwrap_or_default()
}

/// `10m`, `512k`, `1g`, plain bytes; -1 for no limit.
fn parse_size(text: &str) -> Result<Option<u64>> {
    let invalid = || Error::invalid(format!("invalid value for max-size: \"{text}\""));
    if text == "-1" {
        return Ok(None);
    }
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, shift) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 10),
        Some(b'm') => (&lower[..lower.len() - 1], 20),
        Some(b'g') => (&lower[..lower.len() - 1], 30),
        _ => (lower, 0),
    };
    let number: u64 = digits.trim().parse().map_err(|_| invalid())?;
    number
        .checked_mul(1 << shift)
        .filter(|size| *size > 0)
        .map(Some)
        .ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kind: &str, pairs: &[(&str, &str)]) -> Result<Option<LogOptions>> {
        let config = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let log = LogConfig {
            kind: kind.into(),
            config,
        };
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let env = Config {
            env: Some(vec!["X=1".into()]),
            ..Config::default()
        };
        LogOptions::new(&log, &env, &Identity { labels: &labels })
    }

    #[test]
    fn sizes_files_and_attributes() {
        let pairs = [
            ("max-size", "10m"),
            ("max-file", "3"),
            ("labels", "a,z"),
            ("env", "X"),
        ];
        let read = options("json-file", &pairs).unwrap().unwrap();
        assert_eq!((read.max_size, read.max_files), (Some(10 << 20), 3));
        assert_eq!(read.attrs, r#"{"X":"1","a":"b"}"#);
        assert_eq!(options("none", &[]).unwrap(), None);
        assert_eq!(options("local", &[]).unwrap().unwrap().max_files, 5);
    }

    #[test]
    fn wrong_options_are_named() {
        for (kind, pairs, text) in [
            (
                "json-file",
                &[("max-file", "2")][..],
                "max-file cannot be set without max-size",
            ),
            (
                "json-file",
                &[("bogus", "1")],
                "unknown log opt 'bogus' for json-file log driver",
            ),
            (
                "json-file",
                &[("max-size", "ten")],
                "invalid value for max-size",
            ),
            ("nope", &[], "plugin \"nope\" not found"),
            ("syslog", &[], "log driver 'syslog' is not supported"),
        ] {
            let error = options(kind, pairs).unwrap_err().text();
            assert!(error.contains(text), "{error}");
        }
    }
}
