//! One line of a log, in the form of its driver.
//!
//! Both forms end every entry with a line feed and have none within, so that the end of the last
//! entry and the begin of each can be found from anywhere in the file. `json-file` is Docker's own.
//! `local` is ours: `o1764122741777283263 text`; the letter is `o` or `e` for the output, in
//! capitals where the text had no line feed; the number is nanoseconds; the text is as it came.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Message, StreamKind};
use crate::clock::Timestamp;

/// Longest piece of a line in one entry; longer lines continue in the next one, as in dockerd.
pub(crate) const MAX_LINE: usize = 16 * 1024;

/// How entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Docker's json-file.
    Json,
    /// The driver `local`.
    Local,
}

impl Format {
    /// The time of entries that are written now.
    pub(crate) fn stamp(self, now: Timestamp) -> String {
        match self {
            Self::Json => now.to_string(),
            Self::Local => now.unix_ns().to_string(),
        }
    }

    /// Appends the entry for `line` to `out`. `attrs` is an encoded JSON object or empty.
    pub(crate) fn encode(
        self,
        out: &mut Vec<u8>,
        line: &[u8],
        stream: StreamKind,
        stamp: &str,
        attrs: &str,
    ) {
        match self {
            Self::Json => encode(out, line, stream, stamp, attrs),
            Self::Local => {
                let whole = line.strip_suffix(b"\n");
                out.push(match (stream, whole) {
                    (StreamKind::Stdout, Some(_)) => b'o',
                    (StreamKind::Stdout, None) => b'O',
                    (StreamKind::Stderr, Some(_)) => b'e',
                    (StreamKind::Stderr, None) => b'E',
                });
                out.extend_from_slice(stamp.as_bytes());
                out.push(b' ');
                out.extend_from_slice(whole.unwrap_or(line));
                out.push(b'\n');
            }
        }
    }

    /// Reads an entry, without its line feed. A torn one (the machine went down while it was
    /// written) is none.
    pub(crate) fn decode(self, entry: &[u8]) -> Option<Message> {
        match self {
            Self::Json => {
                let entry: Entry<'_> = serde_json::from_slice(entry).ok()?;
                Some(Message {
                    stream: entry.stream,
                    time: entry.time,
                    line: entry.log.into_owned().into_bytes(),
                    attrs: entry.attrs,
                })
            }
            Self::Local => {
                let (letter, rest) = entry.split_first()?;
                let space = rest.iter().position(|byte| *byte == b' ')?;
                let time = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
                let mut line = rest[space + 1..].to_vec();
                let stream = match letter.to_ascii_lowercase() {
                    b'o' => StreamKind::Stdout,
                    b'e' => StreamKind::Stderr,
                    _ => return None,
                };
                if letter.is_ascii_lowercase() {
                    line.push(b'\n');
                }
                Some(Message {
                    stream,
                    time: Timestamp::from_unix_ns(time),
                    line,
                    attrs: BTreeMap::new(),
                })
            }
        }
    }
}

/// A decoded entry of json-file.
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

/// The form of json-file.
fn encode(out: &mut Vec<u8>, line: &[u8], stream: StreamKind, time: &str, attrs: &str) {
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

/// Escapes `text` byte for byte as json-file has always done: what HTML or JavaScript would take for
/// its own too, and each byte that is no UTF-8 as U+FFFD of its own.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let mut plain = 0;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        if PLAIN[usize::from(*byte)] {
            at += 1;
            continue;
        }
        let length = if *byte < 0x80 {
            1
        } else {
            character(&text[at..])
        };
        if length > 1 && !is_line_separator(&text[at..at + length]) {
            at += length;
            continue;
        }
        out.extend_from_slice(&text[plain..at]);
        match (*byte, length) {
            (b'"' | b'\\', _) => out.extend_from_slice(&[b'\\', *byte]),
            (b'\n', _) => out.extend_from_slice(b"\\n"),
            (b'\r', _) => out.extend_from_slice(b"\\r"),
            (0..0x80, _) => {
                let hex = |digit: u8| HEX[usize::from(digit)];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[hex(byte >> 4), hex(byte & 0xf)]);
            }
            (_, 3) => {
                out.extend_from_slice(b"\\u202");
                out.push(HEX[usize::from(text[at + 2] & 0xf)]);
            }
            _ => out.extend_from_slice(b"\\ufffd"),
        }
        at += length;
        plain = at;
    }
    out.extend_from_slice(&text[plain..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Bytes that stand for themselves.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        table[byte] = !matches!(byte as u8, b'"' | b'\\' | b'<' | b'>' | b'&');
        byte += 1;
    }
    table
};

/// Length of the character that `text` begins with, which is no ASCII; 1 for a byte that is no
/// character.
fn character(text: &[u8]) -> usize {
    let (length, second) = match text[0] {
        0xc2..=0xdf => (2, 0x80..=0xbf),
        // Longer than need be, halves of UTF-16 pairs, and beyond Unicode: all are no characters.
        0xe0 => (3, 0xa0..=0xbf),
        0xed => (3, 0x80..=0x9f),
        0xe1..=0xef => (3, 0x80..=0xbf),
        0xf0 => (4, 0x90..=0xbf),
        0xf1..=0xf3 => (4, 0x80..=0xbf),
        0xf4 => (4, 0x80..=0x8f),
        _ => return 1,
    };
    let Some(rest) = text.get(1..length) else {
        return 1;
    };
    let whole = second.contains(&rest[0]) && rest[1..].iter().all(|byte| byte & 0xc0 == 0x80);
    if whole { length } else { 1 }
}

/// U+2028 and U+2029 end a line in JavaScript.
fn is_line_separator(character: &[u8]) -> bool {
    matches!(character, [0xe2, 0x80, 0xa8 | 0xa9])
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

    #[test]
    fn local_keeps_every_byte() {
        for (stream, line) in [
            (StreamKind::Stdout, &b"a\xff\0 b\n"[..]),
            (StreamKind::Stderr, b"a piece"),
            (StreamKind::Stdout, b"\n"),
            (StreamKind::Stderr, b""),
        ] {
            let mut out = Vec::new();
            let time = Timestamp::from_unix_ns(1_764_122_741_777_283_263);
            let stamp = Format::Local.stamp(time);
            Format::Local.encode(&mut out, line, stream, &stamp, "");
            assert_eq!(out.pop(), Some(b'\n'));
            assert!(!out.contains(&b'\n'));
            let message = Format::Local.decode(&out).unwrap();
            assert_eq!((message.stream, message.time), (stream, time));
            assert_eq!(message.line, line);
            assert!(Format::Local.decode(&out[..10]).is_none(), "torn");
        }
        for wrong in [&b""[..], b"o", b"x1 a", b"o1x a", b"{\"log\":\"\"}"] {
            assert!(Format::Local.decode(wrong).is_none());
        }
    }

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        escape(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_are_those_of_json_file() {
        for (text, wanted) in [
            (&b"tab\there"[..], r"tab\u0009here"),
            (b"a<b>&c\x7f", "a\\u003cb\\u003e\\u0026c\x7f"),
            (
                "\u{2028}\u{2029}\u{2030}".as_bytes(),
                "\\u2028\\u2029\u{2030}",
            ),
            (b"\r\n\x1b\0", r"\r\n\u001b\u0000"),
            // A character that is cut off is as many bytes that are none.
            (b"\xe2\x82", r"\ufffd\ufffd"),
            (b"\xe2\x82x\xf0\x9f\x9a", r"\ufffd\ufffdx\ufffd\ufffd\ufffd"),
            (b"\xc0\x80\xed\xa0\x80", r"\ufffd\ufffd\ufffd\ufffd\ufffd"),
            (b"\xf4\x90\x80\x80", r"\ufffd\ufffd\ufffd\ufffd"),
        ] {
            assert_eq!(escaped(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn every_pair_of_bytes_is_text_or_replaced() {
        for pair in 0..=u16::MAX {
            let bytes = [b"a", &pair.to_be_bytes()[..], b"z"].concat();
            let wanted: String = bytes.utf8_chunks().fold(String::new(), |mut text, chunk| {
                text.push_str(chunk.valid());
                text.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
                text
            });
            assert_eq!(round_trip(&bytes), wanted, "{bytes:?}");
        }
    }
}
