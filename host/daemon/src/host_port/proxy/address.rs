//! The address of a proxy, as people write it: `http://ann:secret@proxy.test:3128`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lighter_platform::text::clipped;
use percent_encoding::percent_decode_str;

use crate::host_port::rules::is_name;

/// Most characters of an address that are shown.
const MOST_SHOWN: usize = 200;

/// What is named as a proxy is none that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is no address.
    #[error("`{0}` is no proxy's address, such as `http://proxy.example:3128`")]
    Malformed(String),
    /// It is to be spoken to in another way.
    #[error("the proxy `{0}` cannot be used: lighter speaks to proxies in `http://` only")]
    Scheme(String),
}

/// A proxy that is spoken to in plain HTTP, as nearly all are: what is carried has TLS of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyAddress {
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What to show it with, if it wants to know who comes: `user:password`.
    credentials: Option<Vec<u8>>,
}

impl ProxyAddress {
    /// The value of `Proxy-Authorization`.
    #[must_use]
    pub fn authorization(&self) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        Some(format!("Basic {}", STANDARD.encode(credentials)))
    }
}

/// Without credentials.
impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "http://[{}]:{}", self.host, self.port),
            false => write!(f, "http://{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ProxyAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let shown = || clipped(&masked(text), MOST_SHOWN);
        let malformed = || AddressError::Malformed(shown());
        let (scheme, authority, beyond) = parts(text);
        // Else a part of the password would be taken for the host.
        if beyond.contains('@') {
            return Err(malformed());
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(AddressError::Scheme(shown()));
        }
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(malformed)?,
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        let port = match port {
            "" | ":" => 80,
            port => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .ok_or_else(malformed)?,
        };
        if !is_name(host) || port == 0 {
            return Err(malformed());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            credentials: user.map(credentials),
        })
    }
}

fn credentials(user: &str) -> Vec<u8> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut both: Vec<u8> = percent_decode_str(name).collect();
    both.push(b':');
    both.extend(percent_decode_str(password));
    both
}

/// The scheme, `http` where there is none, the part with the host, and what is beyond.
fn parts(text: &str) -> (&str, &str, &str) {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    (scheme, &rest[..end], &rest[end..])
}

/// The address with `xxxxx` in the place of name and password, as `docker info` shows it.
///
/// A password may have characters that end the part with the host. Better to hide too much, so all before
/// the last `@` is taken for one.
#[must_use]
pub fn masked(text: &str) -> String {
    let Some((before, after)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    let plain = |scheme: &str| {
        scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    match before.split_once("://") {
        Some((scheme, _)) if plain(scheme) => format!("{scheme}://xxxxx:xxxxx@{after}"),
        _ => format!("xxxxx:xxxxx@{after}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, host, port) in [
            ("http://proxy.test:3128", "proxy.test", 3128),
            ("proxy.test", "proxy.test", 80),
            ("proxy.test:8080/", "proxy.test", 8080),
            ("HTTP://proxy.test:/x?y", "proxy.test", 80),
            ("http://[::1]:3128", "::1", 3128),
            ("[::1]", "::1", 80),
            ("http://ann:s@cret@10.0.0.1:1", "10.0.0.1", 1),
        ] {
            let read: ProxyAddress = text.parse().unwrap();
            assert_eq!((read.host.as_str(), read.port), (host, port), "{text}");
        }
        let read: ProxyAddress = "http://ann:p%40ss@h".parse().unwrap();
        let expected = format!("Basic {}", STANDARD.encode("ann:p@ss"));
        assert_eq!(read.authorization(), Some(expected));
        let read: ProxyAddress = "http://h".parse().unwrap();
        assert_eq!(read.authorization(), None);
    }

    #[test]
    fn what_is_no_address_is_said_without_its_password() {
        for text in [
            "http://",
            "http://h:0",
            "http://h:99999",
            "http://[::1",
            "http://[::1]x",
            "http://ann:secret@a b:1",
            "http://ann:1/secret@h:1",
            "http://ann:#secret@h:1",
            "http://ann:?secret@h:1",
            "http://h\r\nx: y",
        ] {
            let error = text.parse::<ProxyAddress>().unwrap_err();
            assert!(matches!(error, AddressError::Malformed(_)), "{text}");
            assert!(!error.to_string().contains("secret"));
        }
        for text in ["https://ann:secret@h", "socks5://h:1080"] {
            let error = text.parse::<ProxyAddress>().unwrap_err();
            assert!(matches!(error, AddressError::Scheme(_)), "{text}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn credentials_are_masked_whatever_else_is_wrong() {
        for (text, expected) in [
            ("http://ann:secret@h:1/x", "http://xxxxx:xxxxx@h:1/x"),
            ("ann:secret@h", "xxxxx:xxxxx@h"),
            ("http://ann@h", "http://xxxxx:xxxxx@h"),
            // Passwords as they come out of a generator.
            ("http://ann:se/cret@h:1", "http://xxxxx:xxxxx@h:1"),
            ("http://ann:se#cret@h:1/x", "http://xxxxx:xxxxx@h:1/x"),
            ("ann:se?cret@h", "xxxxx:xxxxx@h"),
            ("http://ann:s@e/c@ret@h", "http://xxxxx:xxxxx@h"),
            ("ann:secret://@h", "xxxxx:xxxxx@h"),
            ("http://h/a", "http://h/a"),
            ("", ""),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
