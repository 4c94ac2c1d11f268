//! A host system on which the net process does not run yet: every way to one is a typed error.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ExitCode};

use crate::Socket;
use crate::control::Status;

/// The net process could not be started or reached.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// This system has none.
    #[error(
        "a network for the machine is not supported under {}",
        std::env::consts::OS
    )]
    Unsupported,
}

impl NetError {
    /// Whether there was a process and is none any more; there never is one on this system.
    #[must_use]
    pub fn is_end(&self) -> bool {
        false
    }
}

/// What is needed to start the process.
#[derive(Debug)]
pub struct SpawnConfig<'a> {
    /// The `lighter` program.
    pub exe: &'a Path,
    /// Where sockets are made.
    pub run_dir: &'a Path,
    /// Where its log lines go.
    pub log: Option<File>,
}

/// A net process; there is none on this system.
#[derive(Debug)]
pub struct NetProcess {
    /// The process.
    pub child: Child,
    /// The name of the vhost-user socket.
    pub vhost_user: Socket,
    /// What the machine holds.
    pub lifeline: Socket,
}

impl NetProcess {
    /// Fails: this system has none.
    ///
    /// # Errors
    /// Always [`NetError::Unsupported`].
    #[expect(clippy::needless_pass_by_value, reason = "as on Linux")]
    pub fn spawn(_config: SpawnConfig<'_>) -> Result<Self, NetError> {
        Err(NetError::Unsupported)
    }
}

/// Fails: there is nobody to tell.
///
/// # Errors
/// Always [`NetError::Unsupported`].
pub fn set_names(_run_dir: &Path, _servers: &[SocketAddr]) -> Result<(), NetError> {
    Err(NetError::Unsupported)
}

/// Fails: there is nobody to ask.
///
/// # Errors
/// Always [`NetError::Unsupported`].
pub fn status(_run_dir: &Path) -> Result<Status, NetError> {
    Err(NetError::Unsupported)
}

/// Fails: this system has none.
#[must_use]
pub fn process_main() -> ExitCode {
    eprintln!("error: {}", NetError::Unsupported);
    ExitCode::FAILURE
}
