//! Where no changes of the host's resolver and routes are heard of yet.

use std::io;

use super::Route;

/// Tells of the next change of how the host asks for names: not built for this system.
#[derive(Debug)]
pub struct ResolutionWatch;

impl ResolutionWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Waits until something has changed.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn wait(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Tells of changes of this host's routes: not built for this system.
#[derive(Debug)]
pub struct RouteWatch;

impl RouteWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn wait(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Where this host has routes of its own to: not built for this system.
///
/// # Errors
/// Always `Unsupported`.
pub fn routes() -> io::Result<Vec<Route>> {
    Err(io::ErrorKind::Unsupported.into())
}
