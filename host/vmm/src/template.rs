//! A device to begin a new one with: whole, and in no machine. It gives back the bytes that it is sent.
//!
//! A new device is made in these steps; the file of this name compiles and is tested so that they stay true.
//!
//! 1. **Identity**: virtio's number of the kind, the longest each ring may be, the features, the configuration. All of
//!    it is said once, when the device is made, and the transport answers for it from then on.
//! 2. **Serving**: a [`Handler`] on the thread of [`Served`]. It pops chains until there are none, reads each number of
//!    the guest once, bounds it, and gives every chain back. [`BadRing`] stops the device until the guest resets it; it
//!    never panics, waits, or takes memory by a number of the guest. What takes long is given away and collected in
//!    [`Handler::woken`], and [`Handler::stop`] ends it (the disk, `blk`, does so).
//! 3. **A test** with the driver of `played`, as below: ordinary use first, then what a guest must not do.
//! 4. **A fuzz target**: a line in `fuzz/queues.rs` where the rings are all there is, else a door like `blk/fuzz.rs`;
//!    `docs/fuzzing.md` says the rest.
//! 5. **The machine**: a line in `Devices::make`, `host/machine/src/linux/kvm/vm.rs`. The order there is the order in
//!    which the guest finds its devices.
//! 6. **The role**: the system calls of the new thread (`roles`), of which [`Handler::ROLE`] has the name. Any other ends
//!    the process; `roles::tests` has the device do its work under it.
//! 7. **The guest**: its driver in the kernel's configuration (`vm-image`).

use std::io;
use std::sync::Arc;

use lighter_platform::sys::threads::Role;
use vm_memory::Bytes as _;

use crate::device::Identity;
use crate::ring::{BadRing, Memory, Ring};
use crate::roles;
use crate::service::{Handler, Served, Waker};

/// Virtio gives this number to nothing.
const KIND: u32 = 0xffff;
const RING: u16 = 16;
/// Bytes of one answer; the guest reads it in the configuration space.
const MOST: u16 = 64;

/// The device, with its thread.
///
/// # Errors
/// When the system gives none.
fn device() -> io::Result<Served> {
    let identity = Identity {
        kind: KIND,
        rings: vec![RING],
        features: 0,
        config: MOST.to_le_bytes().to_vec(),
    };
    Served::new(identity, "template", Waker::new()?, Echo)
}

struct Echo;

impl Handler for Echo {
    const ROLE: Role = roles::DOORBELLS;

    fn serve(
        &mut self,
        _index: usize,
        ring: &mut Ring,
        memory: &Arc<Memory>,
    ) -> Result<(), BadRing> {
        while let Some(chain) = ring.pop(memory)? {
            let head = chain.head_index();
            let mut bytes = [0; MOST as usize];
            let (mut read, mut written) = (0, 0);
            // A table elsewhere may have far more entries than the ring.
            for part in chain.take(RING.into()) {
                let length = part.len() as usize;
                if part.is_write_only() {
                    let n = length.min(read - written);
                    memory
                        .write_slice(&bytes[written..written + n], part.addr())
                        .map_err(|_| BadRing)?;
                    written += n;
                } else {
                    let n = length.min(bytes.len() - read);
                    memory
                        .read_slice(&mut bytes[read..read + n], part.addr())
                        .map_err(|_| BadRing)?;
                    read += n;
                }
            }
            ring.push_used(memory, head, written as u32)?;
        }
        Ok(())
    }
}

mod tests {
    use super::*;
    use crate::played::{DATA, Guest, MEMORY, TABLE, reads, writes};

    const ANSWER: u64 = DATA + 0x1000;

    #[test]
    fn what_is_sent_comes_back_in_pieces_of_any_size() {
        let mut guest = Guest::up(device().unwrap());
        guest.put(DATA, b"lighter");
        let parts = [reads(DATA, 3), reads(DATA + 3, 4), writes(ANSWER, 16)];
        guest.ask(0, &parts);
        assert_eq!(guest.written(), 7);
        assert_eq!(guest.get(ANSWER, 8), b"lighter\0");
        // A guest with less room gets less.
        guest.ask(0, &[reads(DATA, 7), writes(ANSWER, 2)]);
        assert_eq!(guest.written(), 2);
    }

    #[test]
    fn no_more_is_taken_than_the_configuration_says() {
        let mut guest = Guest::up(device().unwrap());
        let all = MEMORY as u32 - DATA as u32;
        guest.ask(0, &[reads(DATA, all), writes(ANSWER, all)]);
        assert_eq!(guest.written(), u32::from(MOST));
    }

    #[test]
    fn memory_that_is_not_there_stops_the_device() {
        let mut guest = Guest::up(device().unwrap());
        guest.chain(TABLE, &[reads(MEMORY as u64 - 1, 2), writes(ANSWER, 2)]);
        guest.offer(0, 0);
        guest.is_given_up(0);
    }
}
