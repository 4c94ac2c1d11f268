//! What is kept of a container: what create made, and what its last run left behind.

use std::collections::BTreeMap;

use lighter_images::Digest;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::{Config, EndpointSettings, HostConfig};
use crate::mounts::Mount;

/// What create made. Changed only by rename and update.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Name, without the slash.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// The image's id.
    pub image_id: String,
    /// The image's layers, lowest first.
    pub layers: Vec<Digest>,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it runs.
    pub config: Config,
    /// How it runs here.
    pub host_config: HostConfig,
    /// Its networks.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its first process runs.
    Running,
    /// Its processes are stopped where they are.
    Paused,
    /// It ended and will be started again.
    Restarting,
    /// It is being removed.
    Removing,
    /// It ended.
    Exited,
    /// Removing it failed half way.
    Dead,
}

impl Status {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether there is a process.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// What the current or last run is or left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunState {
    /// Where it is in its life.
    pub status: Status,
    /// The first process while there is one.
    pub pid: i32,
    /// How the last run ended.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom_killed: bool,
    /// When it was last started.
    pub started: Timestamp,
    /// When it last ended.
    pub finished: Timestamp,
    /// How often it was started again by its policy.
    pub restart_count: u32,
    /// How often of late: the pause before the next time doubles with it.
    pub backoff: u32,
    /// Whether its user stopped it: it stays so when the machine comes back.
    pub manually_stopped: bool,
    /// The last result of its health check.
    pub health: Option<Health>,
}

/// State of the health check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last probes, oldest first.
    pub log: Vec<Probe>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Probe {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit code, -1 if it took too long.
    pub exit_code: i32,
    /// The beginning of its output.
    pub output: String,
}
