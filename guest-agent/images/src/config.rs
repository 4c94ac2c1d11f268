//! The image configuration: the JSON document whose digest is the image's ID.
//!
//! The bytes are kept as they came (the ID depends on them); this is the part the engine reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Largest configuration accepted; dockerd's own limit for manifests and configurations.
pub const MAX_CONFIG_BYTES: usize = 4 << 20;

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `v8` and the like.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// RFC 3339; kept as text, because builders write many forms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Free text of the builder.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The program that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    /// How containers of it run.
    #[serde(default, deserialize_with = "null_default")]
    pub config: RunConfig,
    /// Its layers.
    #[serde(default)]
    pub rootfs: RootFs,
    /// How it came to be.
    #[serde(default, deserialize_with = "null_default")]
    pub history: Vec<History>,
}

/// How containers of an image run, unless told otherwise. `None` and an empty list differ on the wire.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// User (and group).
    #[serde(deserialize_with = "null_default")]
    pub user: String,
    /// `80/tcp` → `{}`.
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Program and its first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// Arguments, or the program if there is no entrypoint.
    pub cmd: Option<Vec<String>>,
    /// Paths that get an anonymous volume.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Where the program starts.
    #[serde(deserialize_with = "null_default")]
    pub working_dir: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Signal that asks the program to stop.
    #[serde(deserialize_with = "null_default")]
    pub stop_signal: String,
    /// Seconds before it is killed.
    pub stop_timeout: Option<i64>,
    /// Health probe.
    pub healthcheck: Option<Healthcheck>,
    /// Shell for the shell forms.
    pub shell: Option<Vec<String>>,
    /// Triggers for builds on top.
    pub on_build: Option<Vec<String>>,
    /// Whether the command is already escaped (Windows).
    #[serde(deserialize_with = "null_default")]
    pub args_escaped: bool,
}

/// The `{}` of port and volume sets; `null` is read as the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<Braces>")]
pub struct Empty {}

/// `{}`, with whatever is in it.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Braces {}

impl From<Option<Braces>> for Empty {
    fn from(_: Option<Braces>) -> Self {
        Self {}
    }
}

/// A health probe; times are nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", …]`.
    pub test: Option<Vec<String>>,
    /// Time between probes.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_default")]
    pub interval: i64,
    /// Time a probe may take.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_default")]
    pub timeout: i64,
    /// Time after the start in which failures do not count.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_default")]
    pub start_period: i64,
    /// Time between probes in the start period.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_default")]
    pub start_interval: i64,
    /// Failures in a row until unhealthy.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_default")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The layers, lowest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digests of the uncompressed tars.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, as text.
    pub created: Option<String>,
    /// The command.
    pub created_by: String,
    /// Who.
    pub author: String,
    /// Free text.
    pub comment: String,
    /// Whether the step made no layer.
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Parses the document; size is checked here, the digest by whoever fetched it.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        use serde::de::Error as _;
        if bytes.len() > MAX_CONFIG_BYTES {
            return Err(serde_json::Error::custom(
                "image configuration is larger than 4 MiB",
            ));
        }
        serde_json::from_slice(bytes)
    }
}

/// Builders write `null` where they mean nothing.
fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_unknown_fields_are_taken() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"User":null,"Env":null,
            "Cmd":["sh"],"Entrypoint":[],"Volumes":{"/data":{}},"X":1},"rootfs":{"type":"layers",
            "diff_ids":null},"history":null,"created":"2026-01-01T00:00:00Z","moby.x":1}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!(config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!(config.config.entrypoint, Some(vec![]));
        assert!(
            config
                .config
                .volumes
                .is_some_and(|v| v.contains_key("/data"))
        );
        assert!(ImageConfig::parse(&vec![b' '; MAX_CONFIG_BYTES + 1]).is_err());
        assert_eq!(
            ImageConfig::parse(br#"{"config":null}"#).unwrap().config,
            RunConfig::default()
        );
    }
}
