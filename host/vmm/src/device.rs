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
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_bindings::virtio_config::VIRTIO_CONFIG_S_NEEDS_RESET;
use virtio_queue::Queue;

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
    status: AtomicU32,
    interrupts: AtomicU32,
    call: OwnedFd,
    said: Said,
}

impl Trouble {
    /// One for a device whose interrupts go there.
    #[must_use]
    pub fn new(call: OwnedFd) -> Self {
        Self(Arc::new(State {
            status: AtomicU32::new(0),
            interrupts: AtomicU32::new(0),
            call,
            said: Said::default(),
        }))
    }

    /// Says it, once.
    pub fn report(&self, what: &str) {
        let bit = VIRTIO_CONFIG_S_NEEDS_RESET;
        if self.0.status.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return;
        }
        // A guest may reset a device and break the rules again.
        if self.0.said.first() {
            tracing::warn!(what, "a device stops: its driver broke the rules");
        }
        self.0.interrupts.fetch_or(CONFIG_CHANGED, Ordering::AcqRel);
        // A full counter means that the interrupt is pending already.
        _ = rustix::io::write(&self.0.call, &1u64.to_ne_bytes());
    }

    /// What the transport adds to the status that the guest reads.
    #[must_use]
    pub fn status(&self) -> u32 {
        self.0.status.load(Ordering::Acquire)
    }

    /// What the guest reads as the reason of its interrupt. Rings interrupt past this: that one was used is always
    /// among the reasons, and the driver then looks for itself.
    #[must_use]
    pub fn interrupts(&self) -> u32 {
        self.0.interrupts.load(Ordering::Acquire) | USED_RING
    }

    /// The guest has seen these reasons.
    pub fn seen(&self, reasons: u32) {
        self.0.interrupts.fetch_and(!reasons, Ordering::AcqRel);
    }

    /// After a reset there is no trouble.
    pub fn clear(&self) {
        self.0.status.store(0, Ordering::Release);
        self.0.interrupts.store(0, Ordering::Release);
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
