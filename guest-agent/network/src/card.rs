//! The machine's one network card: moved to where containers find it, and given its addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use futures_util::TryStreamExt as _;
use lighter_protocol::link;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use rustix::io::Errno;

use crate::namespace::within;
use crate::{NetworkError, place};

/// What the kernel calls it.
const CARD: &str = "eth0";

/// Moves the card from the caller's namespace to that of the containers' host network and brings it up there;
/// false where the machine has none. Does nothing where that was done before.
///
/// # Errors
/// What the kernel refuses.
pub async fn attach(host_network: OwnedFd) -> Result<bool, NetworkError> {
    let netlink = connected()?;
    if let Some(index) = find(&netlink).await? {
        let there = LinkUnspec::new_with_index(index)
            .setns_by_fd(host_network.as_raw_fd())
            .build();
        netlink
            .link()
            .set(there)
            .execute()
            .await
            .map_err(NetworkError::of("moving the network card"))?;
    }
    within(host_network, bring_up).await
}

async fn bring_up() -> Result<bool, NetworkError> {
    let netlink = connected()?;
    let Some(index) = find(&netlink).await? else {
        return Ok(false);
    };
    // Nor the one it gives itself, without which it asks for nobody on the link: that would wait seconds.
    place::set(&format!("net/ipv6/conf/{CARD}/accept_dad"), "0")?;
    for (address, prefix) in [
        (IpAddr::from(link::GUEST_V4), link::PREFIX_V4),
        (IpAddr::from(link::GUEST_V6), link::PREFIX_V6),
    ] {
        let mut request = netlink.address().add(index, address, prefix);
        // Nobody else is on this link who could have the address already.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        there_or(
            request.execute().await,
            "giving the network card its address",
        )?;
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    netlink
        .link()
        .set(up)
        .execute()
        .await
        .map_err(NetworkError::of("bringing up the network card"))?;
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(link::GATEWAY_V4)
        .build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new()
        .gateway(link::GATEWAY_V6)
        .build();
    for route in [v4, v6] {
        there_or(
            netlink.route().add(route).execute().await,
            "setting the way out",
        )?;
    }
    Ok(true)
}

/// What is there already was put there before.
fn there_or(done: Result<(), rtnetlink::Error>, what: &'static str) -> Result<(), NetworkError> {
    match done {
        Err(rtnetlink::Error::NetlinkError(error)) if is(&error, Errno::EXIST) => Ok(()),
        done => done.map_err(NetworkError::of(what)),
    }
}

async fn find(netlink: &Handle) -> Result<Option<u32>, NetworkError> {
    let mut found = netlink.link().get().match_name(CARD.to_owned()).execute();
    match found.try_next().await {
        Ok(found) => Ok(found.map(|link| link.header.index)),
        Err(rtnetlink::Error::NetlinkError(error)) if is(&error, Errno::NODEV) => Ok(None),
        Err(error) => Err(NetworkError::of("looking for the network card")(error)),
    }
}

fn is(error: &rtnetlink::packet_core::ErrorMessage, errno: Errno) -> bool {
    error.raw_code() == -errno.raw_os_error()
}

fn connected() -> Result<Handle, NetworkError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(NetworkError::of("opening netlink"))?;
    tokio::spawn(connection);
    Ok(handle)
}
