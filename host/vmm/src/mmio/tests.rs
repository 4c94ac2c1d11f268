//! What a guest can do with a device's registers.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use virtio_queue::QueueT as _;

use crate::device::{Activation, Device, Identity};
use crate::played::{
    ACKNOWLEDGE, AVAILABLE, DRIVER, DRIVER_OK, FEATURES_OK, Guest, MEMORY, NEEDS_RESET, SIZE,
    TABLE, USED, VERSION_1, register,
};
use crate::ring::BadRing;

/// A ring as a device was given it.
type Given = (u16, u64, u64, u64);

/// What happened to a device.
#[derive(Clone, Default)]
struct Seen {
    rings: Arc<Mutex<Vec<Vec<Option<Given>>>>>,
    resets: Arc<Mutex<u32>>,
}

struct Noting(Identity, Seen);

impl Noting {
    fn new(seen: &Seen) -> Self {
        let identity = Identity {
            kind: 4,
            rings: vec![64, 64],
            features: 1 << 5,
            config: vec![1, 2, 3],
        };
        Self(identity, seen.clone())
    }
}

impl Device for Noting {
    fn identity(&self) -> &Identity {
        &self.0
    }

    fn activate(&mut self, activation: Activation) -> Result<(), BadRing> {
        let given = |queue: &virtio_queue::Queue| {
            let size = queue.size();
            (
                size,
                queue.desc_table(),
                queue.avail_ring(),
                queue.used_ring(),
            )
        };
        let rings = activation.rings.iter();
        let rings = rings.map(|start| start.as_ref().map(|start| given(&start.queue)));
        self.1.rings.lock().unwrap().push(rings.collect());
        Ok(())
    }

    fn reset(&mut self) {
        *self.1.resets.lock().unwrap() += 1;
    }
}

const GIVEN: Given = (SIZE, TABLE, AVAILABLE, USED);

#[test]
fn registers_tell_what_the_device_is() {
    let mut guest = Guest::new(Noting::new(&Seen::default()));
    assert_eq!(guest.read(0), u32::from_le_bytes(*b"virt"));
    assert_eq!((guest.read(4), guest.read(8)), (2, 4));
    assert_eq!(guest.offered() & (VERSION_1 | 1 << 5), VERSION_1 | 1 << 5);
    let mut config = [9; 4];
    guest.transport.read(0x100, &mut config);
    assert_eq!(config, [1, 2, 3, 0]);
    guest.transport.read(0x101, &mut config[..2]);
    assert_eq!(config, [2, 3, 3, 0]);
    guest.transport.read(0xff0, &mut config);
    assert_eq!(config, [0; 4]);
    // It is memory: parts of a register are read as parts.
    guest.transport.read(1, &mut config[..2]);
    assert_eq!(&config[..2], b"ir");
    for ring in [0, 1, 2, u32::MAX] {
        guest.write(register::QUEUE_SEL, ring);
        assert_eq!(guest.read(0x34), if ring < 2 { 64 } else { 0 });
    }
}

#[test]
fn features_that_were_not_offered_are_refused() {
    for features in [VERSION_1 | 1, 1 << 5, 0] {
        let seen = Seen::default();
        let mut guest = Guest::new(Noting::new(&seen));
        guest.write(register::STATUS, ACKNOWLEDGE | DRIVER);
        guest.accept(features);
        guest.write(register::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        assert_eq!(guest.status() & FEATURES_OK, 0);
        guest.write(register::STATUS, 0xf);
        assert!(seen.rings.lock().unwrap().is_empty());
    }
}

#[test]
fn rings_that_are_none_stop_the_device() {
    for (register, value) in [
        (register::QUEUE_NUM, 0),
        (register::QUEUE_NUM, 3),
        (register::QUEUE_NUM, 65),
        (register::QUEUE_NUM, 0x1_0010),
        (register::DESCRIPTORS, 8),
        (register::DESCRIPTORS, MEMORY as u32 - 16),
        (register::AVAILABLE, MEMORY as u32),
        (register::USED, u32::MAX - 3),
        (register::USED + 4, u32::MAX),
        // One over another: flags that the device writes as an index that the guest says, and the edges.
        (register::AVAILABLE, USED as u32 - 2),
        (register::AVAILABLE, USED as u32 + 4 + 8 * u32::from(SIZE)),
        (register::USED, AVAILABLE as u32),
        (register::DESCRIPTORS, AVAILABLE as u32 - 16),
        (register::DESCRIPTORS, USED as u32 + 0x80),
    ] {
        let seen = Seen::default();
        let mut guest = Guest::new(Noting::new(&seen));
        guest.negotiate();
        guest.set_ring(1, u32::from(SIZE));
        guest.write(register::QUEUE_READY, 0);
        guest.write(register, value);
        guest.write(register::QUEUE_READY, 1);
        guest.write(register::STATUS, guest.status() | DRIVER_OK);
        assert_eq!(
            guest.status() & NEEDS_RESET,
            NEEDS_RESET,
            "{register:#x} {value:#x}"
        );
        assert!(seen.rings.lock().unwrap().is_empty());
        // A reset makes a new device of it.
        guest.write(register::STATUS, 0);
        assert_eq!(guest.status(), 0);
        guest.negotiate();
        guest.set_ring(1, u32::from(SIZE));
        guest.write(register::STATUS, guest.status() | DRIVER_OK);
        assert_eq!(*seen.rings.lock().unwrap(), [vec![None, Some(GIVEN)]]);
    }
}

#[test]
fn the_parts_of_a_ring_may_touch_each_other() {
    let size = u64::from(SIZE);
    let available = TABLE + 16 * size;
    let used = (available + 6 + 2 * size).next_multiple_of(4);
    let seen = Seen::default();
    let mut guest = Guest::new(Noting::new(&seen));
    guest.negotiate();
    guest.set_ring(1, u32::from(SIZE));
    guest.write(register::QUEUE_READY, 0);
    guest.write(register::AVAILABLE, available as u32);
    guest.write(register::USED, used as u32);
    guest.write(register::QUEUE_READY, 1);
    guest.write(register::STATUS, guest.status() | DRIVER_OK);
    let given = Some((SIZE, TABLE, available, used));
    assert_eq!(*seen.rings.lock().unwrap(), [vec![None, given]]);
}

#[test]
fn a_ring_is_set_up_after_the_features_only() {
    let seen = Seen::default();
    let mut guest = Guest::new(Noting::new(&seen));
    guest.set_ring(0, u32::from(SIZE));
    guest.negotiate();
    guest.write(register::STATUS, guest.status() | DRIVER_OK);
    assert_eq!(*seen.rings.lock().unwrap(), [vec![None, None]]);
}

proptest! {
    /// CVE-2026-5747: a driver that is up writes to the registers of its rings again, and what the device was
    /// given stays as it was.
    #[test]
    fn cve_2026_5747_no_register_reaches_a_ring_that_runs(
        writes in proptest::collection::vec((0u64..0x110, prop_oneof![0u32..0x80, any::<u32>()]), 1..200),
    ) {
        let seen = Seen::default();
        let mut guest = Guest::up(Noting::new(&seen));
        let mut lives = 1;
        for (register, value) in writes {
            let register = register & !3;
            guest.write(register, value);
            let status = guest.status();
            if register == register::STATUS && value == 0 {
                // The one way to other rings is a reset, which the device sees.
                prop_assert_eq!(*seen.resets.lock().unwrap(), lives);
                guest = Guest::up(Noting::new(&seen));
                lives += 1;
                continue;
            }
            prop_assert_eq!(status & DRIVER_OK, DRIVER_OK);
            let given = seen.rings.lock().unwrap().clone();
            prop_assert_eq!(given.len() as u32, lives);
            prop_assert!(given.iter().all(|rings| *rings == vec![Some(GIVEN); 2]));
        }
    }
}
