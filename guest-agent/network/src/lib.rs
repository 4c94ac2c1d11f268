//! The guest's network: the link to the host, and what containers have of it.
//!
//! Two network namespaces are the machine's: the engine's own, which has nothing but a loopback, and the one that
//! containers know as the host's, where the card is ([`card`]) and where the networks of containers are bridges
//! ([`Wiring`]). Everything is said to the kernel by netlink. Containers find each other by name ([`names`]);
//! others find them by ports that are published ([`ports`]).
//!
//! Called by: the agent when it starts, the engine for networks. Calls: nothing of ours.
//! Must never: give the engine's own namespace a way to anywhere, or one network a way to another.

mod bridge;
pub mod card;
mod check;
mod discarded;
mod error;
mod extension;
mod links;
mod local;
pub mod names;
mod namespace;
mod netlink;
mod parent;
mod place;
pub mod plan;
mod plug;
pub mod ports;
mod rules;
mod way_out;
mod wires;
mod wiring;

pub use error::NetworkError;
pub use extension::is_name as is_reserved;
pub use wiring::Wiring;

#[cfg(test)]
mod tests;
