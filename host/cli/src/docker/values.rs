//! Values as docker's users write them.

use std::collections::BTreeMap;

use lighter_daemon::settings::ByteSize;
use serde_json::{Value, json};

use crate::exit::words;

pub mod go;

/// A size.
pub fn bytes(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>()
        .map(|size| size.0)
        .map_err(|_| format!("invalid size: '{text}'"))
}

/// `device:amount`, the amount a size or a number.
pub fn rate(text: &str) -> Result<Value, String> {
    let (path, amount) = text
        .split_once(':')
        .filter(|(path, amount)| !path.is_empty() && !amount.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    let amount = bytes(amount).map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. \
             Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(json!({ "Path": path, "Rate": amount }))
}

/// Processors with at most nine digits after the point, in billionths.
pub fn nano_cpus(text: &str) -> Result<i64, String> {
    let wrong = || format!("failed to parse {text} as a rational number");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 9 && part.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("value is too precise".to_owned());
    }
    if !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let digits = format!("{}{part:0<9}", if whole.is_empty() { "0" } else { whole });
    digits.parse().map_err(|_| wrong())
}

/// A span with or without a sign, and what is wrong with it in the words of Go.
pub fn go_span(text: &str) -> Result<i64, String> {
    let (sign, bare) = match text.strip_prefix('-') {
        Some(bare) => (-1, bare),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    span(bare).map(|span| sign * span).map_err(|_| {
        if bare.ends_with(|c: char| c.is_ascii_digit()) {
            format!("time: missing unit in duration {text:?}")
        } else {
            format!("time: invalid duration {text:?}")
        }
    })
}

/// A span such as `1h2m3.5s`, in billionths of seconds.
pub fn span(text: &str) -> Result<i64, String> {
    let wrong = || "it must be a time such as `10s` or `1m30s`".to_owned();
    if text == "0" {
        return Ok(0);
    }
    let units = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 6e10),
        ("h", 3.6e12),
    ];
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, after) = rest.split_at(end);
        let stop = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(stop);
        let (_, factor) = units
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        total += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = next;
    }
    if text.is_empty() {
        Err(wrong())
    } else {
        Ok(total as i64)
    }
}

/// `name=value` texts as an object; the last of a name counts.
pub fn pairs(all: &[String]) -> BTreeMap<String, String> {
    all.iter()
        .map(|text| text.split_once('=').unwrap_or((text, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `NAME=value` as it is; `NAME` with the caller's value, or left out where there is none.
pub fn environment(all: &[String]) -> Vec<String> {
    all.iter()
        .filter_map(|text| {
            if text.contains('=') {
                return Some(text.clone());
            }
            std::env::var(text)
                .ok()
                .map(|value| format!("{text}={value}"))
        })
        .collect()
}

/// `name=soft[:hard]`.
pub fn ulimit(text: &str) -> Result<Value, String> {
    let wrong = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    Ok(json!({ "Name": name, "Soft": number(soft)?, "Hard": number(hard)? }))
}

/// `host[:container[:permissions]]`.
pub fn device(text: &str) -> Result<Value, String> {
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    let (second, third) = (parts.next(), parts.next());
    let is_mode = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let (container, mode) = match (second, third) {
        (Some(mode), None) if is_mode(mode) => (host, mode),
        (container, mode) => (container.unwrap_or(host), mode.unwrap_or("rwm")),
    };
    if parts.next().is_some() || !host.starts_with('/') || !is_mode(mode) {
        return Err(format!("{host} is not an absolute path"));
    }
    Ok(json!({ "PathOnHost": host, "PathInContainer": container, "CgroupPermissions": mode }))
}

/// `policy[:count]`.
pub fn restart(text: &str) -> Result<Value, String> {
    let (name, count) = text.split_once(':').unwrap_or((text, "0"));
    let count = count
        .parse::<u32>()
        .map_err(|_| "the count must be a whole number".to_owned())?;
    Ok(json!({ "Name": name, "MaximumRetryCount": count }))
}

/// Lines of a file of `NAME=value`; comments and empty lines are left out.
pub fn read_lines(path: &str) -> Result<Vec<String>, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("open {path}: {}", words(&error)))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text
        .lines()
        .map(str::trim_start)
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let name = line.split('=').next().unwrap_or(line);
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(format!("{path}: `{name}` is no name of a variable"));
            }
            Ok(line.to_owned())
        })
        .collect()
}

/// A moment: seconds since 1970, RFC 3339, or a span before now, as the API takes it.
pub fn moment(text: &str, now_unix: i64) -> Result<String, String> {
    if text.is_empty() || text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    if let Ok(ago) = span(text) {
        return Ok((now_unix - ago / 1_000_000_000).to_string());
    }
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ if !text.ends_with('Z') && text.get(19..).is_some_and(str::is_empty) => {
            format!("{text}Z")
        }
        _ => text.to_owned(),
    };
    let rfc = &time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::parse(&full, rfc)
        .map_err(|_| format!("failed to parse value as time or duration: {text:?}"))?;
    Ok(format!(
        "{}.{:09}",
        time.unix_timestamp(),
        time.nanosecond()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_exact() {
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(nano_cpus(".25"), Ok(250_000_000));
        assert_eq!(nano_cpus("2"), Ok(2_000_000_000));
        assert!(nano_cpus("1.0000000001").is_err());
        assert!(nano_cpus("two").is_err());
    }

    #[test]
    fn spans_add_up() {
        assert_eq!(span("1m30s"), Ok(90_000_000_000));
        assert_eq!(span("1.5h"), Ok(5_400_000_000_000));
        assert_eq!(span("10ms"), Ok(10_000_000));
        for text in ["", "10", "s", "1x", "1m30"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wrong_spans_are_told_as_go_tells_them() {
        assert_eq!(go_span("-1.5s"), Ok(-1_500_000_000));
        for (text, error) in [
            ("5", "time: missing unit in duration \"5\""),
            ("1m30", "time: missing unit in duration \"1m30\""),
            ("x", "time: invalid duration \"x\""),
            ("", "time: invalid duration \"\""),
        ] {
            assert_eq!(go_span(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn limits_devices_and_policies_are_taken_apart() {
        assert_eq!(ulimit("nofile=1:2").unwrap()["Hard"], 2);
        assert_eq!(ulimit("core=0").unwrap()["Hard"], 0);
        assert!(ulimit("nofile").is_err());
        assert_eq!(device("/dev/a:r").unwrap()["PathInContainer"], "/dev/a");
        assert_eq!(
            device("/dev/a:/dev/b:rw").unwrap()["CgroupPermissions"],
            "rw"
        );
        assert!(device("a").is_err());
        assert_eq!(restart("on-failure:3").unwrap()["MaximumRetryCount"], 3);
        assert_eq!(restart("always").unwrap()["Name"], "always");
    }

    #[test]
    fn moments_are_seconds_times_or_spans() {
        assert_eq!(moment("1700000000", 0).unwrap(), "1700000000");
        assert_eq!(moment("10m", 1000).unwrap(), "400");
        assert_eq!(moment("1970-01-02", 0).unwrap(), "86400.000000000");
        assert_eq!(moment("1970-01-01T00:00:01.5Z", 0).unwrap(), "1.500000000");
        assert!(moment("yesterday", 0).is_err());
    }
}
