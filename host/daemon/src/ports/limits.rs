//! How much a guest may have of the host by publishing ports.

use lighter_platform::sys;

/// Most containers with ports at a time.
const MOST_STREAMS: usize = 4_096;
/// Most ports of one container.
const MOST_PORTS: usize = 4_096;
/// Most sockets that listen, a port has one for each of its addresses; and at most half of what this
/// process may open.
const MOST_SOCKETS: usize = 16_384;
/// Most clients of TCP on their way to the guest; further ones wait in the system's queues. And at most
/// one in eight of what this process may open.
const MOST_ARRIVALS: usize = 1_024;

/// Most clients of UDP that are known at a time; and at most one in eight of what this process may open.
const MOST_FLOWS: usize = 2_048;
/// Most of them of one port.
const MOST_FLOWS_EACH: usize = 1_024;
/// Most of them of one port that the guest has not taken yet: so fast may they come, and no work is done for more.
const MOST_BEGINNING: usize = 64;
/// Most bytes of datagrams that wait for the guest, of one client.
const MOST_WAITING_EACH: usize = 128 << 10;
/// Most bytes of datagrams that wait for the guest, of all clients.
const MOST_WAITING: usize = 32 << 20;

/// The bounds that hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Containers with ports.
    pub streams: usize,
    /// Ports of one.
    pub ports: usize,
    /// Sockets that listen, of all.
    pub sockets: usize,
    /// Clients on their way, of all.
    pub arrivals: usize,
    /// Clients of UDP, of all ports.
    pub flows: usize,
    /// Clients of UDP, of one port.
    pub flows_each: usize,
    /// Clients of UDP that begin, of one port.
    pub beginning: usize,
    /// Bytes that wait for the guest, of one client of UDP.
    pub waiting_each: usize,
    /// Bytes that wait for the guest, of all clients of UDP.
    pub waiting: usize,
}

impl Limits {
    /// Those of this process.
    pub fn here() -> Self {
        let descriptors = sys::descriptor_limit();
        Self {
            streams: MOST_STREAMS.min(descriptors / 8),
            ports: MOST_PORTS,
            sockets: MOST_SOCKETS.min(descriptors / 2),
            arrivals: MOST_ARRIVALS.min(descriptors / 8),
            flows: MOST_FLOWS.min(descriptors / 8),
            flows_each: MOST_FLOWS_EACH.min(descriptors / 8),
            beginning: MOST_BEGINNING,
            waiting_each: MOST_WAITING_EACH,
            waiting: MOST_WAITING,
        }
    }
}
