//! What the host system gives a program: where files live, private directories, locks, local
//! sockets with the peer's identity, detached processes, service registration.
//!
//! Called by: the daemon, the command line and the machine's processes. Calls: nothing of ours.
//! `cfg(target_os)` for all of them lives in [`sys`]; everything above it compiles unchanged on
//! every system. This crate must never know what travels over a socket it makes.

pub mod dir;
pub mod disk_template;
pub mod lock;
pub mod log;
pub mod names;
pub mod paths;
pub mod service;
pub mod sys;
pub mod text;

pub use dir::{DirError, ensure_private_dir, write_durably};
pub use lock::{FileLock, LockError};
pub use log::BoundedLog;
pub use names::nearest;
pub use paths::{HostPaths, PathsError};
