//! What the guest may ask the host for, one stream a request.

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::check;
use crate::message::Check;
use crate::ports::Publish;

/// Guest to host, the first frame of a guest-initiated stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The secret of this boot: programs in containers do not have it.
    pub secret: Secret,
    /// What is wanted.
    pub request: Request,
}

impl Check for Open {
    fn check(&self) -> Result<(), &'static str> {
        match &self.request {
            Request::Dial(dial) => {
                if dial.port == 0 {
                    return Err("port is zero");
                }
                check::host(&dial.host)?;
                match &dial.purpose {
                    DialPurpose::Registry { registry, .. } if registry.len() > 512 => {
                        Err("registry is too long")
                    }
                    _ => Ok(()),
                }
            }
            Request::ActivateShare(share) => check::path(&share.path),
            Request::Publish(publish) => publish.check(),
            Request::Unknown => Ok(()),
        }
    }
}

/// What a guest-initiated stream is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// Connect to a host and port, then carry bytes.
    Dial(Dial),
    /// Make a host path reachable under the shares' mount.
    ActivateShare(ActivateShare),
    /// Listen for a container.
    Publish(Publish),
    /// A request newer than this program; answered with [`FailedCode::Unsupported`].
    #[serde(other)]
    Unknown,
}

/// A connection that the host makes for the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// A name or an address, resolved by the host.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Whether TLS will be spoken on it: decides which of the host's proxies applies.
    #[serde(default = "usual")]
    pub tls: bool,
    /// What for: decides which targets are allowed.
    pub purpose: DialPurpose,
}

/// What a guest that does not say speaks: TLS.
fn usual() -> bool {
    true
}

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", rename_all = "snake_case")]
pub enum DialPurpose {
    /// A registry's API, its token service or its storage.
    Registry {
        /// True only for the very host the user named: never for a redirect, a token realm or
        /// a foreign layer's address. Only then may the host's own loopback be dialled.
        user_named: bool,
        /// The registry as the user named it, for logs and status.
        registry: String,
    },
    /// A purpose newer than this program; refused.
    #[serde(other)]
    Unknown,
}

/// A host path that a container is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivateShare {
    /// The path on the host, in the host's own spelling.
    pub path: String,
    /// True for a grant that the host enforces as read-only.
    pub read_only: bool,
    /// Not followed by the host, which makes no folder: the engine makes a missing one through the share above it.
    #[serde(default)]
    pub create: bool,
}

/// Host to guest: done; for a dial, bytes follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Opened {
    /// The connection stands.
    Dial {
        /// The address that was reached.
        peer: String,
    },
    /// The path is reachable.
    Share {
        /// Path relative to the shares' mount, first component the grant.
        path: String,
        /// True where the host refuses writes.
        read_only: bool,
    },
    /// Ports may be bound.
    Publish,
}

impl Check for Opened {}

/// Host to guest: not done. The host closes the stream after it, where it is not in another message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Why, for programs.
    pub code: FailedCode,
    /// Why, for people.
    pub message: String,
}

impl Check for Failed {}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedCode {
    /// The first frame was no readable open.
    Malformed,
    /// Not this boot's secret.
    Secret,
    /// A rule or the allow-list says no; the message names the setting.
    Denied,
    /// There is no such path.
    NotFound,
    /// The name has no address.
    Resolve,
    /// Nobody listens there.
    ConnectionRefused,
    /// Somebody else has that port.
    InUse,
    /// No way to that address, or none of the host's own.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// Too many requests at once or in a short time.
    Busy,
    /// The host does not know this request.
    Unsupported,
    /// Something else went wrong on the host.
    Internal,
    /// A reason newer than this program.
    #[serde(other)]
    Other,
}
