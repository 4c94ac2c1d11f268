//! The way back to a client by whose address a container was connected: its packets come to the machine, although
//! their destination is not the machine's.
//!
//! One rule of the packet filter marks what belongs to such a connection, and only that, so that a container may
//! still say anything from a port that is published; one rule of routing delivers what is marked.
//! Sources: `net/netfilter/nft_socket.c`, the kernel's `Documentation/networking/tproxy.rst`.

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use super::nested::{Attributes, message};
use crate::NetworkError;
use crate::links::NETWORKS;
use crate::wires::Wires;

/// What marks such packets.
const MARK: u32 = 0x6c67_7470;
/// The table of routes in which every address is the machine's.
const TABLE: u32 = 20_099;
/// Before the rules of networks.
const PRIORITY: u32 = 20_099;
/// The kernel's number of every namespace's loopback.
const LOOPBACK: u32 = 1;

/// The packet filter's table and chain.
const NAME: &str = "lighter";

/// Numbers of `linux/netfilter/nfnetlink.h` and `nf_tables.h`.
mod number {
    pub const BATCH_BEGIN: u16 = 0x10;
    pub const BATCH_END: u16 = 0x11;
    pub const TABLES: u16 = 10;
    pub const NEW_TABLE: u16 = TABLES << 8;
    pub const DELETE_TABLE: u16 = (TABLES << 8) | 2;
    pub const NEW_CHAIN: u16 = (TABLES << 8) | 3;
    pub const NEW_RULE: u16 = (TABLES << 8) | 6;
    pub const INET: u8 = 1;
    pub const REGISTER: u32 = 1;
    pub const META_MARK: u32 = 3;
    pub const META_IIFGROUP: u32 = 21;
    /// That of connections and addresses, `mangle`.
    pub const PRIORITY: i32 = -150;
}

/// How long the longest answer can be.
const LONGEST: usize = 64 << 10;

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
        filter().map_err(NetworkError::of("marking packets of published ports"))
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

/// Puts the table in place of one that is there, all at once: connections go on.
fn filter() -> Result<(), Errno> {
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed)?;
    socket.bind_auto().map_err(failed)?;
    socket.set_cap_ack(true).map_err(failed)?;
    let sent = batch();
    socket.send(&sent, 0).map_err(failed)?;
    // Each change is answered: the first refusal is why nothing was done.
    let mut answer = Vec::with_capacity(LONGEST);
    for _ in 0..CHANGES {
        answer.clear();
        socket.recv(&mut answer, 0).map_err(failed)?;
        // Behind the header stands the code, of which zero is no error.
        let code = answer.get(16..20).and_then(|code| code.try_into().ok());
        let code = code.map_or(-Errno::BADMSG.raw_os_error(), i32::from_ne_bytes);
        if code != 0 {
            return Err(Errno::from_raw_os_error(-code));
        }
    }
    Ok(())
}

/// How many messages of a batch are answered.
const CHANGES: usize = 5;

fn batch() -> Vec<u8> {
    let acknowledged = NLM_F_REQUEST | NLM_F_ACK;
    let made = acknowledged | NLM_F_CREATE;
    let mut table = Attributes::default();
    table.text(1, NAME);
    let mut bytes = Vec::new();
    let mut sequence = 0;
    let mut add = |kind, flags, family, resource, body: &Attributes| {
        sequence += 1;
        message(&mut bytes, kind, flags, sequence, (family, resource), body);
    };
    let none = Attributes::default();
    add(number::BATCH_BEGIN, NLM_F_REQUEST, 0, number::TABLES, &none);
    // Made if it is not there, so that it can be removed if it was.
    add(number::NEW_TABLE, made, number::INET, 0, &table);
    add(number::DELETE_TABLE, acknowledged, number::INET, 0, &table);
    add(number::NEW_TABLE, made, number::INET, 0, &table);
    add(number::NEW_CHAIN, made, number::INET, 0, &chain());
    add(number::NEW_RULE, made, number::INET, 0, &rule());
    add(number::BATCH_END, NLM_F_REQUEST, 0, number::TABLES, &none);
    bytes
}

/// Of packets that came in, before they are routed.
fn chain() -> Attributes {
    let mut hook = Attributes::default();
    hook.number(1, 0);
    hook.number(2, number::PRIORITY.cast_unsigned());
    let mut chain = Attributes::default();
    chain.text(1, NAME);
    chain.text(3, NAME);
    chain.nested(4, &hook);
    chain.text(7, "filter");
    chain
}

/// `iifgroup NETWORKS socket transparent 1 meta mark set MARK`.
fn rule() -> Attributes {
    let mut group = Attributes::default();
    group.number(1, number::REGISTER);
    group.number(2, number::META_IIFGROUP);
    let mut transparent = Attributes::default();
    transparent.number(1, 0);
    transparent.number(2, number::REGISTER);
    let mut mark = Attributes::default();
    mark.number(1, number::REGISTER);
    mark.nested(2, &value(&MARK.to_ne_bytes()));
    let mut set = Attributes::default();
    set.number(2, number::META_MARK);
    set.number(3, number::REGISTER);
    let mut expressions = Attributes::default();
    for (name, data) in [
        ("meta", group),
        ("cmp", equals(&NETWORKS.to_ne_bytes())),
        ("socket", transparent),
        ("cmp", equals(&[1])),
        ("immediate", mark),
        ("meta", set),
    ] {
        let mut expression = Attributes::default();
        expression.text(1, name);
        expression.nested(2, &data);
        expressions.nested(1, &expression);
    }
    let mut rule = Attributes::default();
    rule.text(1, NAME);
    rule.text(2, NAME);
    rule.nested(4, &expressions);
    rule
}

fn equals(bytes: &[u8]) -> Attributes {
    let mut compare = Attributes::default();
    compare.number(1, number::REGISTER);
    compare.number(2, 0);
    compare.nested(3, &value(bytes));
    compare
}

fn value(bytes: &[u8]) -> Attributes {
    let mut value = Attributes::default();
    value.bytes(1, bytes);
    value
}
