//! The language between a daemon and its machine process: one JSON object a packet, descriptors
//! beside it.
//!
//! Both ends are the same program, but not always of the same build: a daemon may take over the
//! machine of the version before it. So unknown fields are ignored, and an unknown message is an
//! [`Error::Wire`] to its sender rather than the end of the connection.

use serde::{Deserialize, Serialize};

use crate::{Error, ExitReason, Secret, Status, VmSpec};

/// The longest packet; a console tail of 16 KiB escaped six-fold still fits.
pub const MAX_PACKET: usize = 128 << 10;
/// The most descriptors beside one packet; the kernel's own limit is 253.
pub const MAX_FDS: usize = 64;
/// The most bytes that may go to the guest before those of a stream.
pub const MAX_FIRST: usize = 4 << 10;

/// The first packet to a new machine process. Beside it, in this order: the lock, the listening
/// socket, kernel, initramfs, console, then disks, their logs, shares, the network, and what is only to be held.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// The machine.
    pub spec: VmSpec,
    /// Kept for the next daemon.
    pub secret: Secret,
}

/// From a daemon.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the daemon, repeated in the answer.
    pub id: u64,
    /// What it wants.
    pub what: Want,
}

/// What a daemon can want.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Want {
    /// Join the stream beside this packet to a port of the guest.
    Join {
        /// The vsock port.
        port: u32,
        /// What the guest reads before the stream's own bytes; at most [`MAX_FIRST`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        first: Vec<u8>,
    },
    /// Say how things are.
    Status,
    /// End the machine.
    Kill,
    /// Note that the guest said `bye`: its end is no crash.
    ByeSeen {
        /// The guest's word for it.
        reason: String,
    },
}

/// To a daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The first packet on a connection: it is the active one now.
    Attached {
        /// The secret of this boot.
        secret: Secret,
    },
    /// The machine could not be started; the process ends.
    Failed {
        /// Why.
        error: Error,
    },
    /// The answer to a request. Beside a failed `Join` the stream comes back.
    Answer {
        /// Of the request.
        id: u64,
        /// What came of it.
        result: Result<Answer, Error>,
    },
    /// The guest opened a stream; it is beside this packet.
    Incoming {
        /// The host's port it asked for.
        port: u32,
    },
    /// The machine ended, and this process does so now.
    Exited {
        /// Why.
        reason: ExitReason,
    },
    /// Another daemon came; this connection is closed.
    TakenOver,
}

/// What a request is answered with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Answer {
    /// Done.
    Done,
    /// The answer to `Status`.
    Status {
        /// How things are.
        status: Status,
    },
}
