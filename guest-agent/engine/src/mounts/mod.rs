//! What is mounted into a container: one model for every way the API has to ask for it.
//!
//! `parse` reads `Binds`, `normalise` merges `Binds`, `Mounts`, `Tmpfs`, `VolumesFrom` and the
//! image's volumes into a list of [`Mount`], `resolve` turns a list into descriptors. Policy (which
//! source means what, what is refused) looks only at this model, never at a request: a check of
//! one spelling that another spelling escapes is CVE-2026-6406.

pub(crate) mod copy_up;
mod normalise;
mod parse;
pub(crate) mod resolve;
mod source;

pub(crate) use normalise::{Request, normalise};
pub(crate) use parse::clean;

use serde::{Deserialize, Serialize};

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where: an absolute, clean path in the container.
    pub destination: String,
    /// What.
    pub source: Source,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// With `read_only`: only the mount itself, not those below it.
    pub read_only_non_recursive: bool,
    /// Leave out mounts below the source.
    pub non_recursive: bool,
    /// How mount events pass; empty for the default.
    pub propagation: String,
    /// The options as inspect shows them.
    pub mode: String,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A volume of the engine.
    Volume {
        /// Its name.
        name: String,
        /// Whether it was made for this container and goes with it.
        anonymous: bool,
        /// Do not fill it from the image.
        no_copy: bool,
        /// A folder of it instead of all of it.
        subpath: String,
    },
    /// A path the user named.
    Bind {
        /// The path as written, cleaned.
        path: String,
        /// Make it if it is missing.
        create: bool,
    },
    /// A temporary file system.
    Tmpfs {
        /// Options as `--tmpfs` takes them.
        options: String,
    },
}

impl Mount {
    /// The kind as inspect names it.
    pub fn kind(&self) -> &'static str {
        match self.source {
            Source::Volume { .. } => "volume",
            Source::Bind { .. } => "bind",
            Source::Tmpfs { .. } => "tmpfs",
        }
    }

    /// The volume's name, if it is one.
    pub fn volume(&self) -> Option<&str> {
        match &self.source {
            Source::Volume { name, .. } => Some(name),
            _ => None,
        }
    }
}
