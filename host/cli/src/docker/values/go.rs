//! Texts as Go's standard library reads them, with its words for what is wrong: docker's users meet both.
//!
//! Called by the values of flags and by `port`.
//! Must never: read what Go refuses, for a script that works here has to work there.

use std::net::IpAddr;

/// The fields of the first record of a CSV text, as `encoding/csv` reads it (RFC 4180).
///
/// # Errors
/// No record, or quotes where none may be, with the place counted in bytes from 1.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    // Of Windows' ends of lines only the second half counts.
    let text = text.replace("\r\n", "\n");
    let text = text.strip_suffix('\r').unwrap_or(&text);
    let empty_lines = text.len() - text.trim_start_matches('\n').len();
    let mut record = Record {
        rest: &text[empty_lines..],
        first_line: empty_lines + 1,
        line: empty_lines + 1,
        column: 1,
    };
    if record.rest.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut all = Vec::new();
    loop {
        let (field, is_last) = match record.take("\"") {
            true => record.quoted()?,
            false => record.plain()?,
        };
        all.push(field);
        if is_last {
            return Ok(all);
        }
    }
}

/// A record that is being read.
struct Record<'a> {
    rest: &'a str,
    first_line: usize,
    line: usize,
    column: usize,
}

impl<'a> Record<'a> {
    /// Goes beyond this if it is next.
    fn take(&mut self, next: &str) -> bool {
        let is_next = self.rest.starts_with(next);
        if is_next {
            self.skip(next.len());
        }
        is_next
    }

    fn skip(&mut self, bytes: usize) -> &'a str {
        let (passed, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        self.column += bytes;
        passed
    }

    /// A field without quotes, and whether it is the last.
    fn plain(&mut self) -> Result<(String, bool), String> {
        let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
        if let Some(quote) = self.rest[..end].find('"') {
            self.column += quote;
            return Err(self.wrong("bare \" in non-quoted-field"));
        }
        let field = self.skip(end).to_owned();
        Ok((field, !self.take(",")))
    }

    /// A field behind its first quote, and whether it is the last.
    fn quoted(&mut self) -> Result<(String, bool), String> {
        let mut field = String::new();
        loop {
            let Some(stop) = self.rest.find(['"', '\n']) else {
                self.column += self.rest.len();
                return Err(self.wrong("extraneous or missing \" in quoted-field"));
            };
            field.push_str(self.skip(stop));
            if self.take("\n") {
                field.push('\n');
                if !self.rest.is_empty() {
                    (self.line, self.column) = (self.line + 1, 1);
                }
                continue;
            }
            self.skip(1);
            if self.take("\"") {
                field.push('"');
            } else if self.take(",") {
                return Ok((field, false));
            } else if self.rest.is_empty() || self.rest.starts_with('\n') {
                return Ok((field, true));
            } else {
                self.column -= 1;
                return Err(self.wrong("extraneous or missing \" in quoted-field"));
            }
        }
    }

    fn wrong(&self, what: &str) -> String {
        let at = format!(
            "parse error on line {}, column {}: {what}",
            self.line, self.column
        );
        match self.first_line == self.line {
            true => at,
            false => format!("record on line {}; {at}", self.first_line),
        }
    }
}

/// Whether `net.ParseMAC` reads it: 6, 8 or 20 bytes in hexadecimal, each by itself behind colons or hyphens, two by
/// two behind dots, or all together.
pub fn is_mac(text: &str) -> bool {
    let groups = |separator: char, digits| text.split(separator).all(|part| part.len() == digits);
    let separator = text.chars().find(|c| !c.is_ascii_hexdigit());
    let is_grouped = match separator {
        Some(separator @ (':' | '-')) => groups(separator, 2),
        Some('.') => groups('.', 4),
        Some(_) => false,
        None => true,
    };
    let digits = text.chars().filter(|c| Some(*c) != separator);
    let is_hex = digits.clone().all(|c| c.is_ascii_hexdigit());
    is_grouped && is_hex && matches!(digits.count(), 12 | 16 | 40)
}

/// A whole number without a sign of at most 16 bits, as `strconv.ParseUint` reads it.
///
/// # Errors
/// Its words.
pub fn port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| {
        let why = not_a_number(text);
        format!("strconv.ParseUint: parsing {text:?}: {why}")
    })
}

/// Why a text, which has lost its sign if it may have one, is none of the whole numbers that were asked for.
pub fn not_a_number(text: &str) -> &'static str {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => "value out of range",
        false => "invalid syntax",
    }
}

/// A whole number with or without a sign, as `strconv.Atoi` reads it.
///
/// # Errors
/// What is wrong with it.
pub fn number(text: &str) -> Result<i64, &'static str> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    text.parse().map_err(|_| not_a_number(digits))
}

/// The bounds of `80` or `80-90`; what is behind a second hyphen does not count.
///
/// # Errors
/// In the words of docker's reader of ports.
pub fn port_range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("Empty string specified for ports.".to_owned());
    }
    let mut parts = text.split('-');
    let first = port(parts.next().unwrap_or_default())?;
    let last = parts.next().map_or(Ok(first), port)?;
    match first <= last {
        true => Ok((first, last)),
        false => Err(format!("Invalid range specified for the Port: {text}")),
    }
}

/// What `strconv.ParseBool` reads.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// An address of the host before a published port, in brackets or not; empty for all.
///
/// # Errors
/// In the words of docker's reader of ports.
pub fn host_address(text: &str) -> Result<&str, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text);
    }
    let bare = without_brackets(text)
        .map_err(|why| format!("Invalid ip address {text}: address {text}:: {why}"))?;
    match bare.is_empty() || bare.parse::<IpAddr>().is_ok() {
        true => Ok(bare),
        false => Err(format!("Invalid ip address: {bare}")),
    }
}

/// The host of `host:`, as `net.SplitHostPort` finds it.
fn without_brackets(host: &str) -> Result<&str, &'static str> {
    let (bare, is_behind) = match host.strip_prefix('[') {
        None if host.contains(':') => return Err("too many colons in address"),
        None => (host, true),
        Some(inside) => {
            let (bare, behind) = inside.split_once(']').ok_or("missing ']' in address")?;
            if !behind.is_empty() {
                return Err(match behind.starts_with(':') {
                    true => "too many colons in address",
                    false => "missing port in address",
                });
            }
            (bare, false)
        }
    };
    if bare.contains('[') {
        return Err("unexpected '[' in address");
    }
    match is_behind && bare.contains(']') {
        true => Err("unexpected ']' in address"),
        false => Ok(bare),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_refused_as_go_does() {
        let read = |text: &str| fields(text).unwrap();
        assert_eq!(read("a=b"), ["a=b"]);
        assert_eq!(read("a,,"), ["a", "", ""]);
        assert_eq!(read("a,\"b=c,d\",e"), ["a", "b=c,d", "e"]);
        assert_eq!(read("\"a\"\"b\"\"\",c"), ["a\"b\"", "c"]);
        assert_eq!(read("\n\na,b\r\nc"), ["a", "b"]);
        assert_eq!(read("\"a\r\nb\""), ["a\nb"]);
        for (text, why) in [
            ("", "EOF"),
            ("\n", "EOF"),
            (
                "n,a=\"x\"",
                "parse error on line 1, column 5: bare \" in non-quoted-field",
            ),
            (
                "name=n,\"alias=x",
                "parse error on line 1, column 16: extraneous or missing \" in quoted-field",
            ),
            (
                "name=n,\"alias=x\"y",
                "parse error on line 1, column 16: extraneous or missing \" in quoted-field",
            ),
            (
                "name=n,\"foo=\n1\"x",
                "record on line 1; parse error on line 2, column 2: extraneous or missing \" in quoted-field",
            ),
            (
                "name=n,\"foo=\n",
                "parse error on line 1, column 14: extraneous or missing \" in quoted-field",
            ),
        ] {
            assert_eq!(fields(text).unwrap_err(), why, "{text:?}");
        }
    }

    #[test]
    fn hardware_addresses_have_the_forms_that_go_knows() {
        for text in [
            "02:00:00:00:00:0a",
            "02-00-00-00-00-0A",
            "0200.0000.000a",
            "02000000000a",
            "02:00:00:00:00:00:00:01",
            "0200.0000.0000.0001",
            "01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14",
        ] {
            assert!(is_mac(text), "{text}");
        }
        for text in [
            "",
            "zz",
            "02:00:00-00:00:01",
            "2:0:0:0:0:1",
            "02:00:00:00:00:00:00",
            "02:00:00:00:00:01:",
            ":02:00:00:00:00:01",
            "02:00.0000.0001",
            "0200.0000.00",
            "02000000000",
            "02 00 00 00 00 01",
            "é2:00:00:00:00:01",
        ] {
            assert!(!is_mac(text), "{text}");
        }
    }

    #[test]
    fn addresses_stand_in_brackets_or_not() {
        for (text, address) in [
            ("", ""),
            ("[]", ""),
            ("1.2.3.4", "1.2.3.4"),
            ("[1.2.3.4]", "1.2.3.4"),
            ("[::1]", "::1"),
            ("::1", "::1"),
        ] {
            assert_eq!(host_address(text), Ok(address), "{text}");
        }
        for (text, why) in [
            ("a.b", "Invalid ip address: a.b"),
            ("01.2.3.4", "Invalid ip address: 01.2.3.4"),
            (
                "1:2",
                "Invalid ip address 1:2: address 1:2:: too many colons in address",
            ),
            (
                "[::1",
                "Invalid ip address [::1: address [::1:: missing ']' in address",
            ),
            (
                "[::1]x",
                "Invalid ip address [::1]x: address [::1]x:: missing port in address",
            ),
            (
                "[[::1]",
                "Invalid ip address [[::1]: address [[::1]:: unexpected '[' in address",
            ),
            (
                "a]",
                "Invalid ip address a]: address a]:: unexpected ']' in address",
            ),
        ] {
            assert_eq!(host_address(text).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn ports_are_digits_alone() {
        assert_eq!(port("080"), Ok(80));
        assert_eq!(port_range("80"), Ok((80, 80)));
        assert_eq!(port_range("80-81-82"), Ok((80, 81)));
        for (text, why) in [
            ("", "Empty string specified for ports."),
            ("+80", "strconv.ParseUint: parsing \"+80\": invalid syntax"),
            (
                "70000",
                "strconv.ParseUint: parsing \"70000\": value out of range",
            ),
            ("9-8", "Invalid range specified for the Port: 9-8"),
            ("80-x", "strconv.ParseUint: parsing \"x\": invalid syntax"),
        ] {
            assert_eq!(port_range(text).unwrap_err(), why, "{text}");
        }
    }
}
