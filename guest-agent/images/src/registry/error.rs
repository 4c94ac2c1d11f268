//! What can go wrong between here and a registry. The texts are dockerd's: clients match on some.

use std::io;
use std::time::Duration;

/// An error of the registry client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry has no such repository, or does not show it to us.
    #[error(
        "pull access denied for {0}, repository does not exist or may require 'docker login': \
         denied: requested access to the resource is denied"
    )]
    Denied(String),
    /// The registry has no such tag or digest.
    #[error("manifest for {0} not found: manifest unknown: manifest unknown")]
    ManifestUnknown(String),
    /// The registry wants a name and password, and there are none.
    #[error("{request}: no basic auth credentials")]
    NoCredentials {
        /// Method and URL.
        request: String,
    },
    /// The name and password are not right.
    #[error("{request}: unauthorized: authentication required")]
    Unauthorized {
        /// Method and URL.
        request: String,
    },
    /// The index has nothing for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
    /// Asked too often.
    #[error("toomanyrequests: the registry wants to be asked less often")]
    TooManyRequests {
        /// When it may be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// An answer nobody asked for.
    #[error("{request}: received unexpected HTTP status: {status}")]
    Status {
        /// Method and URL.
        request: String,
        /// The status line's number and words.
        status: String,
    },
    /// The registry cannot be reached, or the connection broke.
    #[error("{request}: {source}")]
    Transport {
        /// Method and URL.
        request: String,
        /// What happened.
        source: io::Error,
    },
    /// The answer breaks the protocol, or one of the bounds.
    #[error("{request}: {problem}")]
    Protocol {
        /// Method and URL.
        request: String,
        /// What is wrong.
        problem: String,
    },
    /// The trust roots of the settings cannot be used.
    #[error("the trust roots cannot be read: {0}")]
    TrustRoots(String),
    /// A setting that cannot be read.
    #[error("invalid setting {name}: {value:?}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl RegistryError {
    /// Whether another attempt may help.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Transport { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            Self::TooManyRequests { .. } => true,
            Self::Status { status, .. } => status.starts_with('5'),
            _ => false,
        }
    }

    /// How long the registry wants not to be asked.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after } => *retry_after,
            _ => None,
        }
    }
}
