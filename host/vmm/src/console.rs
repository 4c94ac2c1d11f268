//! The virtio console (virtio 1.2, 5.3): what the guest prints once its drivers are up, in pieces rather than bytes.
//!
//! One port, and output only: buffers for input are taken, as the driver wants it so, and nothing ever comes. Of one
//! chain a bounded number of bytes is read, through a buffer of fixed size; what is kept of them is bounded by whoever
//! takes them.

use std::io::{self, Write};
use std::sync::Arc;

use lighter_platform::sys::threads::Role;
use vm_memory::{Address as _, Bytes as _, GuestAddress};

use crate::device::Identity;
use crate::ring::{BadRing, Memory, Ring};
use crate::roles;
use crate::service::{Handler, Served, Waker};

const KIND: u32 = 3;
const RING: u16 = 64;
/// Rings of the one port: to the guest, from the guest.
const RINGS: usize = 2;
pub(crate) const OUTPUT: usize = 1;
/// Columns, rows, ports, and a register for one byte; none is there without a feature (virtio 1.2, 5.3.4).
const CONFIG: usize = 12;
/// Bytes read at once.
const PIECE: usize = 1024;
/// Bytes of one chain that are read; a driver's own are at most a page.
const MOST: usize = 64 << 10;

/// The device, with its thread. What the guest prints goes there.
///
/// # Errors
/// When the system gives no thread.
pub fn device(to: Box<dyn Write + Send>) -> io::Result<Served> {
    Served::new(identity(), "console", Waker::new()?, Printer(to))
}

pub(crate) fn identity() -> Identity {
    Identity {
        kind: KIND,
        rings: vec![RING; RINGS],
        features: 0,
        config: vec![0; CONFIG],
    }
}

pub(crate) struct Printer(pub(crate) Box<dyn Write + Send>);

impl Handler for Printer {
    const ROLE: Role = roles::CONSOLE;

    fn serve(
        &mut self,
        index: usize,
        ring: &mut Ring,
        memory: &Arc<Memory>,
    ) -> Result<(), BadRing> {
        while let Some(chain) = ring.pop(memory)? {
            if index != OUTPUT {
                // Room for input, which stays the guest's until the end.
                continue;
            }
            let head = chain.head_index();
            let mut left = MOST;
            for part in chain.take(RING.into()).filter(|part| !part.is_write_only()) {
                let length = left.min(part.len() as usize);
                left -= length;
                self.print(memory, part.addr(), length)?;
            }
            ring.push_used(memory, head, 0)?;
        }
        Ok(())
    }
}

impl Printer {
    fn print(&mut self, memory: &Memory, from: GuestAddress, length: usize) -> Result<(), BadRing> {
        let mut piece = [0; PIECE];
        for at in (0..length).step_by(PIECE) {
            let n = PIECE.min(length - at);
            let from = from.checked_add(at as u64).ok_or(BadRing)?;
            let bytes = &mut piece[..n];
            memory.read_slice(bytes, from).map_err(|_| BadRing)?;
            // A console that takes no more loses lines of a log.
            _ = self.0.write_all(bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::played::{DATA, Guest, MEMORY, TABLE, reads, writes};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        fn take(&self) -> Vec<u8> {
            std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn guest() -> (Guest, Kept) {
        let kept = Kept::default();
        (Guest::up(device(Box::new(kept.clone())).unwrap()), kept)
    }

    #[test]
    fn what_the_guest_prints_arrives_in_its_order() {
        let (mut guest, kept) = guest();
        let text: Vec<u8> = (0..5_000u32).map(|n| n as u8).collect();
        guest.put(DATA, &text);
        // A buffer to write into is none of the output's.
        let parts = [reads(DATA, 3), writes(DATA, 4), reads(DATA + 3, 4_997)];
        guest.ask(OUTPUT as u32, &parts);
        assert_eq!((kept.take(), guest.written()), (text, 0));
        guest.ask(OUTPUT as u32, &[reads(DATA, 0)]);
        assert_eq!(kept.take(), b"");
    }

    #[test]
    fn a_chain_of_any_length_costs_so_much_and_no_more() {
        let (mut guest, kept) = guest();
        let parts = [reads(DATA, 60 << 10), reads(DATA, 60 << 10), reads(0, 1)];
        guest.ask(OUTPUT as u32, &parts);
        assert_eq!(kept.take().len(), MOST);
        guest.ask(OUTPUT as u32, &[reads(DATA, 1)]);
        assert_eq!(kept.take().len(), 1);
    }

    #[test]
    fn memory_that_is_none_stops_the_device() {
        for (from, length) in [(MEMORY as u64 - 1, 2), (u64::MAX - 1_500, 2_000)] {
            let (mut guest, _) = guest();
            guest.chain(TABLE, &[reads(from, length)]);
            guest.offer(OUTPUT as u32, 0);
            guest.is_given_up(OUTPUT as u32);
        }
    }

    #[test]
    fn room_for_input_is_taken_and_nothing_comes() {
        let (mut guest, kept) = guest();
        guest.chain(TABLE, &[writes(DATA, 4)]);
        guest.offer(0, 0);
        // Both rings are at one place: the output's has the first chain, too.
        guest.put(DATA, b"x");
        guest.ask(OUTPUT as u32, &[reads(DATA, 1)]);
        while guest.used() < 2 {
            guest.interrupted();
        }
        // The thread served the input before; what it had given back would be in the count.
        assert_eq!((kept.take(), guest.used()), (b"xx".to_vec(), 2));
    }
}
