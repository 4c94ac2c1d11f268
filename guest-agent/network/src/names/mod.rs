//! Names: what a container's name server at 127.0.0.11 answers.
//!
//! ```text
//!   container ──► 127.0.0.11:53 ──(programs on its control group)──► [Sockets] in its namespace ──► serve
//!                                                                                                     │
//!                       [Zone]: containers of its networks ◄── answer: the rules, plain data ◄────────┤
//!                       servers of the container's or the host's ◄── onward: everything else ◄────────┘
//! ```
//!
//! The sockets are in the container's namespace and are served from here; another process can go on with them.
//!
//! Called by: the engine, for containers of networks that were made. Calls: nothing of ours.
//! Must never: answer a container with what is in networks it is not in, believe an answer that was not asked for, or
//! hold more for a container than [`QUESTIONS`] and [`CONNECTIONS`] allow.

mod answer;
mod onward;
mod serve;
mod sockets;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use serve::{Service, serve};
pub use sockets::{PORT, Sockets};

/// The address that containers ask.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Whom the host's namespace asks where nobody says: the host's end of the link.
pub const HOST_SERVER: IpAddr = IpAddr::V4(lighter_protocol::link::GATEWAY_V4);

/// Questions of one container that are on their way to another server at once; dockerd's.
pub const QUESTIONS: usize = 1_024;

/// Connections of one container at once.
pub const CONNECTIONS: usize = 64;

/// Who knows the containers.
pub trait Zone: Send + Sync + 'static {
    /// Addresses of one family of a name, as a container knows it; nothing where the name is nobody's, none where it
    /// is somebody's who has no such address. The name has no dot at its end, and any case.
    fn addresses(&self, asker: &str, name: &str, v6: bool) -> Option<Vec<IpAddr>>;

    /// Whose an address is in the networks that a container is in.
    fn name(&self, asker: &str, address: IpAddr) -> Option<String>;

    /// Who is asked for everything else.
    fn onward(&self, asker: &str) -> Onward;
}

/// Who is asked for what is not known here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Onward {
    /// The servers, in order.
    pub servers: Vec<IpAddr>,
    /// Whether they are asked from the container's namespace, and not from the host's.
    pub from_container: bool,
    /// Whether addresses of names without a dot are asked for; a container that sets `ndots` wants its search domains
    /// tried.
    pub plain_names: bool,
}

/// Where questions can be asked from.
#[derive(Debug, Clone)]
pub struct Places {
    /// The container's namespace.
    pub container: Arc<OwnedFd>,
    /// The host's, where there is one.
    pub host: Option<Arc<OwnedFd>>,
}
