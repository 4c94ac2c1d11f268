//! Machines under Linux: the machine process, its client, and the backends.

mod channel;
mod client;
mod rundir;
mod wire;

pub use client::{GuestStream, Machine};
