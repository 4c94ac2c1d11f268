//! The way back to a client by whose address a container was connected: its packets come to the machine, although
//! their destination is not the machine's.
//!
//! One rule of the packet filter marks what belongs to such a connection ([`filter`]), and only that, so that a
//! container may still say anything from a port that is published; one rule of routing delivers what is marked.
//! Source: the kernel's `Documentation/networking/tproxy.rst`.

use rtnetlink::packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::filter::{self, MARK};
use crate::NetworkError;
use crate::wires::Wires;

/// The table of routes in which every address is the machine's.
const TABLE: u32 = 20_099;
/// Before the rules of networks.
const PRIORITY: u32 = 20_099;
/// The kernel's number of every namespace's loopback.
const LOOPBACK: u32 = 1;

impl Wires {
    /// See [`crate::Wiring::lead_back`].
    pub fn lead_back(&mut self) -> Result<(), NetworkError> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            self.netlink
                .ensure(RouteNetlinkMessage::NewRoute(everything(family)))
                .map_err(NetworkError::of("routing to published ports"))?;
            self.netlink
                .ensure(RouteNetlinkMessage::NewRule(marked(family)))
                .map_err(NetworkError::of("a rule for published ports"))?;
        }
        let made = filter::make(&self.internal);
        made.map_err(NetworkError::of("marking packets of published ports"))?;
        self.led_back = true;
        Ok(())
    }

    /// Has published ports keep silent to what comes in by a bridge, or answer it.
    ///
    /// One to which they are to keep silent is known from then on, also where the kernel could not be told: whatever
    /// makes the packet filter anew names it.
    pub fn keep_silent(&mut self, bridge: &str, silent: bool) -> Result<(), NetworkError> {
        let untold = match silent {
            true => {
                self.internal.insert(bridge.to_owned());
                // It may not have been told the last time.
                true
            }
            false => self.internal.remove(bridge),
        };
        // Before the first port is published there is nothing that could answer.
        if !(untold && self.led_back) {
            return Ok(());
        }
        // Somebody may have emptied the packet filter.
        let done = filter::set_internal(bridge, silent).or_else(|_| filter::make(&self.internal));
        if done.is_err() && !silent {
            // Asked once more it is tried again.
            self.internal.insert(bridge.to_owned());
        }
        done.map_err(NetworkError::saying(|| {
            format!("published ports and {bridge}")
        }))
    }
}

/// Every address is the machine's.
fn everything(family: AddressFamily) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.kind = RouteType::Local;
    message.header.scope = RouteScope::Host;
    message.header.protocol = RouteProtocol::Boot;
    message.attributes.push(RouteAttribute::Table(TABLE));
    message.attributes.push(RouteAttribute::Oif(LOOPBACK));
    message
}

/// What is marked goes by that table.
fn marked(family: AddressFamily) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.action = RuleAction::ToTable;
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(PRIORITY));
    attributes.push(RuleAttribute::FwMark(MARK));
    attributes.push(RuleAttribute::Table(TABLE));
    message
}
