//! The settings: one typed TOML file, read by the daemon, edited by hand or by `lighter config`.
//!
//! An unknown key is an error that proposes the nearest known one, never ignored: a misspelt
//! limit that silently does nothing is worse than a daemon that says so. Editing keeps comments.

mod edit;
pub mod keys;
mod removal;
mod size;
mod subnets;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use lighter_machine::Backend;
use lighter_platform::{DirError, nearest};
use lighter_protocol::EngineSettings;
use serde::{Deserialize, Serialize};

use crate::host_port::proxy::ProxyAddress;

pub use crate::host_port::proxy::{ProxySettings, masked};
pub use edit::{Change, change, get};
pub use keys::{Effect, KEYS, Key, Kind};
pub use size::{ByteSize, SizeError};

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

/// Least memory a machine is given.
const LEAST_MEMORY: u64 = 128 << 20;
/// Least size of the data disk.
const LEAST_DISK: u64 = 1 << 30;
/// Largest size of the data disk: 16 TiB is the limit of ext4 with 4 KiB blocks.
const LARGEST_DISK: u64 = 16 << 40;
/// Most processors the guest's kernel is built for.
const MOST_CPUS: u32 = 64;

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The settings file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The file is no TOML, or a value has the wrong type.
    #[error("`{}` is not valid: {message}", path.display())]
    Syntax {
        /// The settings file.
        path: PathBuf,
        /// The parser's words.
        message: String,
    },
    /// A key that does not exist.
    #[error("there is no setting `{key}`")]
    Unknown {
        /// What was written.
        key: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value out of its bounds.
    #[error("`{key}` cannot be `{value}`: {why}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What was written.
        value: String,
        /// What it must be.
        why: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] DirError),
}

impl SettingsError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown {
                nearest: Some(name),
                ..
            } => format!("did you mean `{name}`?"),
            Self::Unknown { .. } => "see all settings with `lighter config list`".to_owned(),
            Self::Read { path, .. } | Self::Syntax { path, .. } => {
                format!(
                    "correct `{}`, or move it away to start from the defaults",
                    path.display()
                )
            }
            // Of another subnet neither can be without the other.
            Self::Value {
                key: "engine.fixed-cidr",
                ..
            } => "set another, or both at once: `lighter config set engine.bip VALUE engine.fixed-cidr VALUE`; \
                  `lighter config unset engine.fixed-cidr` takes it back"
                .to_owned(),
            Self::Value { key, .. } => {
                format!("set another with `lighter config set {key} VALUE`")
            }
            Self::Write(error) => error.hint(),
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
        let settings: Self = toml::from_str(text).map_err(syntax)?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        let refuse =
            |key, value: String, why: String| Err(SettingsError::Value { key, value, why });
        if let Some(cpus) = self.cpus
            && !(1..=MOST_CPUS).contains(&cpus)
        {
            return refuse(
                "cpus",
                cpus.to_string(),
                format!("it must be 1 to {MOST_CPUS}"),
            );
        }
        if let Some(memory) = self.memory
            && memory.0 < LEAST_MEMORY
        {
            return refuse(
                "memory",
                memory.to_string(),
                "it must be at least 128MiB".to_owned(),
            );
        }
        let host = lighter_platform::sys::total_memory_bytes();
        if let Some(memory) = self.memory
            && host > 0
            && memory.0 > host
        {
            return refuse(
                "memory",
                memory.to_string(),
                format!("this host has {} MiB", host >> 20),
            );
        }
        if !(LEAST_DISK..=LARGEST_DISK).contains(&self.disk.0) {
            return refuse(
                "disk",
                self.disk.to_string(),
                "it must be 1GiB to 16TiB".to_owned(),
            );
        }
        for share in &self.shares {
            if !share.starts_with('/') && !share.starts_with('~') && !Path::new(share).is_absolute()
            {
                return refuse(
                    "shares",
                    share.clone(),
                    "it must be an absolute path".to_owned(),
                );
            }
        }
        let proxies = &self.proxies;
        for (key, proxy) in [
            ("proxies.http-proxy", &proxies.http_proxy),
            ("proxies.https-proxy", &proxies.https_proxy),
        ] {
            if !proxy.trim().is_empty()
                && let Err(error) = proxy.trim().parse::<ProxyAddress>()
            {
                return refuse(key, masked(proxy), error.to_string());
            }
        }
        let ip = &self.engine.ip;
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
            let why = "it must be an address of this host, such as `127.0.0.1`".to_owned();
            return refuse("engine.ip", ip.clone(), why);
        }
        match subnets::wrong(&self.engine) {
            Some((key, value, why)) => refuse(key, value, why),
            None => Ok(()),
        }
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
