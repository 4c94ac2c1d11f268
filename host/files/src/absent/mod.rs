//! A host system whose platform shares files itself: every way to a files process is a typed error.
//!
//! [`FilesClient`] has no values here, so that whatever is written against it compiles and none of it
//! can run.

use std::convert::Infallible;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use crate::control::{ShareId, Status};

/// There is no files process on this system.
#[derive(Debug, thiserror::Error)]
#[error(
    "sharing files through a process of ours is not supported under {}",
    std::env::consts::OS
)]
pub struct FilesError;

/// What would be needed to start one.
#[derive(Debug)]
pub struct SpawnConfig<'a> {
    /// The `lighter` program.
    pub exe: &'a Path,
    /// Where its control socket would be.
    pub run_dir: &'a Path,
    /// Where its marks would be.
    pub data_dir: &'a Path,
    /// Where its log would go.
    pub log: Option<File>,
}

/// A files process; there is none on this system.
#[derive(Debug)]
pub struct FilesProcess {
    /// Its control connection.
    pub control: FilesClient,
}

impl FilesProcess {
    /// Fails: see [`FilesError`].
    ///
    /// # Errors
    /// Always.
    #[expect(clippy::needless_pass_by_value, reason = "as on Linux")]
    pub fn spawn(_config: SpawnConfig<'_>) -> Result<Self, FilesError> {
        Err(FilesError)
    }
}

/// A connection to a files process; there is none on this system.
#[derive(Debug)]
pub struct FilesClient(Infallible);

impl FilesClient {
    /// Finds none.
    ///
    /// # Errors
    /// None on this system.
    pub fn take_over(_run_dir: &Path) -> Result<Option<Self>, FilesError> {
        Ok(None)
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None on this system.
    pub fn add_path(
        &self,
        _id: &ShareId,
        _path: &Path,
        _read_only: bool,
    ) -> Result<(), FilesError> {
        match self.0 {}
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None on this system.
    pub fn hide(&self, _path: &Path) -> Result<(), FilesError> {
        match self.0 {}
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None on this system.
    pub fn remove_share(&self, _id: &ShareId) -> Result<(), FilesError> {
        match self.0 {}
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None on this system.
    pub fn status(&self) -> Result<Status, FilesError> {
        match self.0 {}
    }
}

/// Fails: all of `lighter files` here.
#[must_use]
pub fn process_main() -> ExitCode {
    eprintln!("error: {FilesError}");
    ExitCode::FAILURE
}
