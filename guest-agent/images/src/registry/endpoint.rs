//! Where a registry is: scheme, host and port, by its name and the settings.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;

use super::{Network, RegistryError};
use crate::reference::{DEFAULT_REGISTRY, Reference};

/// The hub's API is not at the hub's name.
const HUB: &str = "registry-1.docker.io";

/// What a browser calls an origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) tls: bool,
    /// Lower case, an IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// The origin of an absolute `http` or `https` URL without user information.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() {
            return None;
        }
        // A port that is no number must not become the default one.
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, digits)) if !digits.contains(']') => digits.parse().ok()?,
            _ if tls => 443,
            _ => 80,
        };
        Some(Self {
            tls,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    fn parse(scheme: &str, authority: &str) -> Option<Self> {
        Self::of(&format!("{scheme}://{authority}/").parse().ok()?)
    }

    /// For the `Host` header: the port only where it is not the scheme's own.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// One place to ask for an image.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) origin: Origin,
    /// The registry as the user named it.
    pub(super) registry: String,
    /// A mirror gets no credentials: they were given for the hub.
    pub(super) mirror: bool,
    /// Whether its certificate must lead to a trusted root.
    pub(super) verified: bool,
    /// Whether it is no registry that the user named: then it must not lead to the host's own
    /// services.
    pub(super) foreign: bool,
}

/// Where to ask for `reference`, in this order.
pub(super) fn endpoints(
    network: &Network,
    reference: &Reference,
) -> Result<Vec<Endpoint>, RegistryError> {
    let mut found = Vec::new();
    if reference.registry() == DEFAULT_REGISTRY {
        for text in &network.mirrors {
            let origin = mirror(text).ok_or_else(|| RegistryError::Setting {
                name: "registry-mirrors",
                value: text.clone(),
            })?;
            found.push(Endpoint {
                verified: !is_insecure(network, &origin.authority()),
                origin,
                registry: DEFAULT_REGISTRY.to_owned(),
                mirror: true,
                foreign: false,
            });
        }
    }
    found.extend(named(network, reference.registry())?);
    Ok(found)
}

/// A mirror is an origin: a path behind it would be asked for in vain.
fn mirror(text: &str) -> Option<Origin> {
    let url: Uri = text.parse().ok()?;
    let bare = url.query().is_none() && matches!(url.path(), "" | "/");
    Origin::of(&url).filter(|_| bare)
}

/// The endpoints of the registry the user named: one, or for an insecure one two. As with dockerd,
/// `insecure` means TLS with whatever certificate, and plain HTTP where there is no TLS.
pub(super) fn named(network: &Network, registry: &str) -> Result<Vec<Endpoint>, RegistryError> {
    let authority = if registry == DEFAULT_REGISTRY {
        HUB
    } else {
        registry
    };
    let insecure = is_insecure(network, registry);
    let schemes: &[&str] = if insecure {
        &["https", "http"]
    } else {
        &["https"]
    };
    let endpoint = |scheme: &&str| {
        let origin = Origin::parse(scheme, authority).ok_or_else(|| RegistryError::Protocol {
            request: registry.to_owned(),
            problem: "this is no registry's name".to_owned(),
        })?;
        Ok(Endpoint {
            origin,
            registry: registry.to_owned(),
            mirror: false,
            verified: !insecure,
            foreign: false,
        })
    };
    schemes.iter().map(endpoint).collect()
}

/// Loopback registries and those of the settings.
pub(super) fn is_insecure(network: &Network, registry: &str) -> bool {
    let host = Origin::parse("https", registry).map(|origin| origin.host);
    let host = host.as_deref().unwrap_or(registry);
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    network.insecure.iter().any(|entry| {
        // People write URLs here as well.
        let entry = entry.split_once("://").map_or(&**entry, |(_, rest)| rest);
        let entry = entry.trim_end_matches('/');
        entry.eq_ignore_ascii_case(registry)
            || entry.eq_ignore_ascii_case(host)
            || address.is_some_and(|address| contains(entry, address))
    })
}

/// Whether a network in CIDR notation has the address.
fn contains(cidr: &str, address: IpAddr) -> bool {
    let Some((base, length)) = cidr.split_once('/') else {
        return false;
    };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(base), IpAddr::V6(address)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::dial::TcpDialer;

    #[test]
    fn names_and_settings_give_the_scheme() {
        let network = Network {
            dialer: Arc::new(TcpDialer),
            mirrors: vec!["https://mirror.example".into()],
            insecure: vec!["http://plain.example:5000/".into(), "10.0.0.0/8".into()],
            trust_roots_pem: String::new(),
            retry_delay: Duration::ZERO,
            patience: Duration::ZERO,
        };
        let both = |host: &str| vec![format!("https://{host}"), format!("http://{host}")];
        for (name, expected) in [
            ("localhost:5000/a", both("localhost:5000")),
            ("127.0.0.9:5000/a", both("127.0.0.9:5000")),
            ("[::1]:5000/a", both("[::1]:5000")),
            ("plain.example:5000/a", both("plain.example:5000")),
            ("plain.example/a", vec!["https://plain.example".into()]),
            ("10.1.2.3:5000/a", both("10.1.2.3:5000")),
            ("11.1.2.3/a", vec!["https://11.1.2.3".into()]),
            (
                "busybox",
                vec![
                    "https://mirror.example".into(),
                    "https://registry-1.docker.io".into(),
                ],
            ),
        ] {
            let found = endpoints(&network, &name.parse().unwrap()).unwrap();
            // What may speak plain HTTP may have any certificate, and nothing else may.
            assert!(
                found
                    .iter()
                    .all(|e| e.verified == (expected.len() < 2 || name == "busybox"))
            );
            let found: Vec<String> = found.iter().map(|e| e.origin.to_string()).collect();
            assert_eq!(found, expected, "{name}");
        }
        for wrong in [
            "https://m.example/prefix",
            "https://m.example/?q",
            "m.example",
        ] {
            let network = Network {
                mirrors: vec![wrong.into()],
                ..network.clone()
            };
            let error = endpoints(&network, &"busybox".parse().unwrap()).unwrap_err();
            assert!(matches!(error, RegistryError::Setting { .. }), "{wrong}");
        }
        for wrong in ["ftp://x/", "http://user@x/", "http://x:99999/", "/relative"] {
            assert_eq!(
                wrong.parse().ok().as_ref().and_then(Origin::of),
                None,
                "{wrong}"
            );
        }
    }
}
