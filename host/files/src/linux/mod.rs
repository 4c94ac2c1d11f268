//! The server itself. Linux only: other hosts share files through their platform's own device.

pub mod client;
mod control_server;
mod device;
mod fs;
mod packet;
pub mod process;
mod requests;
mod sandbox;

#[cfg(test)]
mod tests;
