//! What a container runs: the `Config` of the API, and the body of create.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Empty, Healthcheck, HostConfig, NetworkingConfig, caseless, is_false, wire};

/// A command: a list of words, or one word given as a plain string.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StrSlice(pub Vec<String>);

impl<'de> Deserialize<'de> for StrSlice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Word(String),
            Words(Vec<String>),
        }
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::Word(word) => vec![word],
            Either::Words(words) => words,
        }))
    }
}

wire! {
    /// What a container runs.
    pub struct Config {
        /// Host name; the short id if empty.
        pub hostname: String,
        /// Domain name.
        pub domainname: String,
        /// User and group of the first process.
        pub user: String,
        /// Whether the creator meant to attach to standard input.
        pub attach_stdin: bool,
        /// Whether the creator meant to attach to standard output.
        pub attach_stdout: bool,
        /// Whether the creator meant to attach to standard error.
        pub attach_stderr: bool,
        /// Ports the container listens on, `80/tcp`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub exposed_ports: Option<BTreeMap<String, Empty>>,
        /// Whether there is a terminal.
        pub tty: bool,
        /// Whether standard input is open.
        pub open_stdin: bool,
        /// Whether standard input closes when its one client goes.
        pub stdin_once: bool,
        /// `NAME=value`.
        pub env: Option<Vec<String>>,
        /// Arguments, or the program if there is no entrypoint.
        pub cmd: Option<StrSlice>,
        /// Health probe.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<Healthcheck>,
        /// Windows only; kept for the round trip.
        #[serde(skip_serializing_if = "is_false")]
        pub args_escaped: bool,
        /// The image as the user named it.
        pub image: String,
        /// Paths that get an anonymous volume.
        pub volumes: Option<BTreeMap<String, Empty>>,
        /// Where the program starts.
        pub working_dir: String,
        /// Program and its first arguments.
        pub entrypoint: Option<StrSlice>,
        /// Whether the container has no network.
        #[serde(skip_serializing_if = "is_false")]
        pub network_disabled: bool,
        /// The address of the first interface (older than 1.44).
        #[serde(skip_serializing_if = "String::is_empty")]
        pub mac_address: String,
        /// Triggers of the image.
        pub on_build: Option<Vec<String>>,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// The signal that asks the container to stop.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub stop_signal: String,
        /// Seconds from that signal to SIGKILL.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stop_timeout: Option<i64>,
        /// Shell for the shell forms.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub shell: Option<Vec<String>>,
    }
}

/// The body of `POST /containers/create`.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// What to run.
    pub config: Config,
    /// How to run it here.
    pub host_config: HostConfig,
    /// Its networks.
    pub networking_config: NetworkingConfig,
}

// The first part's fields stand beside the others. serde's own flattening would match names exactly.
impl<'de> Deserialize<'de> for CreateRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Beside {
            host_config: Option<HostConfig>,
            networking_config: Option<NetworkingConfig>,
        }
        let json = serde_json::Value::deserialize(deserializer)?;
        let beside: Beside = caseless::read(json.clone()).map_err(D::Error::custom)?;
        Ok(Self {
            config: caseless::read(json).map_err(D::Error::custom)?,
            host_config: beside.host_config.unwrap_or_default(),
            networking_config: beside.networking_config.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_be_a_string_or_a_list() {
        let config: Config =
            serde_json::from_str(r#"{"Cmd":"ls","Entrypoint":["a","b"]}"#).unwrap();
        assert_eq!(config.cmd, Some(StrSlice(vec!["ls".into()])));
        assert_eq!(config.entrypoint.unwrap().0, ["a", "b"]);
    }

    #[test]
    fn every_field_may_be_null() {
        let text = serde_json::to_string(&Config::default()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let nulls: serde_json::Map<_, _> = value
            .as_object()
            .unwrap()
            .keys()
            .map(|k| (k.clone(), serde_json::Value::Null))
            .collect();
        let config: Config = serde_json::from_value(nulls.into()).unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn create_reads_config_beside_host_config() {
        let body = r#"{"Image":"busybox","Cmd":null,"Labels":null,
            "HostConfig":{"Binds":null,"Memory":5,"ConsoleSize":[0,0],"MemorySwappiness":-1},
            "NetworkingConfig":null}"#;
        let request: CreateRequest = serde_json::from_str(body).unwrap();
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.host_config.memory, 5);
        let body = r#"{"image":"busybox","healthCheck":{"Test":["CMD"],"Interval":null,"Timeout":null,
            "StartPeriod":null,"StartInterval":null,"Retries":null},"hostconfig":{"memory":6}}"#;
        let request: CreateRequest = serde_json::from_str(body).unwrap();
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.config.healthcheck.unwrap().interval, 0);
        assert_eq!(request.host_config.memory, 6);
    }
}
