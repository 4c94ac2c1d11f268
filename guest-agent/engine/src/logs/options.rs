//! Log options: `--log-opt` and the engine's `log-opts`.

use std::collections::BTreeMap;

use super::{Format, Shape, tag};
use crate::error::{Error, Result};
use crate::model::LogConfig;

/// What the options of a container's log come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Form and files of the log.
    pub shape: Shape,
    /// Encoded JSON object added to each entry, or empty.
    pub attrs: String,
    /// Bytes that may wait for the log, if the container does not wait for it.
    pub buffer: Option<usize>,
}

/// What may wait where the options do not say; dockerd's.
const BUFFER: usize = 1_000_000;

/// Options of both drivers.
const SIZES: &[&str] = &["max-size", "max-file", "compress"];
/// Options of json-file alone.
const ATTRIBUTES: &[&str] = &["labels", "labels-regex", "env", "env-regex", "tag"];

impl LogOptions {
    /// What create refuses: drivers and options that do not exist. What is wrong with the values is
    /// said when the log is begun, as dockerd does.
    pub fn check(log: &LogConfig) -> Result<()> {
        let attributes: &[&str] = match log.kind.as_str() {
            "none" if log.config.is_empty() => return Ok(()),
            "none" => return Err(Error::invalid("invalid logging opts for driver none")),
            "json-file" => ATTRIBUTES,
            "local" => &[],
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
        };
        check_mode(log)?;
        for key in log.config.keys().map(String::as_str) {
            let known = SIZES.contains(&key)
                || attributes.contains(&key)
                || matches!(key, "mode" | "max-buffer-size");
            if !known {
                return Err(Error::invalid(if log.kind == "local" {
                    format!("unknown log opt '{key}' for log driver local")
                } else {
                    format!("unknown log opt '{key}' for json-file log driver")
                }));
            }
        }
        Ok(())
    }

    /// Reads the options. `None` means nothing is logged.
    pub fn new(log: &LogConfig, container: &Identity<'_>) -> Result<Option<Self>> {
        if log.kind == "none" {
            return Ok(None);
        }
        let read = || -> std::result::Result<Self, String> {
            Ok(Self {
                shape: shape(log)?,
                attrs: attributes(log, container)?,
                buffer: buffer(log)?,
            })
        };
        read().map(Some).map_err(|problem| {
            Error::invalid(format!(
                "failed to create task for container: failed to initialize logging driver: {problem}"
            ))
        })
    }
}

/// `mode` and `max-buffer-size`, which are every driver's.
fn check_mode(log: &LogConfig) -> Result<()> {
    let get = |key: &str| log.config.get(key).map_or("", String::as_str);
    let mode = get("mode");
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::invalid(format!(
            "logger: logging mode not supported: {mode}"
        )));
    }
    if !log.config.contains_key("max-buffer-size") {
        return Ok(());
    }
    if mode != "non-blocking" {
        return Err(Error::invalid(
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ));
    }
    size(get("max-buffer-size")).map(drop).map_err(|problem| {
        Error::invalid(format!("error parsing option max-buffer-size: {problem}"))
    })
}

/// How much may wait for the log, if something may.
fn buffer(log: &LogConfig) -> std::result::Result<Option<usize>, String> {
    let get = |key: &str| log.config.get(key).map(String::as_str);
    if get("mode") != Some("non-blocking") {
        return Ok(None);
    }
    let bytes = get("max-buffer-size").map(size).transpose()?;
    let bytes = bytes.map_or(BUFFER, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    Ok(Some(bytes))
}

/// Which files are kept, and how; the words are the drivers'.
fn shape(log: &LogConfig) -> std::result::Result<Shape, String> {
    let local = log.kind == "local";
    let get = |key: &str| log.config.get(key).map(String::as_str);
    let named = |key: &str, value: &str, problem: String| match local {
        true => format!("invalid value for {key}: {value}: {problem}"),
        false => problem,
    };
    let mut shape = Shape {
        format: if local { Format::Local } else { Format::Json },
        max_size: local.then_some(20 << 20),
        max_files: if local { 5 } else { 1 },
        compress: local,
    };
    if let Some(value) = get("max-size") {
        let kilo = if local { 1024 } else { 1000 };
        let bytes = units(value, kilo).map_err(|problem| named("max-size", value, problem))?;
        if bytes == 0 {
            let problem = "max-size must be a positive number".to_owned();
            return Err(match local {
                true => format!("max size must be a positive number: {value}"),
                false => problem,
            });
        }
        shape.max_size = Some(bytes);
    }
    if let Some(value) = get("max-file") {
        let count: i64 = value.parse().map_err(|_| {
            let problem = format!("strconv.Atoi: parsing {value:?}: invalid syntax");
            named("max-file", value, problem)
        })?;
        if count < 1 && !local {
            return Err("max-file cannot be less than 1".into());
        }
        shape.max_files = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    }
    if let Some(value) = get("compress") {
        shape.compress = boolean(value).ok_or_else(|| {
            let problem = format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
            match local {
                true => format!("error reading compress log option: {problem}"),
                false => problem,
            }
        })?;
    }
    match (shape.compress, shape.max_files < 2, shape.max_size) {
        (true, true, _) if local => {
            Err("compression cannot be enabled when max file count is 1".into())
        }
        (true, true, _) | (true, _, None) => Err(
            "compress cannot be true when max-file is less than 2 or max-size is not set".into(),
        ),
        _ => Ok(shape),
    }
}

/// Go's `ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Who the log belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The container's ID.
    pub id: &'a str,
    /// Its name, without a slash.
    pub name: &'a str,
    /// The image as it was asked for.
    pub image: &'a str,
    /// The image's ID.
    pub image_id: &'a str,
    /// The program and its arguments.
    pub command: &'a [String],
    /// The container's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its environment.
    pub env: &'a [String],
}

/// What `labels`, `env`, their expressions and `tag` choose.
fn attributes(log: &LogConfig, container: &Identity<'_>) -> std::result::Result<String, String> {
    let text = |key: &str| log.config.get(key).map_or("", String::as_str);
    let mut found = BTreeMap::new();
    let env = container.env.iter().filter_map(|pair| pair.split_once('='));
    let env: BTreeMap<&str, &str> = env.collect();
    let labels = container.labels.iter();
    let labels: BTreeMap<&str, &str> = labels.map(|(k, v)| (k.as_str(), v.as_str())).collect();
    for (key, all) in [("labels", &labels), ("env", &env)] {
        let names = text(key).split(',').map(str::trim);
        for (name, value) in names.filter_map(|name| all.get_key_value(name)) {
            found.insert((*name).to_owned(), (*value).to_owned());
        }
        let pattern = text(&format!("{key}-regex"));
        if pattern.is_empty() {
            continue;
        }
        let pattern = regex_lite::Regex::new(pattern)
            .map_err(|error| format!("error parsing regexp: {error}: `{pattern}`"))?;
        for (name, value) in all.iter().filter(|(name, _)| pattern.is_match(name)) {
            found.insert((*name).to_owned(), (*value).to_owned());
        }
    }
    if !text("tag").is_empty() {
        found.insert("tag".into(), tag::render(text("tag"), container)?);
    }
    if found.is_empty() {
        return Ok(String::new());
    }
    Ok(serde_json::to_string(&found).unwrap_or_default())
}

/// `10m`, `512k`, `1.5g`, plain bytes: powers of two.
fn size(text: &str) -> std::result::Result<u64, String> {
    units(text, 1024)
}

/// The same in powers of `kilo`; json-file counts by the thousand.
fn units(text: &str, kilo: u64) -> std::result::Result<u64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let lower = text.to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let power = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(invalid()),
    };
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let bytes = number * kilo.pow(power) as f64;
    if bytes.is_finite() && bytes < i64::MAX as f64 {
        Ok(bytes as u64)
    } else {
        Err(invalid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(kind: &str, pairs: &[(&str, &str)]) -> LogConfig {
        let pairs = pairs.iter();
        LogConfig {
            kind: kind.into(),
            config: pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn options(kind: &str, pairs: &[(&str, &str)]) -> Result<Option<LogOptions>> {
        let labels = [("a", "b"), ("ab", "c"), ("z", "y")];
        let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let identity = Identity {
            id: &"0123456789ab".repeat(5),
            name: "who",
            image: "image:1",
            image_id: "sha256:0123",
            command: &["sh".into(), "-c".into()],
            labels: &labels,
            env: &["X=1".into(), "XY=2=3".into(), "bare".into()],
        };
        LogOptions::check(&log(kind, pairs))?;
        LogOptions::new(&log(kind, pairs), &identity)
    }

    #[test]
    fn sizes_files_and_attributes() {
        let pairs = [
            ("max-size", "10m"),
            ("max-file", "3"),
            ("compress", "true"),
            ("labels", "a,q"),
            ("labels-regex", "^z"),
            ("env", "X"),
            ("env-regex", "Y$"),
            ("tag", "{{.Name}}/{{.ID}}"),
        ];
        let read = options("json-file", &pairs).unwrap().unwrap();
        let shape = Shape {
            format: Format::Json,
            max_size: Some(10_000_000),
            max_files: 3,
            compress: true,
        };
        assert_eq!(read.shape, shape);
        assert_eq!(
            read.attrs,
            r#"{"X":"1","XY":"2=3","a":"b","tag":"who/0123456789ab","z":"y"}"#
        );
        assert_eq!(options("none", &[]).unwrap(), None);
        let local = options("local", &[]).unwrap().unwrap();
        let shape = Shape {
            format: Format::Local,
            max_size: Some(20 << 20),
            max_files: 5,
            compress: true,
        };
        assert_eq!((local.shape, local.attrs.as_str()), (shape, ""));
        assert_eq!(local.buffer, None);
        for (pairs, bytes) in [
            (&[("mode", "non-blocking")][..], Some(BUFFER)),
            (&[("mode", "blocking")], None),
            (
                &[("mode", "non-blocking"), ("max-buffer-size", "4m")],
                Some(4 << 20),
            ),
        ] {
            let read = options("json-file", pairs).unwrap().unwrap();
            assert_eq!(read.buffer, bytes, "{pairs:?}");
        }
        for (text, bytes) in [("0", 0), ("10", 10), ("1.5k", 1536), ("2 MiB", 2 << 20)] {
            assert_eq!(size(text), Ok(bytes));
        }
    }

    /// Each as dockerd 28.5.2 said it.
    #[test]
    fn wrong_options_are_refused_in_dockers_words() {
        let begun = "failed to create task for container: failed to initialize logging driver: ";
        let compress =
            "compress cannot be true when max-file is less than 2 or max-size is not set";
        for (kind, pairs, text) in [
            (
                "json-file",
                &[("max-file", "0")][..],
                "max-file cannot be less than 1",
            ),
            ("json-file", &[("compress", "true")], compress),
            (
                "json-file",
                &[("compress", "true"), ("max-size", "1m")],
                compress,
            ),
            ("json-file", &[("max-size", "ten")], "invalid size: 'ten'"),
            ("json-file", &[("max-size", "-1")], "invalid size: '-1'"),
            (
                "json-file",
                &[("max-size", "0")],
                "max-size must be a positive number",
            ),
            (
                "json-file",
                &[("max-file", "x")],
                "strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "json-file",
                &[("compress", "x")],
                "strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (
                "json-file",
                &[("tag", "{{")],
                "template: log-tag:1: unclosed action",
            ),
            (
                "local",
                &[("compress", "x")],
                "error reading compress log option: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (
                "local",
                &[("max-size", "x")],
                "invalid value for max-size: x: invalid size: 'x'",
            ),
            (
                "local",
                &[("max-file", "0")],
                "compression cannot be enabled when max file count is 1",
            ),
        ] {
            let error = options(kind, pairs).unwrap_err().text();
            assert_eq!(error, format!("{begun}{text}"));
        }
        let buffer = "logger: max-buffer-size option is only supported with 'mode=non-blocking'";
        for (kind, pairs, text) in [
            (
                "json-file",
                &[("bogus", "1")][..],
                "unknown log opt 'bogus' for json-file log driver",
            ),
            (
                "local",
                &[("tag", "1")],
                "unknown log opt 'tag' for log driver local",
            ),
            (
                "local",
                &[("mode", "x")],
                "logger: logging mode not supported: x",
            ),
            ("json-file", &[("max-buffer-size", "1m")], buffer),
            (
                "json-file",
                &[("mode", "non-blocking"), ("max-buffer-size", "x")],
                "error parsing option max-buffer-size: invalid size: 'x'",
            ),
            (
                "none",
                &[("max-size", "1m")],
                "invalid logging opts for driver none",
            ),
            (
                "nope",
                &[],
                "error looking up logging plugin nope: plugin \"nope\" not found",
            ),
            (
                "syslog",
                &[],
                "log driver 'syslog' is not supported: this engine has json-file, local and none",
            ),
        ] {
            assert_eq!(options(kind, pairs).unwrap_err().text(), text);
        }
    }
}
