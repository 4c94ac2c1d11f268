//! Interfaces that others are put upon: looked for, and made where they are a VLAN of one that is there.
//!
//! Called by the door, for networks whose containers have interfaces upon another one.
//! Must never: change or remove an interface that was not made here.

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkMessage,
};
use rustix::io::Errno;

use crate::links::{self, PARENTS};
use crate::netlink::{How, Netlink};
use crate::plan::Vlan;
use crate::wires::Wires;
use crate::{NetworkError, bridge, check};

impl Wires {
    /// See [`crate::Wiring::has_interface`].
    pub fn has_interface(&mut self, name: &str) -> Result<bool, NetworkError> {
        check::name(name)?;
        self.found(name).map(|link| link.is_some())
    }

    /// See [`crate::Wiring::set_vlan`].
    pub fn set_vlan(&mut self, vlan: &Vlan) -> Result<(), NetworkError> {
        check::name(&vlan.name)?;
        check::name(&vlan.below)?;
        let refused = |errno| NetworkError::saying(|| format!("making {}", vlan.name))(errno);
        let below = links::find(&mut self.netlink, &vlan.below)?.header.index;
        let mut message = links::named(&vlan.name).link_group(PARENTS).build();
        message.attributes.push(LinkAttribute::Link(below));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(vlan.id)])),
        ]));
        match self
            .netlink
            .add(RouteNetlinkMessage::NewLink(message), How::New)
        {
            Ok(()) => {}
            // By an engine before this one, or by a user; that another name has the number is an error.
            Err(Errno::EXIST) if self.has_interface(&vlan.name)? => {}
            Err(errno) => return Err(refused(errno)),
        }
        let up = links::named(&vlan.name);
        bridge::bring_up(&mut self.netlink, up, &vlan.name, None)
    }

    /// See [`crate::Wiring::remove_vlan`].
    pub fn remove_vlan(&mut self, name: &str) -> Result<(), NetworkError> {
        check::name(name)?;
        if self.found(name)?.is_some_and(|link| is_ours(&link)) {
            Netlink::open()?.delete(links::named(name).build())?;
        }
        Ok(())
    }

    /// See [`crate::Wiring::vlans`].
    pub fn vlans(&mut self) -> Result<Vec<String>, NetworkError> {
        let all = links::list(&mut self.netlink, None).map_err(NetworkError::of("VLANs"))?;
        let ours = all.iter().filter(|link| is_ours(link));
        Ok(ours.filter_map(links::name).map(Into::into).collect())
    }

    fn found(&mut self, name: &str) -> Result<Option<LinkMessage>, NetworkError> {
        self.netlink
            .link(links::named(name).build())
            .map_err(NetworkError::saying(|| format!("looking for {name}")))
    }
}

fn is_ours(link: &LinkMessage) -> bool {
    links::group(link) == Some(PARENTS) && links::is(link, &InfoKind::Vlan)
}
