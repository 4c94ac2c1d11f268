//! The output and input of processes in containers.
//!
//! ```text
//!   process ─pipe or terminal─► Capture ─┬─► log (through a scratch pipe, see `capture`)
//!                                        └─► Hub ─► every attached client
//!   clients ─► Hub's input ─► Stdin ─pipe or terminal─► process
//! ```
//!
//! The read ends, the scratch pipes and the write end of standard input are also in PID 1's
//! descriptor store, so that an engine that is killed loses nothing of them.

mod batch;
mod capture;
mod hub;
mod poll;
mod stdin;

pub(crate) use batch::BatchFile;
pub(crate) use capture::{Bench, Capture, LogSink, Source, Step};
pub use hub::{Hub, Output, OutputChunk};
pub use lighter_runtime::unread_by_peer;
pub(crate) use poll::{Watched, watch};
pub use stdin::Stdin;
