//! The registers of one device.
//!
//! ```text
//!   Setup { features, rings } ── DRIVER_OK ──► Running (no register reaches the device) ── status 0 ──► Setup
//! ```
//!
//! What the guest writes is kept as numbers until the driver says that it is up. Then each ring is checked and
//! copied for the device, and the registers of rings are dead until the next reset: writes to them are dropped.

use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::sync::Arc;

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_DEVICE_FEATURES, VIRTIO_MMIO_DEVICE_FEATURES_SEL,
    VIRTIO_MMIO_DEVICE_ID, VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_DRIVER_FEATURES_SEL,
    VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_MAGIC_VALUE, VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
    VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH, VIRTIO_MMIO_QUEUE_DESC_LOW,
    VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_QUEUE_NUM, VIRTIO_MMIO_QUEUE_NUM_MAX,
    VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_QUEUE_USED_HIGH,
    VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_SHM_BASE_HIGH, VIRTIO_MMIO_SHM_BASE_LOW,
    VIRTIO_MMIO_SHM_LEN_HIGH, VIRTIO_MMIO_SHM_LEN_LOW, VIRTIO_MMIO_STATUS, VIRTIO_MMIO_VENDOR_ID,
    VIRTIO_MMIO_VERSION,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::device::{Activation, Device, Start, Trouble};
use crate::ring::{BadRing, Memory, is_sound};
use crate::said::Said;

use super::page::Page;

/// Where in its page a device's doorbell is.
pub const NOTIFY: u64 = VIRTIO_MMIO_QUEUE_NOTIFY as u64;
/// Where in it the guest says which reasons of an interrupt it has seen.
pub const ACKNOWLEDGE: u64 = VIRTIO_MMIO_INTERRUPT_ACK as u64;

/// "virt", little endian.
const MAGIC: u32 = 0x7472_6976;
/// The version of this transport since virtio 1.0.
const VERSION: u32 = 2;
/// "LGHT", little endian; nobody asks.
const VENDOR: u32 = 0x5448_474c;
/// Features of rings and transport, offered for every device.
const FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;
/// What the driver says on its way up, in this order.
const KNOWN: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE
    | VIRTIO_CONFIG_S_DRIVER
    | VIRTIO_CONFIG_S_FEATURES_OK
    | VIRTIO_CONFIG_S_DRIVER_OK
    | VIRTIO_CONFIG_S_FAILED;

/// The system gave no event descriptor.
#[derive(Debug, thiserror::Error)]
#[error("an event descriptor for a device")]
pub struct TransportError(#[from] std::io::Error);

/// A ring as the registers have it.
#[derive(Clone, Copy, Debug, Default)]
struct Registers {
    size: u32,
    ready: bool,
    descriptors: [u32; 2],
    available: [u32; 2],
    used: [u32; 2],
}

/// One device and its registers.
pub struct Transport {
    device: Box<dyn Device>,
    memory: Arc<Memory>,
    page: Page,
    trouble: Trouble,
    interrupt: EventFd,
    doorbells: Vec<EventFd>,
    status: u32,
    device_half: u32,
    driver_half: u32,
    driver_features: u64,
    selected: u32,
    rings: Vec<Registers>,
    running: bool,
    dropped: Said,
}

impl Transport {
    /// The registers of this device, as after a reset; the guest reads them in this page.
    ///
    /// # Errors
    /// When the system gives no descriptors.
    pub fn new(
        device: Box<dyn Device>,
        memory: Arc<Memory>,
        page: Page,
    ) -> Result<Self, TransportError> {
        let event = || EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK);
        let interrupt = event()?;
        let rings = device.identity().rings.len();
        let doorbells = (0..rings).map(|_| event()).collect::<Result<_, _>>()?;
        let transport = Self {
            trouble: Trouble::new(owned(interrupt.try_clone()?), page.clone()),
            page,
            device,
            memory,
            interrupt,
            doorbells,
            status: 0,
            device_half: 0,
            driver_half: 0,
            driver_features: 0,
            selected: 0,
            rings: vec![Registers::default(); rings],
            running: false,
            dropped: Said::default(),
        };
        transport.describe();
        transport.show();
        Ok(transport)
    }

    /// Rung by the device for the guest.
    #[must_use]
    pub fn interrupt(&self) -> &EventFd {
        &self.interrupt
    }

    /// Rung by the guest for the device, one for each ring.
    #[must_use]
    pub fn doorbells(&self) -> &[EventFd] {
        &self.doorbells
    }

    /// What the guest reads of the page, by itself.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        self.page.read(offset, into);
    }

    /// What is read and never changes.
    fn describe(&self) {
        let identity = self.device.identity();
        let page = &self.page;
        page.set(VIRTIO_MMIO_MAGIC_VALUE, MAGIC);
        page.set(VIRTIO_MMIO_VERSION, VERSION);
        page.set(VIRTIO_MMIO_DEVICE_ID, identity.kind);
        page.set(VIRTIO_MMIO_VENDOR_ID, VENDOR);
        // There is no shared memory: its length is all ones (virtio 1.2, 4.2.2.1).
        for register in [
            VIRTIO_MMIO_SHM_LEN_LOW,
            VIRTIO_MMIO_SHM_LEN_HIGH,
            VIRTIO_MMIO_SHM_BASE_LOW,
            VIRTIO_MMIO_SHM_BASE_HIGH,
        ] {
            page.set(register, u32::MAX);
        }
        page.fill(VIRTIO_MMIO_CONFIG, &identity.config);
    }

    /// What is read and follows from what was written.
    fn show(&self) {
        let selected = self.selected as usize;
        let most = self.device.identity().rings.get(selected);
        let ready = self.rings.get(selected).is_some_and(|ring| ring.ready);
        let page = &self.page;
        page.set(
            VIRTIO_MMIO_DEVICE_FEATURES,
            half(self.offered(), self.device_half),
        );
        page.set(VIRTIO_MMIO_QUEUE_NUM_MAX, most.copied().unwrap_or(0).into());
        page.set(VIRTIO_MMIO_QUEUE_READY, ready.into());
        // The device adds a bit of its own, from another thread.
        page.take(VIRTIO_MMIO_STATUS, KNOWN & !self.status);
        page.add(VIRTIO_MMIO_STATUS, self.status);
    }

    /// The guest writes some of the page; when this returns it may read what came of it.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.set_register(offset, bytes);
        self.show();
    }

    fn set_register(&mut self, offset: u64, bytes: &[u8]) {
        // Configurations are read only, and registers are written whole.
        let (Ok(bytes), Ok(offset)) = (<[u8; 4]>::try_from(bytes), u32::try_from(offset)) else {
            return;
        };
        let value = u32::from_le_bytes(bytes);
        match offset {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_half = value,
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_half = value,
            VIRTIO_MMIO_DRIVER_FEATURES => self.accept_features(value),
            VIRTIO_MMIO_QUEUE_SEL => self.selected = value,
            VIRTIO_MMIO_INTERRUPT_ACK => self.trouble.seen(value),
            VIRTIO_MMIO_STATUS => self.set_status(value),
            // Without a doorbell of the kernel's.
            VIRTIO_MMIO_QUEUE_NOTIFY => {
                if let Some(doorbell) = self.doorbells.get(value as usize) {
                    // A full counter means that it rings already.
                    _ = doorbell.write(1);
                }
            }
            _ => self.set_ring(offset, value),
        }
    }

    fn offered(&self) -> u64 {
        self.device.identity().features | FEATURES
    }

    fn accept_features(&mut self, value: u32) {
        if self.status & VIRTIO_CONFIG_S_FEATURES_OK != 0 {
            return;
        }
        let (mask, value) = match self.driver_half {
            0 => (0xffff_ffff, u64::from(value)),
            1 => (0xffff_ffff << 32, u64::from(value) << 32),
            _ => return,
        };
        self.driver_features = self.driver_features & !mask | value;
    }

    fn set_ring(&mut self, offset: u32, value: u32) {
        let settable = !self.running && self.status & VIRTIO_CONFIG_S_FEATURES_OK != 0;
        let Some(ring) = self.rings.get_mut(self.selected as usize) else {
            return;
        };
        // A ring that is ready is not changed any more (virtio 1.2, 4.2.2.2).
        let ready = offset == VIRTIO_MMIO_QUEUE_READY;
        if !settable || ring.ready && !ready {
            // A driver that goes takes its rings back, which a reset has done.
            let taken_back = ready && value == 0;
            if !taken_back && self.dropped.first() {
                tracing::warn!(offset, "a write to a ring that runs is dropped");
            }
            return;
        }
        match offset {
            VIRTIO_MMIO_QUEUE_READY => ring.ready = value == 1,
            VIRTIO_MMIO_QUEUE_NUM => ring.size = value,
            VIRTIO_MMIO_QUEUE_DESC_LOW => ring.descriptors[0] = value,
            VIRTIO_MMIO_QUEUE_DESC_HIGH => ring.descriptors[1] = value,
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => ring.available[0] = value,
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => ring.available[1] = value,
            VIRTIO_MMIO_QUEUE_USED_LOW => ring.used[0] = value,
            VIRTIO_MMIO_QUEUE_USED_HIGH => ring.used[1] = value,
            _ => {}
        }
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            return self.stop();
        }
        let new = value & KNOWN & !self.status;
        self.status |= value & KNOWN;
        // Features that were not offered are refused by not taking this step.
        let wrong = self.driver_features & !self.offered() != 0
            || self.driver_features & 1 << VIRTIO_F_VERSION_1 == 0;
        if new & VIRTIO_CONFIG_S_FEATURES_OK != 0 && wrong {
            self.status &= !VIRTIO_CONFIG_S_FEATURES_OK;
        }
        let up = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
        if new & VIRTIO_CONFIG_S_DRIVER_OK != 0 && self.status & up == up && !self.running {
            self.running = true;
            if self.activate().is_err() {
                self.trouble.report(
                    "a ring is not wholly in its memory, lies over itself, or has a wrong size",
                );
            }
        }
    }

    fn activate(&mut self) -> Result<(), BadRing> {
        let maxima = self.device.identity().rings.clone();
        let mut rings = Vec::with_capacity(maxima.len());
        for ((registers, max), doorbell) in self.rings.iter().zip(maxima).zip(&self.doorbells) {
            if !registers.ready {
                rings.push(None);
                continue;
            }
            let queue = registers.checked(max, self.driver_features, &self.memory)?;
            let copy = |event: &EventFd| event.try_clone().map(owned).map_err(|_| BadRing);
            rings.push(Some(Start {
                queue,
                kick: copy(doorbell)?,
                call: copy(&self.interrupt)?,
            }));
        }
        self.device.activate(Activation {
            features: self.driver_features,
            memory: Arc::clone(&self.memory),
            rings,
            trouble: self.trouble.clone(),
        })
    }

    /// The guest has ended.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.running) {
            self.device.end();
        }
    }

    /// As after a reset.
    fn stop(&mut self) {
        if std::mem::take(&mut self.running) {
            self.device.reset();
        }
        self.trouble.clear();
        (self.status, self.driver_features, self.selected) = (0, 0, 0);
        (self.device_half, self.driver_half) = (0, 0);
        self.rings.fill(Registers::default());
        for doorbell in &self.doorbells {
            // Nothing to take is as good.
            _ = doorbell.read();
        }
    }
}

impl Registers {
    /// The ring for the device, if it can be one.
    fn checked(&self, max: u16, features: u64, memory: &Memory) -> Result<Queue, BadRing> {
        let size = u16::try_from(self.size).map_err(|_| BadRing)?;
        let mut queue = Queue::new(max).map_err(|_| BadRing)?;
        let address =
            |halves: [u32; 2]| GuestAddress(u64::from(halves[0]) | u64::from(halves[1]) << 32);
        let set = queue
            .try_set_size(size)
            .and_then(|()| queue.try_set_desc_table_address(address(self.descriptors)))
            .and_then(|()| queue.try_set_avail_ring_address(address(self.available)))
            .and_then(|()| queue.try_set_used_ring_address(address(self.used)));
        set.map_err(|_| BadRing)?;
        queue.set_event_idx(features & 1 << VIRTIO_RING_F_EVENT_IDX != 0);
        queue.set_ready(self.ready);
        if is_sound(&queue, memory) {
            Ok(queue)
        } else {
            Err(BadRing)
        }
    }
}

fn half(features: u64, half: u32) -> u32 {
    match half {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

fn owned(event: EventFd) -> OwnedFd {
    debug_assert!(event.as_raw_fd() >= 0, "an event descriptor is open");
    // SAFETY: the descriptor was just taken out of its owner, which closes it no more.
    unsafe { OwnedFd::from_raw_fd(event.into_raw_fd()) }
}
