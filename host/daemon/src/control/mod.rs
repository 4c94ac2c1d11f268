//! The daemon's own routes, on a socket of their own: `up`, `down`, `status` and the like.
//!
//! One request per connection: a line of JSON there, then lines of [`Event`] back, the last of
//! which ends the matter. Both ends are one program, so the form may change with it; `version`
//! lets a client of another build say so instead of guessing.

pub mod client;
pub mod server;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ports::{Published, Refused};
use crate::settings::ProxySettings;
use crate::vm::Failure;

/// The longest line either side accepts.
const MOST_LINE: usize = 256 << 10;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Is there a daemon? Answered by [`Event::Done`].
    Ping,
    /// Start the machine and wait until it can be used.
    Up {
        /// Where it was typed: shared with containers from now on.
        folder: Option<PathBuf>,
    },
    /// End the machine, then the daemon.
    Down {
        /// Without waiting for containers: as if its power was cut.
        force: bool,
    },
    /// How things are. Starts nothing.
    Status,
    /// Read the settings again; what takes effect at once does.
    Reload,
    /// End the daemon and leave the machine running, for another daemon to take over.
    Leave,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// First of all: a daemon that lives has taken the connection.
    Hello {
        /// Its version.
        version: String,
    },
    /// First of all, instead of a hello: the daemon is on its way down, and serves only those who
    /// ask how far it is or want it to hurry. Others wait for the end of this connection.
    Ending,
    /// What ends now: whoever waits for the end waits for these processes.
    Leaving {
        /// The daemon's own, the machine's and that of shared folders.
        processes: Vec<u32>,
    },
    /// What is being done now.
    Progress {
        /// In words.
        step: String,
    },
    /// Done; nothing follows.
    Done,
    /// The answer to [`Request::Status`]; nothing follows.
    Status(Box<Status>),
    /// Not done; nothing follows.
    Failed(Failure),
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// Where the Docker API is.
    pub docker_socket: PathBuf,
    /// The machine.
    pub machine: MachineStatus,
    /// Connections dialled for the engine: open now.
    pub dials_open: u32,
    /// Connections dialled for the engine since the daemon started.
    pub dials_total: u64,
    /// The open ones: target, and the registry they are for.
    pub dials: Vec<String>,
    /// The proxies that registries are reached through, without passwords.
    #[serde(default)]
    pub proxies: ProxySettings,
    /// Host folders that containers may be given.
    pub shares: Vec<String>,
    /// Ports that are listened on for containers.
    #[serde(default)]
    pub ports_published: usize,
    /// Them, each once for each of its addresses; the first 512.
    #[serde(default)]
    pub ports: Vec<Published>,
    /// Ports that containers want and this host has not for them.
    #[serde(default)]
    pub ports_refused: Vec<Refused>,
}

/// The machine's part of [`Status`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct MachineStatus {
    /// `off`, `booting`, `ready`, `waiting` (for room on the host's disk), `stopping` or `failed`.
    pub state: String,
    /// What is being done, or why it failed.
    pub detail: Option<String>,
    /// The hypervisor and its version.
    pub backend: Option<String>,
    /// `kvm` or `tcg`.
    pub accelerator: Option<String>,
    /// The machine's process.
    pub pid: Option<u32>,
    /// Milliseconds the boot took.
    pub boot_ms: Option<u64>,
    /// Milliseconds since it can be used.
    pub uptime_ms: Option<u64>,
    /// The guest's kernel.
    pub kernel: Option<String>,
    /// The agent's version.
    pub agent: Option<String>,
    /// Open streams between host and guest.
    pub streams: Option<u32>,
    /// Memory of the guest.
    pub memory_total: Option<u64>,
    /// Memory the guest uses.
    pub memory_used: Option<u64>,
    /// Size of the data disk.
    pub disk_total: Option<u64>,
    /// What of it is used.
    pub disk_used: Option<u64>,
}
