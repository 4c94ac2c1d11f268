//! Who has which address: questions of the guest by ARP and by neighbour discovery, answered for our own
//! addresses alone.

use std::net::IpAddr;

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol, NdiscNeighborFlags, NdiscRepr,
    RawHardwareAddress,
};

use super::frame::{self, Datagram, ETHERNET, LONGEST_HEAD, Offload, Outgoing, Wire};
use super::plan::Plan;

/// Answers an ARP question for one of our addresses.
pub fn arp(payload: &[u8], plan: &Plan, wire: &mut dyn Wire) {
    let asked = ArpPacket::new_checked(payload)
        .ok()
        .and_then(|packet| ArpRepr::parse(&packet).ok());
    let Some(ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    }) = asked
    else {
        return;
    };
    if !plan.is_ours(target_protocol_addr.into()) {
        return;
    }
    let answer = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: plan.gateway_mac,
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let mut out = [0_u8; LONGEST_HEAD];
    let length = ETHERNET + answer.buffer_len();
    let mut frame = EthernetFrame::new_unchecked(&mut out[..length]);
    EthernetRepr {
        src_addr: plan.gateway_mac,
        dst_addr: source_hardware_addr,
        ethertype: EthernetProtocol::Arp,
    }
    .emit(&mut frame);
    answer.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    send(wire, &out[..length]);
}

/// Answers a question of neighbour discovery for one of our addresses; whether it was one.
pub fn discovery(datagram: &Datagram<'_>, plan: &Plan, wire: &mut dyn Wire) -> bool {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (datagram.source, datagram.destination)
    else {
        return false;
    };
    let Ok(packet) = Icmpv6Packet::new_checked(datagram.payload) else {
        return false;
    };
    let asked = Icmpv6Repr::parse(&source, &destination, &packet, &frame::checked());
    let Ok(Icmpv6Repr::Ndisc(asked)) = asked else {
        return false;
    };
    let NdiscRepr::NeighborSolicit { target_addr, .. } = asked else {
        return true;
    };
    // One that has no address yet asks whether it may have ours.
    if !plan.is_ours(target_addr.into()) || source.is_unspecified() {
        return true;
    }
    let answer = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::SOLICITED
            | NdiscNeighborFlags::OVERRIDE
            | NdiscNeighborFlags::ROUTER,
        target_addr,
        lladdr: Some(hardware(plan.gateway_mac)),
    });
    let mut out = [0_u8; LONGEST_HEAD];
    let ends = [target_addr.into(), source.into()];
    let start = frame::write_ip(
        &mut out,
        plan,
        ends,
        IpProtocol::Icmpv6,
        answer.buffer_len(),
    );
    // RFC 4861, section 7.1: what passed a router is nobody's neighbour.
    out[ETHERNET + 7] = 255;
    let length = start + answer.buffer_len();
    answer.emit(
        &target_addr,
        &source,
        &mut Icmpv6Packet::new_unchecked(&mut out[start..length]),
        &frame::checked(),
    );
    send(wire, &out[..length]);
    true
}

fn hardware(address: EthernetAddress) -> RawHardwareAddress {
    RawHardwareAddress::from_bytes(address.as_bytes())
}

/// A guest without room asks again.
fn send(wire: &mut dyn Wire, frame: &[u8]) {
    wire.send(&Outgoing {
        head: frame,
        content: [&[], &[]],
        offload: Offload::None,
    });
}
