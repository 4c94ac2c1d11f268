//! What can go wrong between the daemon and the guest's machine.
//!
//! The machine process answers with these over its socket, so they are plain data; the text for
//! people is made at the edge from [`Error`]'s words and [`Error::hint`].

use serde::{Deserialize, Serialize};

use crate::ClientStream;

/// A failed request to the machine, or a failed start of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Error {
    /// The specification is out of its bounds.
    #[error("the machine's specification is wrong: {0}")]
    Spec(String),
    /// The host lacks what a backend needs.
    #[error("{what} is missing")]
    Missing {
        /// The program, device or package.
        what: String,
        /// What the user can do.
        hint: String,
    },
    /// The host has a version that is known not to work.
    #[error("{what} {found} is too old, needed is {needed} or newer")]
    TooOld {
        /// The program.
        what: String,
        /// Its version.
        found: String,
        /// The oldest that works.
        needed: String,
        /// What the user can do.
        hint: String,
    },
    /// This host system has no backend.
    #[error("{0} is not supported on this system")]
    Unsupported(String),
    /// Another machine holds the lock of this run directory.
    #[error("a machine is already running")]
    AlreadyRunning,
    /// The disk is in use by a machine of another run directory.
    #[error("the disk `{0}` is in use by another machine")]
    DiskInUse(String),
    /// [`crate::Vm::start`] was called a second time.
    #[error("the machine was already started")]
    AlreadyStarted,
    /// The guest's vsock driver is not up (yet).
    #[error("the guest is not ready")]
    NotReady,
    /// The guest is up and nothing listens on that port.
    #[error("nothing in the guest listens on port {port}")]
    Refused {
        /// The vsock port that was asked for.
        port: u32,
    },
    /// As many streams as the device allows are open.
    #[error("too many open streams to the guest")]
    TooManyStreams,
    /// The time given for the request is over.
    #[error("the guest did not answer in time")]
    Timeout,
    /// The machine, or the process that ran it, is gone; [`crate::Machine::exited`] says why.
    #[error("the machine is gone")]
    Gone,
    /// Another daemon took the machine over.
    #[error("another daemon took the machine over")]
    TakenOver,
    /// A system call failed.
    #[error("could not {action}: {cause}")]
    System {
        /// What was tried, in the infinitive.
        action: String,
        /// The system's words.
        cause: String,
    },
    /// The two ends of the machine's socket do not speak the same language.
    #[error("the machine process sent something unexpected: {0}")]
    Wire(String),
}

impl Error {
    /// Wraps a failed system call; `action` is an infinitive such as "open the disk".
    pub fn system(action: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self::System {
            action: action.into(),
            cause: cause.to_string(),
        }
    }

    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Missing { hint, .. } | Self::TooOld { hint, .. } => Some(hint),
            Self::DiskInUse(_) => Some(
                "another Lighter of yours runs it, perhaps started with another `XDG_RUNTIME_DIR`: \
                 end it there with `lighter down`",
            ),
            _ => None,
        }
    }
}

/// A client socket that could not be handed over comes back unread.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct HandOverError {
    /// Why.
    #[source]
    pub error: Error,
    /// The socket, of which no byte was taken.
    pub stream: ClientStream,
}
