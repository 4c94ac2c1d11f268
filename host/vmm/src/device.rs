//! A virtio device as a transport sees it.
//!
//! ```text
//!   guest ── registers ──► transport (`mmio`) ── Activation ──► device: its own threads, rings, doorbells
//! ```
//!
//! A device says what it is once, when it is made, and is given its rings once, when the guest's driver says that
//! it is up: from then on no register of the transport reaches it but the reset. It runs on threads of its own; the
//! calls below come from a virtual CPU's thread and must be short.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use virtio_bindings::virtio_config::VIRTIO_CONFIG_S_NEEDS_RESET;
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_STATUS};
use virtio_queue::Queue;

use crate::mmio::Page;
use crate::ring::{BadRing, Memory};
use crate::said::Said;
use crate::vhost_user::Rings;

/// Interrupt status: a ring was used. Virtio 1.2, 4.2.2.
pub const USED_RING: u32 = 1;
/// Interrupt status: configuration or status changed.
pub const CONFIG_CHANGED: u32 = 2;

/// What a device is; none of it changes while it lives.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Virtio's number of this kind of device. Virtio 1.2, 5.
    pub kind: u32,
    /// The longest each of its rings may be, in entries; powers of two.
    pub rings: Vec<u16>,
    /// Features of its own that it offers; the transport adds its own.
    pub features: u64,
    /// Its configuration space, which the guest reads and cannot write.
    pub config: Vec<u8>,
}

/// A ring as the guest set it up, checked to lie in its memory.
#[derive(Debug)]
pub struct Start {
    /// Addresses and size. This is a copy that no register reaches.
    pub queue: Queue,
    /// The doorbell.
    pub kick: OwnedFd,
    /// Where to interrupt the guest.
    pub call: OwnedFd,
}

/// Everything a device needs to run.
#[derive(Debug)]
pub struct Activation {
    /// What the guest's driver accepted of what was offered.
    pub features: u64,
    /// The guest's memory.
    pub memory: Arc<Memory>,
    /// One for each of [`Identity::rings`]; none for a ring that the driver did not set up.
    pub rings: Vec<Option<Start>>,
    /// To say that the guest broke the rules.
    pub trouble: Trouble,
}

/// A virtio device.
pub trait Device: Send {
    /// What it is.
    fn identity(&self) -> &Identity;
    /// Starts it. Called once until the next reset.
    ///
    /// # Errors
    /// When a ring cannot be used; the guest is told that the device needs a reset.
    fn activate(&mut self, activation: Activation) -> Result<(), BadRing>;
    /// Stops it: when this returns, this process touches nothing of the guest's memory any more for it.
    fn reset(&mut self);
    /// Stops it for ever, as the guest has ended; must not wait for another process.
    fn end(&mut self) {
        self.reset();
    }
}

/// How a device says that its guest broke the rules: the device stops, and the guest reads that it needs a reset.
#[derive(Clone, Debug)]
pub struct Trouble(Arc<State>);

#[derive(Debug)]
struct State {
    page: Page,
    call: OwnedFd,
    said: Said,
}

impl Trouble {
    /// One for a device whose interrupts go there, and whose guest reads this page.
    #[must_use]
    pub fn new(call: OwnedFd, page: Page) -> Self {
        let said = Said::default();
        let trouble = Self(Arc::new(State { page, call, said }));
        trouble.clear();
        trouble
    }

    /// Says it, once.
    pub fn report(&self, what: &str) {
        let State { page, call, said } = &*self.0;
        let bit = VIRTIO_CONFIG_S_NEEDS_RESET;
        if page.get(VIRTIO_MMIO_STATUS) & bit != 0 {
            return;
        }
        // The reason first: whoever reads the status finds it.
        page.add(VIRTIO_MMIO_INTERRUPT_STATUS, CONFIG_CHANGED);
        if page.add(VIRTIO_MMIO_STATUS, bit) & bit != 0 {
            return;
        }
        // A guest may reset a device and break the rules again.
        if said.first() {
            tracing::warn!(what, "a device stops: its driver broke the rules");
        }
        // A full counter means that the interrupt is pending already.
        _ = rustix::io::write(call, &1u64.to_ne_bytes());
    }

    /// The guest has seen these reasons of an interrupt. That a ring was used stays among them: rings interrupt past
    /// this, and the driver then looks for itself.
    pub fn seen(&self, reasons: u32) {
        let reasons = reasons & !USED_RING;
        self.0.page.take(VIRTIO_MMIO_INTERRUPT_STATUS, reasons);
    }

    /// After a reset there is no trouble.
    pub fn clear(&self) {
        let State { page, .. } = &*self.0;
        page.take(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_NEEDS_RESET);
        page.set(VIRTIO_MMIO_INTERRUPT_STATUS, USED_RING);
    }
}

/// A device that has a vhost-user front too, on a transport that runs in this process.
pub struct Local<R> {
    identity: Identity,
    rings: R,
}

impl<R: Rings> Local<R> {
    /// `kind` and the lengths of the rings are what vhost-user leaves to the monitor; `extra` rings at the end are the
    /// monitor's, and nothing ever comes over them.
    #[must_use]
    pub fn new(kind: u32, ring: u16, extra: usize, rings: R) -> Self {
        let identity = Identity {
            kind,
            rings: vec![ring; R::COUNT + extra],
            features: R::FEATURES,
            config: rings.config(),
        };
        Self { identity, rings }
    }
}

impl<R: Rings> Device for Local<R> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn activate(&mut self, activation: Activation) -> Result<(), BadRing> {
        self.rings.set_features(activation.features);
        self.rings.set_memory(activation.memory);
        self.rings.set_trouble(activation.trouble);
        for (index, start) in activation.rings.into_iter().take(R::COUNT).enumerate() {
            let start = start.ok_or(BadRing)?;
            self.rings
                .start_ring(index, start.queue, start.kick, Some(start.call))?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        for index in 0..R::COUNT {
            _ = self.rings.stop_ring(index);
        }
        self.rings.forget_guest();
    }
}
