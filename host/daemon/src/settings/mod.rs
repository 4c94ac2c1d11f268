//! The settings: one typed TOML file, read by the daemon, edited by hand or by `lighter config`.
//!
//! An unknown key is an error that proposes the nearest known one, never ignored: a misspelt
//! limit that silently does nothing is worse than a daemon that says so. Editing keeps comments.

mod check;
mod edit;
mod error;
pub mod keys;
mod removal;
mod size;
mod subnets;

use std::io;
use std::path::Path;

use lighter_machine::Backend;
use lighter_platform::nearest;
use lighter_protocol::EngineSettings;
use serde::{Deserialize, Serialize};

pub use crate::host_port::proxy::{ProxySettings, masked};
pub use edit::{Change, change, get};
pub use error::{SettingsError, Wrong};
pub use keys::{Effect, KEYS, Key, Kind};
pub use size::{ByteSize, SizeError};

use check::{LEAST_MEMORY, MOST_CPUS};

/// Everything that can be set; what the file leaves out has its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Processors of the machine; none means all of the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory of the machine; none means half of the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Whether the machine's memory is asked for in huge pages, where Lighter's own monitor runs it.
    #[serde(rename = "huge-pages")]
    pub huge_pages: bool,
    /// Size of the data disk.
    pub disk: ByteSize,
    /// What runs the machine.
    pub backend: Backend,
    /// Host folders containers may be given, beside the ones that always are.
    pub shares: Vec<String>,
    /// The proxies that registries are reached through.
    pub proxies: ProxySettings,
    /// The engine's own settings, under the names `daemon.json` gives them.
    pub engine: EngineSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cpus: None,
            memory: None,
            huge_pages: false,
            disk: ByteSize(64 << 30),
            backend: Backend::Auto,
            shares: Vec::new(),
            proxies: ProxySettings::default(),
            engine: EngineSettings::default(),
        }
    }
}

impl Settings {
    /// Reads the file; one that is not there means the defaults.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SettingsError::Read {
                path: path.to_path_buf(),
                source,
            }),
        }
    }

    /// Reads settings from text; `path` is for messages.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let syntax = |error: toml::de::Error| SettingsError::Syntax {
            path: path.to_path_buf(),
            message: error.to_string().trim().to_owned(),
        };
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        check_names(&table, "")?;
        match toml::from_str::<Self>(text) {
            Ok(settings) => error::of(check::wrong(&settings)).map(|()| settings),
            Err(first) => match all_wrong(table).map_err(syntax)? {
                // Of one alone its place in the file is told.
                all if all.len() < 2 => Err(syntax(first)),
                several => error::of(several).and(Err(syntax(first))),
            },
        }
    }

    /// Every value of the text that cannot be.
    fn judge(text: &str, path: &Path) -> Result<Vec<Wrong>, SettingsError> {
        let syntax = |error: toml::de::Error| SettingsError::Syntax {
            path: path.to_path_buf(),
            message: error.to_string().trim().to_owned(),
        };
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        check_names(&table, "")?;
        all_wrong(table).map_err(syntax)
    }

    /// Processors the machine gets on this host.
    #[must_use]
    pub fn effective_cpus(&self) -> u32 {
        let host = std::thread::available_parallelism()
            .map_or(1, |n| u32::try_from(n.get()).unwrap_or(MOST_CPUS));
        self.cpus.unwrap_or(host).clamp(1, MOST_CPUS)
    }

    /// Memory the machine gets on this host, in whole MiB.
    #[must_use]
    pub fn effective_memory(&self) -> u64 {
        const MIB: u64 = 1 << 20;
        let half = lighter_platform::sys::total_memory_bytes() / 2;
        let wanted = self.memory.map_or(half, |memory| memory.0);
        (wanted / MIB * MIB).max(LEAST_MEMORY)
    }
}

fn all_wrong(mut table: toml::Table) -> Result<Vec<Wrong>, toml::de::Error> {
    let mut all = check::misfits(&mut table);
    all.extend(check::wrong(&table.try_into()?));
    Ok(all)
}

/// The sections of the file.
const SECTIONS: &[&str] = &["engine", "proxies"];

/// Refuses names that are no settings. `engine.log-opts` is the user's own table.
fn check_names(table: &toml::Table, prefix: &str) -> Result<(), SettingsError> {
    for (name, value) in table {
        let full = format!("{prefix}{name}");
        if keys::find(&full).is_some() {
            continue;
        }
        match value {
            toml::Value::Table(inner) if SECTIONS.contains(&full.as_str()) => {
                check_names(inner, &format!("{full}."))?;
            }
            _ => return Err(unknown(full)),
        }
    }
    Ok(())
}

fn unknown(key: String) -> SettingsError {
    let names = KEYS.iter().map(|key| key.name);
    // `registry-mirrors` at the top is nearest to the same name in its section.
    let in_section = KEYS
        .iter()
        .map(|k| k.name)
        .find(|n| n.split_once('.').is_some_and(|(_, name)| name == key));
    let nearest = in_section.or_else(|| nearest(&key, names));
    SettingsError::Unknown { key, nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse(text, Path::new("config.toml"))
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(parse("").unwrap(), Settings::default());
        assert_eq!(Settings::default().disk.0, 64 << 30);
    }

    #[test]
    fn all_kinds_of_values_are_read() {
        let settings = parse(
            "cpus = 2\nmemory = '2GiB'\nshares = ['/srv:ro']\n[engine]\n\
             registry-mirrors = ['https://m.test']\nlog-opts = { max-size = '10m' }\n\
             default-address-pools = [{ base = '10.0.0.0/8', size = 24 }]\n",
        )
        .unwrap();
        assert_eq!(
            (settings.cpus, settings.memory),
            (Some(2), Some(ByteSize(2 << 30)))
        );
        assert_eq!(settings.engine.log_opts["max-size"], "10m");
        assert_eq!(settings.engine.default_address_pools[0].size, 24);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest() {
        for (text, expected) in [
            ("memroy = '1g'", Some("memory")),
            (
                "[engine]\nregistry-mirror = []",
                Some("engine.registry-mirrors"),
            ),
            ("registry-mirrors = []", Some("engine.registry-mirrors")),
            ("[proxies]\nhttps-prox = ''", Some("proxies.https-proxy")),
            ("no-proxy = ''", Some("proxies.no-proxy")),
            ("quux = 1", None),
            // daemon.json has it; a setting that changed nothing would be a lie.
            ("[engine]\nmax-concurrent-downloads = 5", None),
        ] {
            match parse(text).unwrap_err() {
                SettingsError::Unknown { nearest, .. } => assert_eq!(nearest, expected, "{text}"),
                other => panic!("{text}: {other}"),
            }
        }
    }

    #[test]
    fn values_out_of_bounds_name_their_key() {
        for text in [
            "cpus = 0",
            "memory = '1m'",
            "memory = '4096t'",
            "disk = '1m'",
            "shares = ['work']",
            "[proxies]\nhttps-proxy = 'https://h'",
            "[proxies]\nhttp-proxy = 'http://h:x'",
            "[engine]\nip = 'localhost'",
            "[engine]\nip = '127.0.0.1:80'",
        ] {
            assert!(
                matches!(parse(text), Err(SettingsError::Value { .. })),
                "{text}"
            );
        }
        assert!(matches!(
            parse("cpus = 'two'"),
            Err(SettingsError::Syntax { .. })
        ));
    }

    #[test]
    fn all_values_that_cannot_be_are_named() {
        let several = |text: &str| match parse(text).unwrap_err() {
            SettingsError::Several(wrong) => wrong.iter().map(|wrong| wrong.key).collect(),
            other => panic!("{text}: {other}"),
        };
        for (text, keys) in [
            ("disk = '1m'\nmemory = '1m'", vec!["memory", "disk"]),
            (
                "memory = 5\ndisk = 'much'\n[engine]\nip = 'x'",
                vec!["memory", "disk", "engine.ip"],
            ),
            (
                "[engine]\nfixed-cidr = 'x'\nfixed-cidr-v6 = 'y'\nbip = '10.9.0.0/24'",
                vec!["engine.bip", "engine.fixed-cidr", "engine.fixed-cidr-v6"],
            ),
        ] {
            let found: Vec<_> = several(text);
            assert_eq!(found, keys, "{text}");
        }
    }

    #[test]
    fn every_key_is_known_to_the_typed_settings() {
        let written = toml::Value::try_from(Settings {
            cpus: Some(1),
            memory: Some(ByteSize(LEAST_MEMORY)),
            engine: EngineSettings {
                shutdown_timeout: Some(1),
                host_network_ports: Some(true),
                ..EngineSettings::default()
            },
            ..Settings::default()
        })
        .unwrap();
        for key in KEYS {
            let found = match key.name.split_once('.') {
                Some((section, inner)) => written[section].get(inner).is_some(),
                None => written.get(key.name).is_some(),
            };
            assert!(found, "{}", key.name);
        }
    }
}
