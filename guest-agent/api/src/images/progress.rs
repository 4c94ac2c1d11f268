//! Docker's progress lines: JSON, with the bar as text for clients that only print.

use lighter_engine::images::{Digest, ProgressDetail, ProgressEvent};
use serde::Serialize;

/// Width of the bar in characters.
const BAR: usize = 50;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    status: &'a str,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    detail: Option<Detail>,
    #[serde(skip_serializing_if = "String::is_empty")]
    progress: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aux: Option<Aux<'a>>,
}

/// Docker's `PushResult`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Aux<'a> {
    tag: &'a str,
    digest: Digest,
    size: u64,
}

#[derive(Serialize)]
struct Detail {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
}

#[derive(Serialize)]
struct Failure<'a> {
    #[serde(rename = "errorDetail")]
    detail: FailureDetail<'a>,
    error: &'a str,
}

#[derive(Serialize)]
struct FailureDetail<'a> {
    message: &'a str,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One line of progress.
pub(super) fn line(event: &ProgressEvent) -> Vec<u8> {
    encode(&Line {
        status: &event.status,
        detail: event.detail.map(|detail| Detail {
            current: detail.current,
            total: detail.total,
        }),
        progress: event.detail.map(bar).unwrap_or_default(),
        id: event.id.as_deref(),
        aux: event.pushed.as_ref().map(|pushed| Aux {
            tag: &pushed.tag,
            digest: pushed.digest,
            size: pushed.size,
        }),
    })
}

/// The line that ends a stream that failed.
pub(super) fn failure(message: &str) -> Vec<u8> {
    encode(&Failure {
        detail: FailureDetail { message },
        error: message,
    })
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Strings and numbers alone: there is nothing in it that could fail.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.extend_from_slice(b"\r\n");
    line
}

/// `[=====>      ]  12.3MB/45MB`, or only the bytes where the total is unknown.
fn bar(detail: ProgressDetail) -> String {
    let ProgressDetail { current, total } = detail;
    if total == 0 {
        return match current {
            0 => String::new(),
            current => format!("{:>8}", human(current)),
        };
    }
    let share = u128::from(current) * BAR as u128 / u128::from(total);
    let done = usize::try_from(share).unwrap_or(BAR).min(BAR);
    let numbers = if current > total {
        format!("{:>8}", human(current))
    } else {
        format!("{:>8}/{}", human(current), human(total))
    };
    format!(
        "[{}>{}] {numbers}",
        "=".repeat(done),
        " ".repeat(BAR - done)
    )
}

/// Four significant digits in powers of a thousand.
fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    let decimals = match value {
        _ if value >= 100.0 => 1,
        _ if value >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", if text.is_empty() { "0" } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_dockerd_writes_them() {
        let text = |event| String::from_utf8(line(&event)).unwrap();
        assert_eq!(
            text(ProgressEvent::about("3.10", "Pulling from library/alpine")),
            "{\"status\":\"Pulling from library/alpine\",\"id\":\"3.10\"}\r\n"
        );
        assert_eq!(
            text(ProgressEvent::layer("61b143db7b56", "Already exists")),
            "{\"status\":\"Already exists\",\"progressDetail\":{},\"id\":\"61b143db7b56\"}\r\n"
        );
        assert_eq!(
            text(ProgressEvent::bar("a", "Downloading", 1_250_000, 5_000_000)),
            format!(
                "{{\"status\":\"Downloading\",\"progressDetail\":{{\"current\":1250000,\"total\":5000000}},\
                 \"progress\":\"[{}>{}]   1.25MB/5MB\",\"id\":\"a\"}}\r\n",
                "=".repeat(12),
                " ".repeat(38)
            )
        );
        assert_eq!(
            String::from_utf8(failure("no")).unwrap(),
            "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n"
        );
        let digest = Digest::of(b"");
        assert_eq!(
            text(ProgressEvent::pushed("t", digest, 527)),
            format!(
                "{{\"progressDetail\":{{}},\"aux\":{{\"Tag\":\"t\",\"Digest\":\"{digest}\",\"Size\":527}}}}\r\n"
            )
        );
        for (bytes, expected) in [
            (0, "0B"),
            (100, "100B"),
            (999, "999B"),
            (123_456, "123.5kB"),
        ] {
            assert_eq!(human(bytes), expected);
        }
    }
}
