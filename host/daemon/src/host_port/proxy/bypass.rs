//! What `NO_PROXY` says, as Go reads it: names with all below them, addresses, ranges, ports, `*`.
//! Loopback is never reached through a proxy.

use std::net::IpAddr;

/// The hosts that are reached without a proxy.
#[derive(Debug, Default)]
pub struct Bypass {
    everything: bool,
    rules: Vec<Rule>,
}

#[derive(Debug, PartialEq, Eq)]
enum Rule {
    /// What ends with a name that begins with a dot; and the name itself unless only what is below
    /// it was meant.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<String>,
    },
    Address {
        address: IpAddr,
        port: Option<String>,
    },
    Range {
        base: IpAddr,
        bits: u32,
    },
}

impl Bypass {
    /// Reads a list with commas. What cannot be meant is passed over, as Go does.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut bypass = Self::default();
        for part in text.split(',') {
            let part = part.trim().to_lowercase();
            match part.as_str() {
                "" => {}
                "*" => bypass.everything = true,
                part => bypass.rules.extend(rule(part)),
            }
        }
        bypass
    }

    /// Whether a target is reached without a proxy.
    #[must_use]
    pub fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.trim().to_lowercase();
        let host = unbracketed(&host);
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        if host == "localhost" || address.is_some_and(|ip| ip.is_loopback()) || self.everything {
            return true;
        }
        let port = port.to_string();
        self.rules
            .iter()
            .any(|rule| rule.covers(host, address, &port))
    }
}

impl Rule {
    fn covers(&self, host: &str, address: Option<IpAddr>, port: &str) -> bool {
        let at = |only: &Option<String>| only.as_ref().is_none_or(|only| only == port);
        match (self, address) {
            (
                Self::Domain {
                    suffix,
                    itself,
                    port,
                },
                None,
            ) => (host.ends_with(suffix.as_str()) || (*itself && host == &suffix[1..])) && at(port),
            (
                Self::Address {
                    address: known,
                    port,
                },
                Some(address),
            ) => *known == address && at(port),
            (Self::Range { base, bits }, Some(address)) => {
                prefix(address, *bits) == prefix(*base, *bits)
            }
            _ => false,
        }
    }
}

fn rule(text: &str) -> Option<Rule> {
    if let Some(range) = range(text) {
        return Some(range);
    }
    let (host, port) = split_port(text);
    let host = unbracketed(host);
    let port = port.map(str::to_owned);
    if let Ok(address) = host.parse::<IpAddr>() {
        let address = address.to_canonical();
        return Some(Rule::Address { address, port });
    }
    // `*.corp.test` is `.corp.test`.
    let host = match host.strip_prefix('*') {
        Some(rest) if rest.starts_with('.') => rest,
        _ => host,
    };
    let itself = !host.starts_with('.');
    let suffix = match itself {
        true => format!(".{host}"),
        false => host.to_owned(),
    };
    (suffix.len() > 1).then_some(Rule::Domain {
        suffix,
        itself,
        port,
    })
}

fn range(text: &str) -> Option<Rule> {
    let (base, bits) = text.split_once('/')?;
    let base: IpAddr = base.parse().ok()?;
    let bits = bits.parse().ok()?;
    let most = if base.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some(Rule::Range { base, bits })
}

/// The first bits of an address, with its family.
fn prefix(address: IpAddr, bits: u32) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (
            true,
            u128::from(v4.to_bits().checked_shr(32 - bits.min(32)).unwrap_or(0)),
        ),
        IpAddr::V6(v6) => (false, v6.to_bits().checked_shr(128 - bits).unwrap_or(0)),
    }
}

/// A port behind the last colon; an address of many colons has one only behind its brackets.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

fn unbracketed(host: &str) -> &str {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    inner.unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_held_against_the_list_as_go_does() {
        let list = "foo.com, .barbaz.net, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, \
                    2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64, \
                    *.star.test, port.test:8443, :80, ., [";
        let bypass = Bypass::parse(list);
        for (host, port, covered) in [
            // Loopback, whatever the list says.
            ("localhost", 80, true),
            ("127.0.0.1", 5000, true),
            ("127.7.7.7", 5000, true),
            ("[::1]", 443, true),
            ("::ffff:127.0.0.1", 443, true),
            // Addresses.
            ("192.168.1.1", 443, true),
            ("::ffff:192.168.1.1", 443, true),
            ("192.168.1.2", 81, true),
            ("192.168.1.2", 80, false),
            ("192.168.1.4", 80, false),
            ("192.168.1.30", 80, false),
            ("[2001:db8::52:0:1]", 443, true),
            ("2001:db8::52:0:2", 443, true),
            ("2001:db8::52:0:3", 443, false),
            // Ranges.
            ("10.0.0.3", 443, true),
            ("10.0.0.4", 443, false),
            ("2002:db8:a::123", 443, true),
            ("2002:db8:a:1::123", 443, false),
            // Names.
            ("foo.com", 443, true),
            ("FOO.com", 443, true),
            ("www.foo.com", 443, true),
            ("foofoo.com", 443, false),
            ("barbaz.net", 443, false),
            ("a.barbaz.net", 443, true),
            ("star.test", 443, false),
            ("a.star.test", 443, true),
            ("port.test", 8443, true),
            ("port.test", 443, false),
            ("other.test", 80, false),
        ] {
            assert_eq!(bypass.covers(host, port), covered, "{host}:{port}");
        }
    }

    #[test]
    fn a_star_is_everything_and_nothing_is_loopback_only() {
        let all = Bypass::parse("x.test,*");
        assert!(all.covers("r.test", 443) && all.covers("10.0.0.1", 443));
        let none = Bypass::parse(" , ");
        assert!(none.rules.is_empty());
        assert!(!none.covers("r.test", 443) && none.covers("localhost", 443));
        let whole = Bypass::parse("0.0.0.0/0,::/0,1.2.3.4/33");
        assert!(whole.covers("8.8.8.8", 443) && whole.covers("2001:db8::1", 443));
        assert_eq!(whole.rules.len(), 3, "what is no range is a name");
    }
}
