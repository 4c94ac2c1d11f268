//! The supervisor's wire and its client side, for the one program that PID 1 runs: the agent.
//!
//! `lighter-init` (this crate's binary) holds what must outlive the agent: descriptors under
//! names, and the exit statuses of every process whose parent it is. The agent reaches it over
//! two `SOCK_SEQPACKET` pairs that it inherits:
//!
//! * requests ([`Supervisor`]): one packet asked, one answered, strictly in turn;
//! * events ([`Events`]): exits as they happen.
//!
//! ```text
//!   engine ──clone3(CLONE_PARENT)──► container process, a child of init
//!   init   ──waitpid──► journal ──events──► engine ──forget──► journal
//! ```
//!
//! An exit stays in the journal until it is forgotten, so one that happened while no agent ran
//! is found by the next. Delivery is therefore *at least once*: the same [`Exit`] may come from
//! [`Supervisor::exits`] and from [`Events`].
//!
//! [`vsock`] and [`disk`] are the few calls that need `unsafe` on the agent's behalf.

pub mod client;
pub mod disk;
pub mod packet;
pub mod vsock;
pub mod wire;

pub use client::{Events, Supervisor, SupervisorError, take_inherited};
pub use wire::{End, Exit, Info};

/// The descriptor the agent finds the request socket at.
pub const SUPERVISOR_FD: i32 = 3;
/// The descriptor the agent finds the event socket at.
pub const EVENTS_FD: i32 = 4;

/// The agent's exit code where its engine could not be opened: however long it took to find out, it
/// was no start.
pub const NOT_OPENED: u8 = 3;

/// Names in the descriptor store that init itself fills.
pub mod name {
    /// Listener of the control link: vsock, or a Unix socket in native mode.
    pub const LISTEN_CONTROL: &str = "listen/control";
    /// Listener of the API for the host: vsock, or a Unix socket in native mode.
    pub const LISTEN_API: &str = "listen/api";
    /// Listener for clients of published ports, as the host hands them on: vsock, or a Unix socket in native mode.
    pub const LISTEN_PUBLISHED: &str = "listen/published";
    /// Listener of the API for containers: a Unix socket.
    pub const LISTEN_DOCKER: &str = "listen/docker.sock";
    /// The network namespace that containers know as the host's.
    pub const HOST_NETWORK: &str = "ns/hostnet";
}
