//! A host system without a backend yet: every way to a machine is a typed error.
//!
//! [`Machine`] has no values here, so that whatever is written against it compiles and none of it
//! can run.

use std::{convert::Infallible, path::Path, process::ExitCode, sync::Arc};

use lighter_platform::sys::ProcessWatch;

use crate::{
    Backend, ClientStream, Error, ExitReason, HandOverError, HostCheck, LaunchConfig, Secret,
    Status,
};

/// A byte stream to or from the guest.
#[cfg(unix)]
pub type GuestStream = tokio::net::UnixStream;
/// A byte stream to or from the guest.
#[cfg(windows)]
pub type GuestStream = tokio::net::windows::named_pipe::NamedPipeClient;

/// A running machine; there is none on this system.
#[derive(Clone, Debug)]
pub struct Machine(Infallible);

fn unsupported() -> Error {
    Error::Unsupported(format!("a virtual machine under {}", std::env::consts::OS))
}

/// What this host offers: no backend.
#[must_use]
pub fn check_host(_: Backend) -> HostCheck {
    HostCheck {
        backend: Err(unsupported()),
        slow_because: None,
    }
}

impl Machine {
    /// Fails: this system has no backend.
    ///
    /// # Errors
    /// Always [`Error::Unsupported`].
    pub async fn launch(_config: LaunchConfig) -> Result<Self, Error> {
        Err(unsupported())
    }

    /// Finds no machine, as none can run here.
    ///
    /// # Errors
    /// None on this system.
    pub async fn take_over(_run_dir: &Path) -> Result<Option<Self>, Error> {
        Ok(None)
    }

    /// Opens a stream to a port of the guest.
    ///
    /// # Errors
    /// None on this system, where there is no machine.
    pub async fn connect(&self, _port: u32) -> Result<GuestStream, Error> {
        match self.0 {}
    }

    /// Gives a client's socket away to a port of the guest, which reads `first` before its bytes.
    ///
    /// # Errors
    /// None on this system, where there is no machine.
    pub async fn hand_over(
        &self,
        _port: u32,
        _first: Vec<u8>,
        _stream: ClientStream,
    ) -> Result<(), HandOverError> {
        match self.0 {}
    }

    /// The next stream the guest opened.
    pub async fn incoming(&self) -> Option<(u32, GuestStream)> {
        match self.0 {}
    }

    /// The secret of this boot.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        match self.0 {}
    }

    /// What the machine says about itself.
    ///
    /// # Errors
    /// None on this system, where there is no machine.
    pub async fn status(&self) -> Result<Status, Error> {
        match self.0 {}
    }

    /// Tells that the guest said `bye`.
    ///
    /// # Errors
    /// None on this system, where there is no machine.
    pub async fn bye_seen(&self, _reason: &str) -> Result<(), Error> {
        match self.0 {}
    }

    /// Ends the machine at once.
    ///
    /// # Errors
    /// None on this system, where there is no machine.
    pub async fn kill(&self) -> Result<(), Error> {
        match self.0 {}
    }

    /// The machine process, where this process launched it.
    #[must_use]
    pub fn launched(&self) -> Option<Arc<ProcessWatch>> {
        match self.0 {}
    }

    /// Waits for the machine's end.
    pub async fn exited(&self) -> ExitReason {
        match self.0 {}
    }
}

/// The machine process, which cannot be here.
#[must_use]
pub fn process_main() -> ExitCode {
    eprintln!("error: {}", unsupported());
    ExitCode::FAILURE
}
