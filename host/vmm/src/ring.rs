//! One virtqueue while it runs: the ring, the doorbell from the guest, the interrupt to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use std::sync::atomic::{Ordering, fence};

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// The guest's memory as this process has it mapped.
pub type Memory = GuestMemoryMmap<()>;

/// The guest broke the ring itself; nothing more can be read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a virtqueue is malformed")]
pub struct BadRing;

/// A running ring. Its addresses and size were checked when it was made and cannot change.
#[derive(Debug)]
pub struct Ring {
    queue: Queue,
    kick: OwnedFd,
    call: Option<OwnedFd>,
    /// Chains given back since the guest was last interrupted, or asked whether it wants to be.
    unsignalled: u16,
    /// Chains that may still be taken in this turn; nothing where there are no turns.
    left: Option<u16>,
}

/// Whether a ring is wholly in the guest's memory, and none of its three parts lies over another.
///
/// What a device writes to one part would else be the guest's next word in another: with the used ring's flags over the
/// available ring's index a device that asks for doorbells finds something new each time, for ever.
pub(crate) fn is_sound(queue: &Queue, memory: &Memory) -> bool {
    let size = u64::from(queue.size());
    // Lengths by virtio 1.2, 2.7; the words of events at the ends included.
    let parts = [
        (queue.desc_table(), 16 * size),
        (queue.avail_ring(), 6 + 2 * size),
        (queue.used_ring(), 6 + 8 * size),
    ];
    let apart = |(one, length): (u64, u64), (other, others): (u64, u64)| {
        one >= other && one - other >= others || other > one && other - one >= length
    };
    queue.is_valid(memory)
        && apart(parts[0], parts[1])
        && apart(parts[0], parts[2])
        && apart(parts[1], parts[2])
}

impl Ring {
    /// Takes a configured queue; refuses one that is not wholly in guest memory, or lies over itself.
    pub fn new(
        memory: &Memory,
        queue: Queue,
        kick: OwnedFd,
        call: Option<OwnedFd>,
    ) -> Result<Self, BadRing> {
        if !is_sound(&queue, memory) {
            return Err(BadRing);
        }
        Ok(Self {
            queue,
            kick,
            call,
            unsignalled: 0,
            left: None,
        })
    }

    /// The doorbell.
    pub fn kick(&self) -> BorrowedFd<'_> {
        self.kick.as_fd()
    }

    /// Takes the doorbell's count.
    pub fn clear_kick(&self) {
        // Nothing to take means that somebody else was woken by it: harmless.
        _ = rustix::io::read(&self.kick, &mut [0; 8]);
    }

    /// Sets where interrupts go; one is sent at once, as the former target may have missed one.
    pub fn set_call(&mut self, call: Option<OwnedFd>) {
        self.call = call;
        self.signal();
    }

    /// The next position in the ring, which a later start continues from.
    pub fn base(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Begins a turn of at most so many chains. A guest can have the device itself write what makes the next chain
    /// available: whoever serves a ring until it is empty may do so for ever.
    pub fn begin_turn(&mut self, chains: u16) {
        self.left = Some(chains);
    }

    /// Whether as many chains were taken as a turn has; the guest does not ring for those that are left.
    pub fn turn_is_over(&self) -> bool {
        self.left == Some(0)
    }

    /// Takes the next chain the guest made available; none when the turn is over.
    pub fn pop<'m>(
        &mut self,
        memory: &'m Memory,
    ) -> Result<Option<DescriptorChain<&'m Memory>>, BadRing> {
        if self.turn_is_over() {
            return Ok(None);
        }
        let mut available = self.queue.iter(memory).map_err(|_| BadRing)?;
        let chain = available.next();
        if let (Some(_), Some(left)) = (&chain, &mut self.left) {
            *left -= 1;
        }
        Ok(chain)
    }

    /// Puts the `n` chains taken last back.
    pub fn put_back(&mut self, n: u16) {
        let base = self.queue.next_avail().wrapping_sub(n);
        self.queue.set_next_avail(base);
        self.left = self.left.map(|left| left.saturating_add(n));
    }

    /// Gives a chain back to the guest with `len` bytes written into it.
    pub fn push_used(&mut self, memory: &Memory, head: u16, len: u32) -> Result<(), BadRing> {
        self.queue
            .add_used(memory, head, len)
            .map_err(|_| BadRing)?;
        self.unsignalled = self.unsignalled.saturating_add(1);
        Ok(())
    }

    /// Gives the chains of one frame back, with so many bytes in each: the guest sees all of them or none (virtio
    /// 1.2, section 5.1.6.4), since one that looks meanwhile drops a frame whose end is missing.
    pub fn push_used_together(
        &mut self,
        memory: &Memory,
        chains: &[(u16, u32)],
    ) -> Result<(), BadRing> {
        let Some((last, rest)) = chains.split_last() else {
            return Ok(());
        };
        let mut next = self.queue.next_used();
        for (head, len) in rest {
            if *head >= self.queue.size() {
                return Err(BadRing);
            }
            // Behind the flags and the index (section 2.7.8).
            let place = 4 + 8 * u64::from(next % self.queue.size());
            let address = self.queue.used_ring().checked_add(place).ok_or(BadRing)?;
            let used = (u64::from(*len) << 32 | u64::from(*head)).to_le();
            memory
                .write_obj(used, GuestAddress(address))
                .map_err(|_| BadRing)?;
            next = next.wrapping_add(1);
        }
        self.queue.set_next_used(next);
        self.unsignalled = self.unsignalled.saturating_add(rest.len() as u16);
        // This moves the index, behind everything that was written before.
        self.push_used(memory, last.0, last.1)
    }

    /// Chains given back that the guest was not told about.
    pub fn unsignalled(&self) -> u16 {
        self.unsignalled
    }

    /// Whether so much was given back untold that the guest may soon lack room.
    pub fn much_unsignalled(&self) -> bool {
        self.unsignalled >= self.queue.size() / 4
    }

    /// Interrupts the guest if something was given back and it wants to know.
    pub fn notify(&mut self, memory: &Memory) -> Result<(), BadRing> {
        let count = std::mem::take(&mut self.unsignalled);
        if count > 0 && self.is_asked_for(memory, count)? {
            self.signal();
        }
        Ok(())
    }

    /// Whether the guest wants to hear of one of the last `count` chains (section 2.7.7.2). The queue's own answer
    /// knows of those alone that were given back one by one.
    fn is_asked_for(&self, memory: &Memory, count: u16) -> Result<bool, BadRing> {
        if !self.queue.event_idx_enabled() {
            return Ok(true);
        }
        // What was given back is seen by a guest that asks after this look.
        fence(Ordering::SeqCst);
        let place = 4 + 2 * u64::from(self.queue.size());
        let address = self.queue.avail_ring().checked_add(place).ok_or(BadRing)?;
        let asked: u16 = memory
            .load(GuestAddress(address), Ordering::Relaxed)
            .map_err(|_| BadRing)?;
        let behind = self.queue.next_used().wrapping_sub(u16::from_le(asked));
        Ok(behind.wrapping_sub(1) < count)
    }

    /// Asks for a doorbell at the next chain. Says whether one is there already.
    pub fn enable_kicks(&mut self, memory: &Memory) -> Result<bool, BadRing> {
        self.queue.enable_notification(memory).map_err(|_| BadRing)
    }

    /// Lets the guest be silent while we look by ourselves.
    pub fn disable_kicks(&mut self, memory: &Memory) -> Result<(), BadRing> {
        self.queue.disable_notification(memory).map_err(|_| BadRing)
    }

    fn signal(&self) {
        if let Some(call) = &self.call {
            // A full counter means that the interrupt is pending already.
            _ = rustix::io::write(call, &1u64.to_ne_bytes());
        }
    }
}
