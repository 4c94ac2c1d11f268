//! What can go wrong in this room. The API turns kinds into statuses; texts go out as they are.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::{Digest, DigestError};
use crate::erofs::TreeError;
use crate::reference::ReferenceError;
use crate::tar::TarError;

/// Result of this room's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the store, of load and save, or of the registry client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system said no.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// Reading what a client or a registry sends failed.
    #[error("{what}: {source}")]
    Read {
        /// What was read.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// Content does not have the digest it was named by.
    #[error("{what} failed verification: expected {expected}, got {actual}")]
    Mismatch {
        /// What was verified.
        what: String,
        /// The name it came under.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// A layer did not come as its digest says: the connection, or the registry, is at fault.
    #[error("filesystem layer verification failed for digest {0}")]
    Transfer(Digest),
    /// Content does not have the size that was announced.
    #[error("{what} failed size validation: {actual} != {expected}")]
    Size {
        /// What was verified.
        what: String,
        /// Announced size.
        expected: u64,
        /// Size found.
        actual: u64,
    },
    /// The store has no such layer or blob.
    #[error("{what} {digest} is not in the store")]
    Missing {
        /// `layer` or `blob`.
        what: &'static str,
        /// Its name.
        digest: Digest,
    },
    /// A digest that is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A reference that is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A document that does not parse.
    #[error("invalid {what}: {source}")]
    Document {
        /// Which document.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Mounting or unmounting a layer failed.
    #[error("{action} layer {layer}: {source}")]
    Mount {
        /// What was tried.
        action: &'static str,
        /// The layer.
        layer: Digest,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A layer that is no tar, or one this engine does not take.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry that cannot be part of a layer.
    #[error("invalid tar at byte {offset}: {source}")]
    Entry {
        /// Offset of the entry's header in the uncompressed tar.
        offset: u64,
        /// What is wrong with it.
        source: TreeError,
    },
    /// A layer over one of the limits.
    #[error("layer refused: {0}")]
    LayerLimit(String),
    /// An archive of images that is not what `docker load` takes.
    #[error("invalid archive of images: {0}")]
    Archive(String),
    /// A manifest of a schema that is not schema 2.
    #[error("unsupported manifest schema version {0}")]
    ManifestSchema(u32),
    /// A document with both layers and manifests.
    #[error("manifest is ambiguous: it has both layers and manifests")]
    ManifestAmbiguous,
    /// A registry refused, or broke the protocol.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// An image for another operating system.
    #[error(
        "image operating system {0:?} cannot be used on this platform: operating system is not supported"
    )]
    OperatingSystem(String),
    /// A worker thread died.
    #[error("an image worker ended unexpectedly")]
    Worker,
}

impl Error {
    /// Wraps a file system error with what was tried on what.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
