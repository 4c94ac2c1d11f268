//! The Docker Engine API over HTTP: decode, call the engine, encode.
//!
//! Called by the agent with a listener. Calls `lighter-engine` and nothing else.
//!
//! One file (or folder) a resource: its routes first, then handlers that only decode and encode,
//! then the shapes of its answers. Answers have structs of their own that always emit every field
//! Docker emits. `error` is the only place where a failure becomes a status; `version` the only one
//! that knows the versions of the API.

mod body;
mod call;
mod clean;
mod containers;
mod detach;
mod error;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod hijack;
mod images;
mod lighter;
mod networks;
mod query;
mod request_body;
mod router;
mod serve;
mod stream;
mod swarm;
mod system;
mod transfer;
mod version;
mod volumes;
mod websocket;
mod wire;

pub use serve::{Listener, refuse, serve, serve_connection};
