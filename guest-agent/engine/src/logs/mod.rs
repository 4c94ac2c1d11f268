//! Container logs: Docker's json-file, and `local`, on the data disk.
//!
//! `writer` appends and rotates, `pack` compresses what was rotated away, `reader` reads back and
//! follows, `entry` is the format, `options` what `--log-opt` says of it, `buffer` where lines wait
//! of containers that must not. The run of a container, or its buffer, is the only writer of its log;
//! readers may be many and never hold it up.

mod buffer;
mod entry;
mod options;
mod pack;
mod reader;
mod tag;
mod writer;

pub(crate) use buffer::Buffer;
pub(crate) use entry::MAX_LINE;
pub use entry::{Entry, Format};
pub use options::{Identity, LogOptions};
pub use reader::{Message, ReadOptions, read};
pub use writer::{LogFile, Shape};

use serde::{Deserialize, Serialize};

/// Which of a process's outputs bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}
