//! A queue of the device: the library's, which interrupts the guest once more where its interrupts are led elsewhere.
//!
//! A front end leads interrupts to a descriptor of its own while the guest has them masked, and back when it has not
//! (vhost-user: `VHOST_USER_SET_VRING_CALL`). It does not wait for the answer, and looks at its own descriptor for what
//! came meanwhile: what the device signals there after that look and before it has read the message nobody sees. So
//! each new descriptor is signalled at once; a guest takes an interrupt too many for what it is.
//!
//! Called by the library and by the device. Must never: change what the library does with a ring otherwise.

use std::fs::File;
use std::io;

use vhost_user_backend::{VringRwLock, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::Error as BrokenRing;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// A queue of the guest's, shared by the library's thread and the workers.
#[derive(Clone)]
pub struct Ring(VringRwLock);

impl<'a> VringStateGuard<'a, Memory> for Ring {
    type G = <VringRwLock as VringStateGuard<'a, Memory>>::G;
}

impl<'a> VringStateMutGuard<'a, Memory> for Ring {
    type G = <VringRwLock as VringStateMutGuard<'a, Memory>>::G;
}

impl VringT<Memory> for Ring {
    fn new(memory: Memory, max_queue_size: u16) -> Result<Self, BrokenRing> {
        VringRwLock::new(memory, max_queue_size).map(Self)
    }

    fn get_ref(&self) -> <Self as VringStateGuard<'_, Memory>>::G {
        self.0.get_ref()
    }

    fn get_mut(&self) -> <Self as VringStateMutGuard<'_, Memory>>::G {
        self.0.get_mut()
    }

    fn add_used(&self, head: u16, length: u32) -> Result<(), BrokenRing> {
        self.0.add_used(head, length)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.0.signal_used_queue()
    }

    fn enable_notification(&self) -> Result<bool, BrokenRing> {
        self.0.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), BrokenRing> {
        self.0.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, BrokenRing> {
        self.0.needs_notification()
    }

    fn set_enabled(&self, enabled: bool) {
        self.0.set_enabled(enabled);
    }

    fn set_queue_info(&self, table: u64, available: u64, used: u64) -> Result<(), BrokenRing> {
        self.0.set_queue_info(table, available, used)
    }

    fn queue_next_avail(&self) -> u16 {
        self.0.queue_next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        self.0.set_queue_next_avail(base);
    }

    fn set_queue_next_used(&self, index: u16) {
        self.0.set_queue_next_used(index);
    }

    fn queue_used_idx(&self) -> Result<u16, BrokenRing> {
        self.0.queue_used_idx()
    }

    fn set_queue_size(&self, size: u16) {
        self.0.set_queue_size(size);
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.0.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.0.set_queue_ready(ready);
    }

    fn set_kick(&self, file: Option<File>) {
        self.0.set_kick(file);
    }

    fn read_kick(&self) -> io::Result<bool> {
        self.0.read_kick()
    }

    fn set_call(&self, file: Option<File>) {
        self.0.set_call(file);
        if let Err(error) = self.0.signal_used_queue() {
            tracing::debug!(%error, "a queue's new interrupt could not be signalled");
        }
    }

    fn set_err(&self, file: Option<File>) {
        self.0.set_err(file);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn a_new_way_of_interrupts_is_signalled_at_once() {
        let memory = GuestMemoryMmap::from_ranges(&[]).unwrap_or_default();
        let ring = Ring::new(GuestMemoryAtomic::new(memory), 16).unwrap();
        let call = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let count = || {
            let mut count = [0; 8];
            rustix::io::read(&call, &mut count).map(|_| u64::from_ne_bytes(count))
        };
        ring.set_call(Some(call.try_clone().unwrap().into()));
        assert_eq!(count(), Ok(1));
        ring.set_call(None);
        assert_eq!(count(), Err(rustix::io::Errno::AGAIN));
    }
}
