//! The engine: containers, execs, images, volumes, networks, events and the metadata database.
//!
//! Called by `lighter-api`, which decodes requests and encodes answers and does nothing else.
//! Calls `lighter-images` (layers), `lighter-runtime` (the walls) and `lighter-init`'s client
//! (descriptor store and exit journal).
//!
//! The engine may be killed at any time: everything that a container needs to go on is held by
//! PID 1's descriptor store, under the run directory or in the database, and [`Engine::open`]
//! takes it up again.

pub mod clock;
pub mod config;
pub mod containers;
pub mod db;
pub mod disk_usage;
mod engine;
pub mod error;
pub mod events;
pub mod exec;
mod exits;
pub mod files;
pub mod filters;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod ids;
pub mod images;
mod info;
pub mod io;
mod keeper;
pub mod logs;
pub mod model;
pub mod mounts;
pub mod names;
pub mod networks;
pub mod ports;
mod quota;
mod removal;
pub mod stats;
pub mod top;
mod units;
mod usage;
pub mod version;
pub mod volumes;

pub use config::EngineConfig;
pub use engine::{Engine, Links};
pub use error::{Error, Kind, Result};
pub use info::MachineInfo;
