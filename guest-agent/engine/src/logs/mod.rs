//! Container logs: Docker's json-file format on the data disk.
//!
//! `writer` appends and rotates, `reader` reads back and follows, `entry` is the format. The run
//! of a container is the only writer of its log; readers may be many and never hold it up.

mod entry;
mod options;
mod reader;
mod writer;

pub use entry::Entry;
pub(crate) use entry::{MAX_LINE, encode};
pub use options::{Identity, LogOptions};
pub use reader::{Message, ReadOptions, read};
pub use writer::LogFile;

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
