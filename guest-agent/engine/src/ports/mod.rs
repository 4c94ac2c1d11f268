//! Published ports of containers: which are wanted, which are free, and that host and machine listen for them.
//!
//! ```text
//!   create: [wanted] (what was asked, checked) ──► start: [book] (which port) ──► [publish] ──► host, machine
//!   somebody comes ──► [way] ──► address of the container, now
//! ```
//!
//! Called by create, start, connect and disconnect, and the end of a run; by the agent for whom the host hands on.
//! Must never: publish what was not asked for, or answer a start before its ports are listened on.

mod book;
mod held;
mod host;
mod host_network;
mod owners;
mod publish;
mod shown;
mod wanted;
mod way;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub(crate) use book::{Book, Taken};
pub(crate) use held::{Published, kept};
pub use host::{HostLease, HostPorts, OnlyHere, PortError};
pub(crate) use host_network::HostNetwork;
pub use lighter_network::ports::{Arrival, Transport};
pub(crate) use wanted::check;
pub use wanted::key;

/// One port of a run, as the host has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// By which host and machine speak of it; those of both families have one.
    pub number: u32,
    /// In the container.
    pub port: u16,
    /// How it is spoken to.
    pub transport: Transport,
    /// The host's address.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
}

impl PublishedPort {
    /// Its protocol, by the name on the wire.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        publish::kind(self.transport)
    }
}
