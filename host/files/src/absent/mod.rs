//! A host system whose platform shares files itself: every way to a files process is a typed error.
//!
//! [`FilesProcess`] and [`FilesClient`] have no values here, so that whatever is written against
//! them compiles and none of it can run.

use std::convert::Infallible;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};

use crate::Socket;
use crate::control::{RefusalCode, ShareId, Status};

/// The files process could not be started, reached or persuaded.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// This system has no server.
    #[error("sharing host folders is not supported under {}", std::env::consts::OS)]
    Unsupported,
    /// It answered no.
    #[error("{message}")]
    Refused {
        /// What kind of refusal.
        code: RefusalCode,
        /// For people.
        message: String,
    },
    /// No process answers to the name any more.
    #[error("the files process is gone")]
    Gone,
}

impl FilesError {
    /// Whether the conversation is not to be gone on with: an answer may still come, and be taken for
    /// that of another request.
    #[must_use]
    pub fn ends_conversation(&self) -> bool {
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
    /// Where attributes are kept.
    pub data_dir: &'a Path,
    /// Where its log lines go.
    pub log: Option<File>,
}

/// A files process; there is none on this system.
#[derive(Debug)]
pub struct FilesProcess {
    /// The process.
    pub child: Child,
    /// The connected vhost-user socket.
    pub vhost_user: Socket,
    /// The control connection.
    pub control: FilesClient,
}

impl FilesProcess {
    /// Fails: this system has no server.
    ///
    /// # Errors
    /// Always [`FilesError::Unsupported`].
    #[expect(clippy::needless_pass_by_value, reason = "as on Linux")]
    pub fn spawn(_config: SpawnConfig<'_>) -> Result<Self, FilesError> {
        Err(FilesError::Unsupported)
    }
}

/// A connection to a files process; there is none on this system.
#[derive(Debug)]
pub struct FilesClient(Infallible);

impl FilesClient {
    /// Finds no process, as none can run here.
    ///
    /// # Errors
    /// None on this system.
    pub fn take_over(_run_dir: &Path) -> Result<Option<Self>, FilesError> {
        Ok(None)
    }

    /// Serves an opened directory or file.
    ///
    /// # Errors
    /// None on this system, where there is no process.
    pub fn add_share<T>(
        &self,
        _id: &ShareId,
        _target: T,
        _read_only: bool,
        _label: &str,
    ) -> Result<(), FilesError> {
        match self.0 {}
    }

    /// Serves an opened directory or file that the user named himself.
    ///
    /// # Errors
    /// None on this system, where there is no process.
    pub fn add_named_share<T>(
        &self,
        _id: &ShareId,
        _target: T,
        _read_only: bool,
        _label: &str,
    ) -> Result<(), FilesError> {
        match self.0 {}
    }

    /// Serves the directory or file at a path.
    ///
    /// # Errors
    /// None on this system, where there is no process.
    pub fn add_path(
        &self,
        _id: &ShareId,
        _path: &Path,
        _read_only: bool,
    ) -> Result<(), FilesError> {
        match self.0 {}
    }

    /// Hides a path below every share.
    ///
    /// # Errors
    /// None on this system, where there is no process.
    pub fn hide(&self, _path: &Path) -> Result<(), FilesError> {
        match self.0 {}
    }

    /// Protects these paths and no others.
    ///
    /// # Errors
    /// None on this system, where there is no process.
    pub fn protect(&self, _paths: &[PathBuf]) -> Result<(), FilesError> {
        match self.0 {}
    }

    /// Refuses changes through a share.
    ///
    /// # Errors
    /// None on this system, where there is no process.
    pub fn restrict(&self, _id: &ShareId, _restricted: bool) -> Result<(), FilesError> {
        match self.0 {}
    }

    /// Stops serving.
    ///
    /// # Errors
    /// None on this system, where there is no process.
    pub fn remove_share(&self, _id: &ShareId) -> Result<(), FilesError> {
        match self.0 {}
    }

    /// What is served now.
    ///
    /// # Errors
    /// None on this system, where there is no process.
    pub fn status(&self) -> Result<Status, FilesError> {
        match self.0 {}
    }

    /// The process.
    ///
    /// # Errors
    /// None on this system, where there is no process.
    pub fn pid(&self) -> Result<Option<u32>, FilesError> {
        match self.0 {}
    }
}

/// The files process, which cannot be here.
#[must_use]
pub fn process_main() -> ExitCode {
    eprintln!("error: {}", FilesError::Unsupported);
    ExitCode::FAILURE
}
