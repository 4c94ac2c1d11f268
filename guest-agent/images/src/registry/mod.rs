//! The registry client: takes images from registries that speak the distribution protocol (v2),
//! and brings them there.
//!
//! ```text
//!   pull ─► client (one endpoint: manifests, blobs, who we are) ─► http ─► Dialer
//!     └───► download (a layer: resumed, retried) ─► Received ─► commit
//!   push ─► upload (a layer: known there, mounted, or compressed while it is sent) ─► put
//!   fetch ─► http (an archive that is in no registry)
//! ```
//!
//! Called by the engine's image service. A registry is not trusted: everything it sends is bounded
//! and verified by digest before it can be seen; credentials go to the registry they were given
//! for and to the token service it names, to nobody else; what a registry points to is dialled as
//! such, so that it cannot reach the host's own services.

mod auth;
mod client;
mod download;
mod endpoint;
mod error;
mod fetch;
mod http;
mod known;
mod login;
mod look;
mod places;
mod pull;
mod push;
mod put;
mod retry;
mod search;
#[cfg(test)]
mod tests;
mod tls;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use crate::dial::Dialer;

pub use error::RegistryError;
pub use fetch::{Fetched, fetch};
pub use known::KnownBlob;
pub use login::login;
pub use look::{Described, DescribedPlatform, describe};
pub use pull::{PullRequest, PulledImage, pull, tags};
pub use push::{PushRequest, PushedImage, push};
pub use search::{Found, search};

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Network {
    /// The only way out.
    pub dialer: Arc<dyn Dialer>,
    /// `registry-mirrors`: URLs asked before the hub.
    pub mirrors: Vec<String>,
    /// `insecure-registries`: `host[:port]` or networks in CIDR notation.
    pub insecure: Vec<String>,
    /// Certificates to trust, as PEM. Empty: Mozilla's.
    pub trust_roots_pem: String,
    /// The wait before the second attempt; it grows with each.
    pub retry_delay: Duration,
    /// A registry that says nothing for so long is gone.
    pub patience: Duration,
}

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Name of the account.
    pub username: String,
    /// Its password.
    pub password: String,
    /// A refresh token, instead of a password.
    pub identity_token: String,
    /// A bearer token to be sent as it is.
    pub registry_token: String,
}

impl Credentials {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Says only whose they are: the rest must never be in a log.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
