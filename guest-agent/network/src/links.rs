//! What interfaces are called and marked by, and what the kernel tells of them.

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use rustix::io::Errno;

use crate::NetworkError;
use crate::netlink::Netlink;

/// The group of the bridges that are networks: no packet of a container leaves by one of these.
pub(crate) const NETWORKS: u32 = 27_001;
/// That of bridges that carry more ports of a network than one can.
pub(crate) const EXTENSIONS: u32 = 27_002;
/// That of ports that nobody needs any more.
pub(crate) const DISCARDED: u32 = 27_003;

/// That of VLANs that were made for a network's interfaces to be upon.
pub(crate) const PARENTS: u32 = 27_004;

/// A message about the interface of this name.
pub(crate) fn named(name: &str) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_name(name)
}

pub(crate) fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}

/// What its maker wrote at it.
pub(crate) fn alias(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfAlias(alias) => Some(alias.as_str()),
            _ => None,
        })
}

pub(crate) fn group(link: &LinkMessage) -> Option<u32> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Group(group) => Some(*group),
            _ => None,
        })
}

pub(crate) fn mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
}

pub(crate) fn mac(link: &LinkMessage) -> Option<[u8; 6]> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Address(mac) => mac.as_slice().try_into().ok(),
            _ => None,
        })
}

pub(crate) fn info(link: &LinkMessage) -> &[LinkInfo] {
    let found = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(info) => Some(info.as_slice()),
            _ => None,
        });
    found.unwrap_or_default()
}

pub(crate) fn is(link: &LinkMessage, kind: &InfoKind) -> bool {
    info(link)
        .iter()
        .any(|info| matches!(info, LinkInfo::Kind(of) if of == kind))
}

/// Whether it is upon an interface of another namespace: as those are that were put into a container, and none that a
/// container made itself.
pub(crate) fn is_upon_another(link: &LinkMessage) -> bool {
    let mut attributes = link.attributes.iter();
    attributes.any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)))
}

/// The interface of this name, which has to be there.
pub(crate) fn find(netlink: &mut Netlink, name: &str) -> Result<LinkMessage, NetworkError> {
    netlink
        .link(named(name).build())
        .map_err(NetworkError::saying(|| format!("looking for {name}")))?
        .ok_or_else(|| NetworkError::NoInterface(name.to_owned()))
}

/// Those that have this one as their master; all there are, without one.
pub(crate) fn list(netlink: &mut Netlink, master: Option<u32>) -> Result<Vec<LinkMessage>, Errno> {
    let mut all = LinkMessage::default();
    if let Some(master) = master {
        all.attributes.push(LinkAttribute::Controller(master));
    }
    let found = netlink.list(&RouteNetlinkMessage::GetLink(all))?;
    Ok(found
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .collect())
}
