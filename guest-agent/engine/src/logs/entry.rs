//! One line of a json-file log.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::StreamKind;
use crate::clock::Timestamp;

/// Longest piece of a line in one entry; longer lines continue in the next one, as in dockerd.
pub(crate) const MAX_LINE: usize = 16 * 1024;

/// A decoded entry.
#[derive(Debug, Deserialize)]
pub struct Entry<'a> {
    /// The text, with its line feed unless it is a piece of a longer line.
    #[serde(borrow)]
    pub log: Cow<'a, str>,
    /// Where it came from.
    pub stream: StreamKind,
    /// When it came.
    pub time: Timestamp,
    /// Labels and variables that the log options name.
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
}

/// Appends the entry for `line` to `out`. `attrs` is an encoded JSON object or empty.
pub(crate) fn encode(out: &mut Vec<u8>, line: &[u8], stream: StreamKind, time: &str, attrs: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, line);
    out.extend_from_slice(match stream {
        StreamKind::Stdout => b"\",\"stream\":\"stdout\"",
        StreamKind::Stderr => b"\",\"stream\":\"stderr\"",
    });
    if !attrs.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attrs.as_bytes());
    }
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        let mut plain = 0;
        for (index, byte) in valid.iter().enumerate() {
            let Some(escaped) = escaped(*byte) else {
                continue;
            };
            out.extend_from_slice(&valid[plain..index]);
            match escaped {
                Escape::Short(letter) => out.extend_from_slice(&[b'\\', letter]),
                Escape::Long => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            }
            plain = index + 1;
        }
        out.extend_from_slice(&valid[plain..]);
        if !chunk.invalid().is_empty() {
            // JSON has no place for other bytes; json-file has always replaced them.
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

enum Escape {
    Short(u8),
    Long,
}

fn escaped(byte: u8) -> Option<Escape> {
    match byte {
        b'"' | b'\\' => Some(Escape::Short(byte)),
        b'\n' => Some(Escape::Short(b'n')),
        b'\r' => Some(Escape::Short(b'r')),
        b'\t' => Some(Escape::Short(b't')),
        0..=0x1f | 0x7f => Some(Escape::Long),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(line: &[u8]) -> String {
        let mut out = Vec::new();
        encode(
            &mut out,
            line,
            StreamKind::Stderr,
            "2026-11-21T00:43:01.5Z",
            "{\"k\":\"v\"}",
        );
        let entry: Entry<'_> = serde_json::from_slice(&out).unwrap();
        assert_eq!(entry.stream, StreamKind::Stderr);
        assert_eq!(entry.time.to_string(), "2026-11-21T00:43:01.5Z");
        assert_eq!(entry.attrs["k"], "v");
        entry.log.into_owned()
    }

    #[test]
    fn text_comes_back_as_it_was() {
        for text in [
            "hi\n",
            "a\"b\\c\td\r\n",
            "\u{1}\u{1b}[0m\u{7f}\n",
            "grüße 🚢\n",
            "",
        ] {
            assert_eq!(round_trip(text.as_bytes()), text);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(round_trip(b"a\xff\xfeb\n"), "a\u{fffd}\u{fffd}b\n");
    }
}
