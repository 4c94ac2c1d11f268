//! What pull, push and load tell the client while they work.

use std::fmt::Debug;

use crate::digest::Digest;

/// One line of docker's progress stream, not yet JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressEvent {
    /// The layer's short ID, or the tag for the first line; none for the closing lines.
    pub id: Option<String>,
    /// The words.
    pub status: String,
    /// Bytes done and bytes in all, for lines about the progress of a layer; both 0 without a bar.
    pub detail: Option<ProgressDetail>,
    /// What a program wants to know of an image that was pushed; such a line has no words.
    pub pushed: Option<Pushed>,
}

/// What became of a tag that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The tag.
    pub tag: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's size.
    pub size: u64,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgressDetail {
    /// Bytes done.
    pub current: u64,
    /// Bytes in all; 0 when unknown.
    pub total: u64,
}

impl ProgressEvent {
    /// A line about one layer, without a bar.
    pub fn layer(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self {
            id: Some(id.into()),
            status: status.into(),
            detail: Some(ProgressDetail::default()),
            pushed: None,
        }
    }

    /// A line about a tag or digest.
    pub fn about(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self {
            id: Some(id.into()),
            status: status.into(),
            detail: None,
            pushed: None,
        }
    }

    /// A line about nothing in particular.
    pub fn message(status: impl Into<String>) -> Self {
        Self {
            id: None,
            status: status.into(),
            detail: None,
            pushed: None,
        }
    }

    /// A line with a bar.
    pub fn bar(id: impl Into<String>, status: impl Into<String>, current: u64, total: u64) -> Self {
        let detail = Some(ProgressDetail { current, total });
        Self {
            id: Some(id.into()),
            status: status.into(),
            detail,
            pushed: None,
        }
    }

    /// The line about a tag that was pushed.
    pub fn pushed(tag: &str, digest: Digest, size: u64) -> Self {
        Self {
            id: None,
            status: String::new(),
            detail: Some(ProgressDetail::default()),
            pushed: Some(Pushed {
                tag: tag.to_owned(),
                digest,
                size,
            }),
        }
    }
}

/// Receives the lines. Called from several tasks at once; must not block.
pub trait Progress: Debug + Send + Sync {
    /// Takes one line.
    fn report(&self, event: ProgressEvent);
}

/// Throws the lines away.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _event: ProgressEvent) {}
}
