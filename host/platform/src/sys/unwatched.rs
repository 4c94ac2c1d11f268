//! Where no changes of the host's resolver are heard of yet.

use std::io;

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
