//! Why an entry cannot be part of a layer.

/// A refusal; the caller adds the offset in the tar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The name leads out of the layer.
    #[error("path {0:?} leads outside of the layer")]
    Breakout(String),
    /// A component longer than 255 bytes.
    #[error("file name too long: {0:?}")]
    NameTooLong(String),
    /// The root can only be a directory.
    #[error("the root of the layer is not a directory")]
    Root,
    /// A component of the path is a file.
    #[error("{0:?}: not a directory")]
    NotDirectory(String),
    /// Too many symbolic links on the way.
    #[error("{0:?}: too many levels of symbolic links")]
    Loop(String),
    /// A hard link to something that is not in this layer, or to a directory.
    #[error("hard link target {0:?} is not a file of this layer")]
    LinkTarget(String),
    /// A symbolic link to nothing.
    #[error("symbolic link {0:?} has no target")]
    EmptyLink(String),
    /// A whiteout of `.`, `..` or nothing.
    #[error("invalid whiteout {0:?}")]
    Whiteout(String),
    /// A device number the kernel cannot have.
    #[error("{0:?}: invalid device number")]
    Device(String),
    /// An extended attribute larger than the kernel takes, or too many of them.
    #[error("{0:?}: extended attributes too large")]
    Xattr(String),
    /// More than a limit allows.
    #[error("too many {0}")]
    Limit(&'static str),
}

/// A name for messages: shortened, and printable.
pub(super) fn shown(name: &[u8]) -> String {
    let cut = &name[..name.len().min(128)];
    String::from_utf8_lossy(cut).into_owned()
}
