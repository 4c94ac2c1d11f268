//! The server itself. Linux only: other hosts share files through their platform's own device.

mod client;
mod control_server;
mod device;
mod fs;
// Not beside the unit tests, whose guest it borrows.
#[cfg(all(feature = "fuzz", not(test)))]
pub mod fuzz;
mod jobs;
mod packet;
mod process;
mod requests;
mod ring;
mod sandbox;

pub use client::{FilesClient, FilesError, FilesProcess, SpawnConfig};
pub use process::process_main;

#[cfg(test)]
mod tests;
