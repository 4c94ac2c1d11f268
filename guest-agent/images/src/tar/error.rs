//! Why an archive is refused.

use std::io;

/// A refusal, with the offset of the header it is about.
#[derive(Debug, thiserror::Error)]
#[error("invalid tar at byte {offset}: {problem}")]
pub struct TarError {
    /// Offset of the entry's first block in the (uncompressed) archive.
    pub offset: u64,
    /// What is wrong.
    #[source]
    pub problem: TarProblem,
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarProblem {
    /// The stream ended within a header or an entry's content.
    #[error("unexpected EOF")]
    Truncated,
    /// Reading failed: the network, the disk, or what unpacks the stream.
    #[error("{0}")]
    Read(#[source] io::Error),
    /// The header's checksum is wrong: this is no tar, or a damaged one.
    #[error("invalid tar header")]
    Checksum,
    /// One block of zeros where an archive ends with two.
    #[error("content after a single zero block")]
    LoneZeroBlock,
    /// A number that is none, is negative or does not fit.
    #[error("invalid number in field {0}")]
    Number(&'static str),
    /// A PAX record that does not follow the form.
    #[error("malformed PAX record")]
    Pax,
    /// A PAX record in a place where readers disagree about its meaning.
    #[error("PAX record {0:?} is not allowed here")]
    PaxPlace(String),
    /// Two names, or two extended headers, for one entry.
    #[error("ambiguous extended header")]
    Ambiguous,
    /// An extended header with no entry behind it.
    #[error("extended header without an entry")]
    Dangling,
    /// A sparse map that is out of order, overlaps or does not fit the content.
    #[error("invalid sparse map")]
    Sparse,
    /// An entry of this type is not known.
    #[error("unhandled tar header type {0}")]
    Type(u8),
    /// A type that has no content announces some.
    #[error("entry of type {0:?} with content")]
    Content(char),
    /// An empty name, or one with a NUL byte.
    #[error("invalid name")]
    Name,
    /// A name longer than the kernel takes.
    #[error("file name too long")]
    NameTooLong,
    /// More than one limit allows.
    #[error("too many {0}")]
    Limit(&'static str),
}
