//! A network namespace for a benchmark of the network: addresses that are not the host's loopback, and nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::program::PORT;
use crate::{cmd, packages};

/// The host's addresses, of a block for documentation (RFC 5737): one for each card of the guest, so that routes
/// tell them apart.
const ADDRESSES: [Ipv4Addr; 3] = [
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv4Addr::new(192, 0, 2, 2),
    Ipv4Addr::new(192, 0, 2, 3),
];

/// Where the server is for the card of this number.
#[must_use]
pub fn address(card: usize) -> SocketAddr {
    (ADDRESSES[card % ADDRESSES.len()], PORT).into()
}

/// Does something on a thread in a network of its own, in which whatever it starts is too.
///
/// # Errors
///
/// When this is not root, the network cannot be made, or the work fails.
pub fn within<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    ensure!(
        packages::is_root(),
        "only root makes a network of its own: run this with sudo"
    );
    let namespace = lighter_tests::network_namespace();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            prepare()?;
            work()
        });
        let done = thread.join();
        done.ok().context("the thread of a network panicked")?
    })
}

fn prepare() -> Result<()> {
    cmd::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    for address in ADDRESSES {
        cmd::run(Command::new("ip").args([
            "address",
            "add",
            &format!("{address}/32"),
            "dev",
            "lo",
        ]))?;
    }
    // Thousands of connections are made to one address within the minute that each port rests.
    for (setting, value) in [("tcp_tw_reuse", "1"), ("ip_local_port_range", "1024 65535")] {
        // As the thread that opens it sees it.
        let path = format!("/proc/sys/net/ipv4/{setting}");
        std::fs::write(&path, value).context(path)?;
    }
    Ok(())
}
