//! A guest that breaks a ring, on a transport that can tell it so.

use super::super::{GUEST_CID, RING_TX, Vsock};
use crate::device::{CONFIG_CHANGED, Local, USED_RING};
use crate::played::{DRIVER_OK, Guest, NEEDS_RESET, SIZE, register};

fn until(what: impl Fn() -> bool) {
    while !what() {
        std::thread::yield_now();
    }
}

#[test]
fn a_broken_ring_is_told_to_the_guest_and_mended_by_a_reset() {
    let vsock = Vsock::spawn(GUEST_CID).unwrap();
    let mut guest = Guest::up(Local::new(19, SIZE, 1, vsock.transport()));
    until(|| vsock.ready());
    for _ in 0..3 {
        // More chains than a ring holds.
        guest.set_available(SIZE + 1);
        guest.is_given_up(RING_TX as u32);
        assert_eq!(
            guest.read(register::INTERRUPT_STATUS) & CONFIG_CHANGED,
            CONFIG_CHANGED
        );
        // What was not seen stays.
        guest.write(register::INTERRUPT_ACK, USED_RING);
        let both = CONFIG_CHANGED | USED_RING;
        assert_eq!(guest.read(register::INTERRUPT_STATUS), both);
        guest.write(register::INTERRUPT_ACK, both);
        assert_eq!(guest.read(register::INTERRUPT_STATUS), USED_RING);
        until(|| !vsock.ready());
        guest.write(register::STATUS, 0);
        assert_eq!(guest.status() & NEEDS_RESET, 0);
        guest.set_available(0);
        guest.negotiate();
        for ring in 0..3 {
            guest.set_ring(ring, u32::from(SIZE));
        }
        guest.write(register::STATUS, guest.status() | DRIVER_OK);
        until(|| vsock.ready());
        assert_eq!(guest.status() & NEEDS_RESET, 0);
    }
}
