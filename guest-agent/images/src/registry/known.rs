//! What registries call our layers.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::reference::Reference;

/// A layer as a repository has it: what was pulled from there, or pushed to it, need not be sent
/// again. Kept by the engine's image service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnownBlob {
    /// Digest of the compressed layer.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// The registry.
    pub registry: String,
    /// The repository in it.
    pub repository: String,
}

impl KnownBlob {
    /// The blob in the repository of `reference`.
    pub(super) fn of(reference: &Reference, digest: Digest, size: u64) -> Self {
        Self {
            digest,
            size,
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
        }
    }
}
