//! A guest that wants a device's thread for itself.

use vm_memory::{Bytes as _, GuestAddress};

use super::in_place::InPlace;
use super::*;
use crate::played::{AVAILABLE, Guest, SIZE};

/// More chains than any number of turns below has.
const ENDLESS: u32 = 100_000;

/// A device whose work makes the next chain available, as the data of a disk may.
#[derive(Default)]
struct Feeding(u32);

impl Handler for Feeding {
    const ROLE: Role = crate::roles::DOORBELLS;

    fn serve(
        &mut self,
        _index: usize,
        ring: &mut Ring,
        memory: &Arc<Memory>,
    ) -> Result<(), BadRing> {
        let index = GuestAddress(AVAILABLE + 2);
        while let Some(chain) = ring.pop(memory)? {
            self.0 += 1;
            assert!(self.0 < ENDLESS, "it goes on for ever");
            ring.push_used(memory, chain.head_index(), 0)?;
            let next: u16 = memory.read_obj(index).map_err(|_| BadRing)?;
            let next = next.wrapping_add(1);
            memory.write_obj(next, index).map_err(|_| BadRing)?;
        }
        Ok(())
    }
}

fn identity() -> Identity {
    Identity {
        kind: 4,
        rings: vec![SIZE],
        features: 0,
        config: Vec::new(),
    }
}

#[test]
fn a_device_that_feeds_itself_does_so_in_turns() {
    let device = InPlace::new(identity(), Waker::new().unwrap(), Feeding::default());
    let mut guest = Guest::up(device.clone());
    guest.offer(0, 0);
    for turns in 1..=3 {
        assert!(!device.rest(1).unwrap());
        assert_eq!(guest.used(), TURN * turns);
    }
}

#[test]
fn a_device_that_feeds_itself_hears_of_its_reset() {
    let handler = Feeding::default();
    let device = Served::new(identity(), "feeding", Waker::new().unwrap(), handler);
    let mut guest = Guest::up(device.unwrap());
    guest.offer(0, 0);
    guest.interrupted();
    guest.reset();
    assert_eq!(guest.status(), 0);
    assert_eq!(guest.used(), 0);
}
