//! Which proxy a connection for the engine goes through, chosen as dockerd chooses: by what the
//! settings say, else by the daemon's own environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` and
//! their lower case).
//!
//! ```text
//!   dial ──► Proxies::choose ──► none: straight to the target
//!                           └──► address ──► tunnel (CONNECT) ──► the target's bytes
//! ```
//!
//! Called by `dial` for every connection, and by whoever shows the proxies. A password must never
//! leave this folder but to the proxy itself: everything else gets [`masked`] text.
//!
//! The matcher of `hyper-util` knows neither ports nor Go's rule that loopback is never proxied,
//! so the rules are our own.

mod address;
mod bypass;
mod tunnel;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use address::{AddressError, ProxyAddress, masked};
use bypass::Bypass;
pub use tunnel::{TunnelError, tunnel};

/// The setting `proxies`, under the names that `daemon.json` gives its parts. Empty means what the
/// daemon's environment says.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ProxySettings {
    /// For registries that are spoken to in plain HTTP.
    pub http_proxy: String,
    /// For registries that are spoken to with TLS.
    pub https_proxy: String,
    /// Hosts that are reached without a proxy.
    pub no_proxy: String,
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySettings")
            .field("http_proxy", &masked(&self.http_proxy))
            .field("https_proxy", &masked(&self.https_proxy))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// The proxies in force.
#[derive(Debug, Default)]
pub struct Proxies {
    said: ProxySettings,
    bypass: Bypass,
}

impl Proxies {
    /// What the settings say, and the environment where they say nothing.
    #[must_use]
    pub fn new(
        settings: &ProxySettings,
        environment: impl Fn(&'static str) -> Option<String>,
    ) -> Self {
        let pick = |set: &str, names: [&'static str; 2]| match set.trim() {
            "" => {
                let found = names.iter().filter_map(|name| environment(name));
                found
                    .map(|text| text.trim().to_owned())
                    .find(|t| !t.is_empty())
            }
            set => Some(set.to_owned()),
        };
        let said = ProxySettings {
            http_proxy: pick(&settings.http_proxy, ["HTTP_PROXY", "http_proxy"])
                .unwrap_or_default(),
            https_proxy: pick(&settings.https_proxy, ["HTTPS_PROXY", "https_proxy"])
                .unwrap_or_default(),
            no_proxy: pick(&settings.no_proxy, ["NO_PROXY", "no_proxy"]).unwrap_or_default(),
        };
        Self {
            bypass: Bypass::parse(&said.no_proxy),
            said,
        }
    }

    /// The same with this process's own environment.
    #[must_use]
    pub fn here(settings: &ProxySettings) -> Self {
        Self::new(settings, |name| std::env::var(name).ok())
    }

    /// The proxy for a target; none where it is reached without.
    ///
    /// # Errors
    /// What is named as a proxy is none that can be used.
    pub fn choose(
        &self,
        host: &str,
        port: u16,
        tls: bool,
    ) -> Result<Option<ProxyAddress>, AddressError> {
        let text = match tls {
            true => &self.said.https_proxy,
            false => &self.said.http_proxy,
        };
        if text.is_empty() || self.bypass.covers(host, port) {
            return Ok(None);
        }
        text.parse().map(Some)
    }

    /// What can be shown to anybody: without passwords.
    #[must_use]
    pub fn shown(&self) -> ProxySettings {
        ProxySettings {
            http_proxy: masked(&self.said.http_proxy),
            https_proxy: masked(&self.said.https_proxy),
            no_proxy: self.said.no_proxy.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        let value = match name {
            "HTTPS_PROXY" => "http://upper.test:3128",
            "https_proxy" | "http_proxy" => "http://ann:secret@lower.test",
            "NO_PROXY" => "",
            "no_proxy" => "corp.test",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn settings_win_over_the_environment_and_capitals_over_small_letters() {
        let name = |proxies: &Proxies, host, tls| {
            let chosen = proxies.choose(host, 443, tls).unwrap();
            chosen.map(|proxy| proxy.host)
        };
        let proxies = Proxies::new(&ProxySettings::default(), environment);
        assert_eq!(name(&proxies, "r.test", true).unwrap(), "upper.test");
        assert_eq!(name(&proxies, "r.test", false).unwrap(), "lower.test");
        assert_eq!(name(&proxies, "r.corp.test", true), None);
        assert_eq!(name(&proxies, "localhost", true), None);
        let set = ProxySettings {
            https_proxy: "set.test:8080".to_owned(),
            no_proxy: "other.test".to_owned(),
            ..ProxySettings::default()
        };
        let proxies = Proxies::new(&set, environment);
        assert_eq!(name(&proxies, "r.corp.test", true).unwrap(), "set.test");
        assert_eq!(name(&proxies, "other.test", true), None);
        assert_eq!(name(&proxies, "r.test", false).unwrap(), "lower.test");
        let none = Proxies::new(&ProxySettings::default(), |_| None);
        assert_eq!(name(&none, "r.test", true), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        let proxies = Proxies::new(&ProxySettings::default(), environment);
        assert_eq!(proxies.shown().http_proxy, "http://xxxxx:xxxxx@lower.test");
        assert!(!format!("{proxies:?}").contains("secret"));
        let chosen = proxies.choose("r.test", 80, false).unwrap().unwrap();
        assert!(!format!("{chosen:?} {chosen}").contains("secret"));
    }
}
