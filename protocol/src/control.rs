//! Messages on the control stream.

use serde::{Deserialize, Serialize};

use crate::message::Check;
use crate::{BootSettings, Route, Secret};

/// Longest text a guest may make the host show or log.
const MAX_TEXT: usize = 4096;

fn text(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_TEXT {
        Err("text is too long")
    } else {
        Ok(())
    }
}

/// Host to guest, first: who calls and how this boot is to be.
///
/// The first one that a boot accepts sets its secret; later ones must bring the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The host's protocol version.
    pub version: u16,
    /// The secret of this boot.
    pub secret: Secret,
    /// What the guest is to be.
    pub boot: Box<BootSettings>,
}

impl Check for Hello {
    const VERSIONED: bool = true;
}

/// Guest to host: the hello was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The guest's protocol version.
    pub version: u16,
    /// The agent's own version.
    pub agent_version: String,
    /// The kernel's random id of this boot.
    pub boot_id: String,
    /// The kernel's release.
    pub kernel: String,
}

impl Check for Welcome {
    const VERSIONED: bool = true;

    fn check(&self) -> Result<(), &'static str> {
        text(&self.agent_version)?;
        text(&self.boot_id)?;
        text(&self.kernel)
    }
}

/// Guest to host: the hello was not accepted. The guest closes the stream after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The guest's protocol version, so that a host can say which side is older.
    pub version: u16,
    /// Why, for programs.
    pub code: RefusedCode,
    /// Why, for people.
    pub message: String,
}

impl Check for Refused {
    fn check(&self) -> Result<(), &'static str> {
        text(&self.message)
    }
}

/// Why a hello was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedCode {
    /// The first frame was no readable hello.
    Malformed,
    /// No protocol version both sides speak.
    Version,
    /// Not this boot's secret.
    Secret,
    /// The data disk belongs to another machine.
    WrongDisk,
    /// The data disk cannot be used.
    Disk,
    /// The engine cannot start.
    Engine,
    /// The guest is on its way down.
    ShuttingDown,
    /// A reason newer than this program.
    #[serde(other)]
    Other,
}

/// Either way: are you there?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Comes back in the answer.
    pub seq: u64,
}

impl Check for Health {}

/// Answer to [`Health`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthOk {
    /// As asked.
    pub seq: u64,
    /// How far the engine is.
    #[serde(default)]
    pub engine: EngineState,
}

impl Check for HealthOk {
    fn check(&self) -> Result<(), &'static str> {
        match &self.engine {
            EngineState::Failed { message } => text(message),
            _ => Ok(()),
        }
    }
}

/// How far the engine is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum EngineState {
    /// Opening its data; API connections wait.
    #[default]
    Starting,
    /// Serving the API.
    Ready,
    /// Could not be opened.
    Failed {
        /// Why, for people.
        message: String,
    },
    /// Stopping containers.
    Stopping,
    /// A state newer than this program.
    #[serde(other)]
    Other,
}

/// Host to guest: the time, at start of day and after the host slept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Nanoseconds since 1970.
    pub unix_ns: u64,
}

impl Check for Clock {}

/// The host's own routes, all of them, whenever they change: networks of containers keep away from where they lead.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Routes {
    /// In no order.
    pub routes: Vec<Route>,
}

impl Check for Routes {}

/// Host to guest: how is the machine?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Comes back in the answer.
    pub seq: u64,
}

impl Check for Status {}

/// Answer to [`Status`]. Figures that cannot be had are 0.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusOk {
    /// As asked.
    pub seq: u64,
    /// How far the engine is.
    pub engine: EngineState,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// Memory the guest has.
    pub memory_total_bytes: u64,
    /// Memory the guest could give to new programs.
    pub memory_available_bytes: u64,
    /// Size of the data disk's file system.
    pub disk_total_bytes: u64,
    /// What is free of it.
    pub disk_free_bytes: u64,
    /// How often the agent was started in this boot.
    pub agent_starts: u32,
    /// Processes in containers' cgroups.
    pub processes: u32,
}

impl Check for StatusOk {
    fn check(&self) -> Result<(), &'static str> {
        match &self.engine {
            EngineState::Failed { message } => text(message),
            _ => Ok(()),
        }
    }
}

/// Host to guest: stop containers, then the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// The longest that stopping containers may take.
    pub timeout_ms: u64,
    /// Why.
    pub reason: ShutdownReason,
}

impl Check for Shutdown {}

/// Why the host stops the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownReason {
    /// Somebody asked.
    User,
    /// Nothing ran.
    Idle,
    /// The host itself goes down.
    Host,
    /// To start again with other settings or a new image.
    Restart,
    /// A reason newer than this program.
    #[serde(other)]
    Other,
}

/// Guest to host: everything is stopped and synced; the next thing is the end.
///
/// An end without it is a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Why the machine ends.
    pub reason: ByeReason,
}

impl Check for Bye {
    fn check(&self) -> Result<(), &'static str> {
        match &self.reason {
            ByeReason::Failed { message } => text(message),
            _ => Ok(()),
        }
    }
}

/// Why the machine ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum ByeReason {
    /// The host asked.
    Shutdown,
    /// The guest cannot go on.
    Failed {
        /// Why, for people.
        message: String,
    },
    /// A reason newer than this program.
    #[serde(other)]
    Other,
}

/// Host to guest: [`Bye`] was seen and noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ByeOk {}

impl Check for ByeOk {}
