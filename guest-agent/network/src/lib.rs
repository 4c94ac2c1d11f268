//! The guest's network: the link to the host, and what containers have of it.
//!
//! Two network namespaces are the machine's: the engine's own, which has nothing but a loopback, and the one that
//! containers know as the host's, where the card is ([`card`]). Everything is said to the kernel by netlink.
//!
//! Called by: the agent when it starts. Calls: nothing of ours.
//! Must never: give the engine's own namespace a way to anywhere.

pub mod card;
mod error;
mod namespace;
pub mod plan;

pub use error::NetworkError;
