//! Linux: a vhost-user card in a process of its own.

mod client;
mod device;
mod process;
mod rings;
mod sandbox;

pub use client::{NetError, NetProcess, SpawnConfig, set_names, status};
pub use process::process_main;
