//! The packet filter: one table, whose rules mark packets that came in, before they are routed.
//!
//! ```text
//!   iifgroup NETWORKS socket transparent 1 meta mark set MARK     an answer to a client; see [`transparent`](super)
//!   iifname @internal                      meta mark set SILENT   what comes out of an internal network
//! ```
//!
//! What has the second mark is dropped by the sockets of published ports themselves ([`unheard`]), and by nothing
//! else: they alone know that they are published, and they see packets whole. A rule of the filter would be passed by
//! a packet in pieces whose first is too short to say what it is for.
//!
//! Called by: the thread of the wires, in the host's namespace.
//! Must never: leave a moment in which an internal network is not marked; changes are made before its bridge is.
//! Sources: `net/netfilter/nft_socket.c`, `nft_meta.c`, `nft_lookup.c`, `nf_tables_api.c`.

use std::collections::BTreeSet;

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;
use socket2::SockFilter;

use super::nested::{Attributes, message};
use crate::links::NETWORKS;

/// What marks packets that belong to a connection under a client's address.
pub(super) const MARK: u32 = 0x6c67_7470;
/// What marks those that come out of an internal network.
const SILENT: u32 = 0x6c67_696e;

/// The table's name and its chain's.
const NAME: &str = "lighter";
/// The set of the bridges of internal networks.
const INTERNAL: &str = "internal";
/// How long a name of an interface is for the filter.
const NAME_LENGTH: usize = 16;

/// Numbers of `linux/netfilter/nfnetlink.h` and `nf_tables.h`.
mod number {
    pub const BATCH_BEGIN: u16 = 0x10;
    pub const BATCH_END: u16 = 0x11;
    pub const TABLES: u16 = 10;
    pub const NEW_TABLE: u16 = TABLES << 8;
    pub const DELETE_TABLE: u16 = (TABLES << 8) | 2;
    pub const NEW_CHAIN: u16 = (TABLES << 8) | 3;
    pub const NEW_RULE: u16 = (TABLES << 8) | 6;
    pub const NEW_SET: u16 = (TABLES << 8) | 9;
    pub const NEW_ELEMENT: u16 = (TABLES << 8) | 12;
    pub const DELETE_ELEMENT: u16 = (TABLES << 8) | 14;
    pub const INET: u8 = 1;
    pub const REGISTER: u32 = 1;
    pub const META_MARK: u32 = 3;
    pub const META_IIFNAME: u32 = 6;
    pub const META_IIFGROUP: u32 = 21;
    /// That of connections and addresses, `mangle`.
    pub const PRIORITY: i32 = -150;
}

/// How long the longest answer can be.
const LONGEST: usize = 64 << 10;

/// Puts the table in place of one that is there, all at once: connections go on.
pub(super) fn make(internal: &BTreeSet<String>) -> Result<(), Errno> {
    let mut table = Attributes::default();
    table.text(1, NAME);
    let made = NLM_F_CREATE;
    let mut changes = vec![
        // Made if it is not there, so that it can be removed if it was.
        (number::NEW_TABLE, made, table.clone()),
        (number::DELETE_TABLE, 0, table.clone()),
        (number::NEW_TABLE, made, table),
        (number::NEW_SET, made, set()),
    ];
    let bridges = internal.iter();
    changes.extend(bridges.map(|bridge| (number::NEW_ELEMENT, made, element(bridge))));
    changes.push((number::NEW_CHAIN, made, chain()));
    changes.push((number::NEW_RULE, made, rule(&answers())));
    changes.push((number::NEW_RULE, made, rule(&silence())));
    apply(&changes)
}

/// Notes that a bridge is an internal network's, or that it is not any more.
pub(super) fn set_internal(bridge: &str, internal: bool) -> Result<(), Errno> {
    let (kind, flags) = match internal {
        true => (number::NEW_ELEMENT, NLM_F_CREATE),
        false => (number::DELETE_ELEMENT, 0),
    };
    apply(&[(kind, flags, element(bridge))])
}

/// What a socket of a published port drops: packets that come out of an internal network.
pub(super) fn unheard() -> [SockFilter; 4] {
    // Of `linux/bpf_common.h` and `linux/filter.h`; the mark stands where no packet has bytes.
    const LOAD_WORD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const MARK_OF_PACKET: u32 = 0xffff_f000 + 20;
    [
        SockFilter::new(LOAD_WORD, 0, 0, MARK_OF_PACKET),
        SockFilter::new(IF_EQUAL, 0, 1, SILENT),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

/// A message's kind, its flags and what it says.
type Change = (u16, u16, Attributes);

/// Makes all of these changes, or none.
fn apply(changes: &[Change]) -> Result<(), Errno> {
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed)?;
    socket.bind_auto().map_err(failed)?;
    socket.set_cap_ack(true).map_err(failed)?;
    let (sent, last) = batch(changes);
    socket.send(&sent, 0).map_err(failed)?;
    // What is refused is answered, and the last change in any case: the first refusal is why nothing was done.
    let mut answer = Vec::with_capacity(LONGEST);
    loop {
        answer.clear();
        socket.recv(&mut answer, 0).map_err(failed)?;
        let number = |at: usize| {
            let bytes = answer.get(at..at + 4)?;
            bytes.try_into().ok().map(i32::from_ne_bytes)
        };
        // Behind the header stands the code, of which zero is no error.
        match number(16).ok_or(Errno::BADMSG)? {
            0 if number(8) == Some(last.cast_signed()) => return Ok(()),
            0 => {}
            code => return Err(Errno::from_raw_os_error(-code)),
        }
    }
}

/// The messages of these changes, and the number of the last one.
fn batch(changes: &[Change]) -> (Vec<u8>, u32) {
    let mut bytes = Vec::new();
    let mut sequence = 0;
    let mut add = |kind, flags, family, resource, body: &Attributes| {
        sequence += 1;
        let flags = NLM_F_REQUEST | flags;
        message(&mut bytes, kind, flags, sequence, (family, resource), body);
        sequence
    };
    let none = Attributes::default();
    let mut last = add(number::BATCH_BEGIN, 0, 0, number::TABLES, &none);
    for (at, (kind, flags, body)) in changes.iter().enumerate() {
        // An answer to each would be more than the socket holds.
        let answered = match at + 1 == changes.len() {
            true => NLM_F_ACK,
            false => 0,
        };
        last = add(*kind, flags | answered, number::INET, 0, body);
    }
    add(number::BATCH_END, 0, 0, number::TABLES, &none);
    (bytes, last)
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

/// Names of bridges.
fn set() -> Attributes {
    let mut set = Attributes::default();
    set.text(1, NAME);
    set.text(2, INTERNAL);
    // What its keys are, which is for those who print it: `ifname`.
    set.number(4, 41);
    set.number(5, u32::try_from(NAME_LENGTH).unwrap_or(0));
    // Its number within the batch.
    set.number(10, 1);
    set
}

fn element(bridge: &str) -> Attributes {
    let mut name = bridge.as_bytes().to_vec();
    name.resize(NAME_LENGTH, 0);
    let mut element = Attributes::default();
    element.nested(1, &value(&name));
    let mut elements = Attributes::default();
    elements.nested(1, &element);
    let mut list = Attributes::default();
    list.text(1, NAME);
    list.text(2, INTERNAL);
    list.nested(3, &elements);
    list
}

/// `iifgroup NETWORKS socket transparent 1 meta mark set MARK`.
fn answers() -> Vec<(&'static str, Attributes)> {
    let mut transparent = Attributes::default();
    transparent.number(1, 0);
    transparent.number(2, number::REGISTER);
    let is_networks = [
        ("meta", meta(number::META_IIFGROUP)),
        ("cmp", equals(&NETWORKS.to_ne_bytes())),
        ("socket", transparent),
        ("cmp", equals(&[1])),
    ];
    is_networks.into_iter().chain(set_mark(MARK)).collect()
}

/// `iifname @internal meta mark set SILENT`.
fn silence() -> Vec<(&'static str, Attributes)> {
    let mut lookup = Attributes::default();
    lookup.text(1, INTERNAL);
    lookup.number(2, number::REGISTER);
    let is_internal = [("meta", meta(number::META_IIFNAME)), ("lookup", lookup)];
    is_internal.into_iter().chain(set_mark(SILENT)).collect()
}

/// What is known of a packet.
fn meta(key: u32) -> Attributes {
    let mut meta = Attributes::default();
    meta.number(1, number::REGISTER);
    meta.number(2, key);
    meta
}

fn set_mark(mark: u32) -> [(&'static str, Attributes); 2] {
    let mut immediate = Attributes::default();
    immediate.number(1, number::REGISTER);
    immediate.nested(2, &value(&mark.to_ne_bytes()));
    let mut set = Attributes::default();
    set.number(2, number::META_MARK);
    set.number(3, number::REGISTER);
    [("immediate", immediate), ("meta", set)]
}

fn rule(steps: &[(&str, Attributes)]) -> Attributes {
    let mut expressions = Attributes::default();
    for (name, data) in steps {
        let mut expression = Attributes::default();
        expression.text(1, name);
        expression.nested(2, data);
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
