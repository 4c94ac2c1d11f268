//! Frames in and out of the guest's rings (virtio 1.2, section 5.1.6).
//!
//! Descriptors are the guest's word: chains are read and written through the library's own bounds, a frame
//! is no longer than a frame can be, and a chain that holds none is given back without one.

use std::io::{Read as _, Write as _};

use lighter_vmm::ring::{BadRing, Memory, Ring};
use virtio_queue::{DescriptorChain, Reader, Writer};

use crate::nat::{Offload, Outgoing, Wire};

/// The header before each frame.
const HEADER: usize = 12;
/// The longest frame: an IP packet of 65,535 bytes and its Ethernet header.
pub const LONGEST: usize = 65_535 + 14;
/// Chains that one frame may take in the guest's ring; a guest with smaller buffers has none of it.
const MOST_CHAINS: usize = 64;

/// Chains that were filled before the guest is told, which works on them while more are filled. (Of the small frames
/// of many connections it hears at the end of a round.)
const PROMPT: u16 = 16;

const NEEDS_CHECKSUM: u8 = 1;
const SEGMENTS_V4: u8 = 1;
const SEGMENTS_V6: u8 = 4;

/// The ring of frames for the guest, if it runs.
pub struct ToGuest<'a> {
    /// The ring, with the guest's memory.
    pub ring: Option<(&'a mut Ring, &'a Memory)>,
    /// Whether one frame may take several chains, as the guest's driver said.
    pub merges: bool,
    /// The guest broke the ring.
    pub broken: bool,
}

type Chain<'m> = (DescriptorChain<&'m Memory>, usize);

impl ToGuest<'_> {
    fn try_send(&mut self, frame: &Outgoing<'_>) -> Result<bool, BadRing> {
        let Some((ring, memory)) = &mut self.ring else {
            return Ok(false);
        };
        let most = if self.merges { MOST_CHAINS } else { 1 };
        let Some(chains) = take(ring, memory, HEADER + frame.length(), most)? else {
            return Ok(false);
        };
        let header = header(frame, chains.len());
        let mut parts = [&header[..], frame.head, frame.content[0], frame.content[1]];
        let filled = chains.into_iter().map(|(chain, size)| {
            let head = chain.head_index();
            (head, fill(memory, chain, size, &mut parts) as u32)
        });
        let filled: Vec<(u16, u32)> = filled.collect();
        ring.push_used_together(memory, &filled)?;
        if ring.unsignalled() >= PROMPT {
            ring.notify(memory)?;
        }
        Ok(true)
    }
}

/// Takes chains that together hold `length` bytes; none if there are not enough, and then the guest rings when it
/// has made another one available.
fn take<'m>(
    ring: &mut Ring,
    memory: &'m Memory,
    length: usize,
    most: usize,
) -> Result<Option<Vec<Chain<'m>>>, BadRing> {
    // Again where some came while it was looked; a guest that takes back what it made available has none the next time.
    for _ in 0..most.max(2) {
        let mut taken: Vec<Chain<'m>> = Vec::new();
        let mut room = 0;
        while room < length && taken.len() < most {
            let Some(chain) = ring.pop(memory)? else {
                break;
            };
            let writer = Writer::new(memory, chain.clone());
            let size = writer.map_or(0, |writer| writer.available_bytes());
            room += size;
            taken.push((chain, size));
        }
        if room >= length && taken.first().is_some_and(|(_, size)| *size >= HEADER) {
            return Ok(Some(taken));
        }
        // Asked for at the end of what there is: a guest that has passed that point rings for nothing before it.
        let come_meanwhile = taken.len() < most && ring.enable_kicks(memory)?;
        ring.put_back(taken.len() as u16);
        if !come_meanwhile {
            break;
        }
    }
    Ok(None)
}

/// Writes the next of `parts` into a chain; how much.
fn fill(
    memory: &Memory,
    chain: DescriptorChain<&Memory>,
    size: usize,
    parts: &mut [&[u8]; 4],
) -> usize {
    let mut written = 0;
    // It was looked at a moment ago; a guest that changed it since gets less than a frame.
    let Ok(mut writer) = Writer::new(memory, chain) else {
        return 0;
    };
    for part in parts {
        let count = part.len().min(size - written);
        if writer.write_all(&part[..count]).is_err() {
            break;
        }
        written += count;
        *part = &part[count..];
    }
    written
}

impl Wire for ToGuest<'_> {
    fn send(&mut self, frame: &Outgoing<'_>) -> bool {
        let sent = self.try_send(frame);
        if sent.is_err() {
            (self.broken, self.ring) = (true, None);
        }
        sent.unwrap_or(false)
    }
}

fn header(frame: &Outgoing<'_>, chains: usize) -> [u8; HEADER] {
    let mut header = [0_u8; HEADER];
    let mut checksum = |start: u16, offset: u16| {
        header[0] = NEEDS_CHECKSUM;
        header[6..8].copy_from_slice(&start.to_le_bytes());
        header[8..10].copy_from_slice(&offset.to_le_bytes());
    };
    match frame.offload {
        Offload::None => {}
        Offload::Checksum { start, offset } => checksum(start, offset),
        Offload::Segments {
            start,
            offset,
            size,
            v6,
        } => {
            checksum(start, offset);
            header[1] = if v6 { SEGMENTS_V6 } else { SEGMENTS_V4 };
            header[2..4].copy_from_slice(&(frame.head.len() as u16).to_le_bytes());
            header[4..6].copy_from_slice(&size.to_le_bytes());
        }
    }
    header[10..12].copy_from_slice(&(chains as u16).to_le_bytes());
    header
}

/// Takes the next frame of the guest into `buffer`: its length, or zero of what is none; nothing if there
/// is nothing.
///
/// # Errors
///
/// When the guest broke the ring.
pub fn from_guest(
    ring: &mut Ring,
    memory: &Memory,
    buffer: &mut [u8],
) -> Result<Option<usize>, BadRing> {
    let Some(chain) = ring.pop(memory)? else {
        return Ok(None);
    };
    let head = chain.head_index();
    let length = read(memory, chain, buffer).unwrap_or(0);
    ring.push_used(memory, head, 0)?;
    Ok(Some(length))
}

fn read(memory: &Memory, chain: DescriptorChain<&Memory>, buffer: &mut [u8]) -> Option<usize> {
    let mut reader = Reader::new(memory, chain).ok()?;
    // Checksums and segments are nothing to a router that ends every connection: the header is skipped.
    let mut header = [0_u8; HEADER];
    reader.read_exact(&mut header).ok()?;
    let length = reader.available_bytes();
    let frame = buffer.get_mut(..length)?;
    reader.read_exact(frame).ok()?;
    Some(length)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::event::{EventfdFlags, eventfd};
    use virtio_queue::{Queue, QueueT};
    use vm_memory::{Bytes, GuestAddress};

    use super::*;

    const SIZE: u16 = 16;
    const TABLE: u64 = 0x1000;
    const AVAILABLE: u64 = 0x2000;
    const USED: u64 = 0x3000;
    const BUFFERS: u64 = 0x1_0000;
    const WRITABLE: u16 = 2;

    /// A guest with one ring, into which it puts buffers.
    struct Guest {
        memory: Memory,
        ring: Ring,
        buffers: u16,
    }

    impl Guest {
        fn new() -> Self {
            let memory = Memory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
            let mut queue = Queue::new(SIZE).unwrap();
            queue.set_size(SIZE);
            queue.set_desc_table_address(Some(TABLE as u32), Some(0));
            queue.set_avail_ring_address(Some(AVAILABLE as u32), Some(0));
            queue.set_used_ring_address(Some(USED as u32), Some(0));
            queue.set_event_idx(true);
            queue.set_ready(true);
            let bell = || -> OwnedFd { eventfd(0, EventfdFlags::NONBLOCK).unwrap() };
            let ring = Ring::new(&memory, queue, bell(), Some(bell())).unwrap();
            Self {
                memory,
                ring,
                buffers: 0,
            }
        }

        /// Makes room for `length` bytes more; whether the guest rings the bell for it.
        fn make_room(&mut self, length: u32) -> bool {
            let at = self.buffers;
            let place = |address: u64| GuestAddress(address);
            let write = |address, value: u16| self.memory.write_obj(value, place(address)).unwrap();
            let descriptor = TABLE + u64::from(at) * 16;
            let buffer = BUFFERS + u64::from(at) * 0x1000;
            self.memory.write_obj(buffer, place(descriptor)).unwrap();
            self.memory
                .write_obj(length, place(descriptor + 8))
                .unwrap();
            write(descriptor + 12, WRITABLE);
            write(AVAILABLE + 4 + u64::from(at) * 2, at);
            write(AVAILABLE + 2, at + 1);
            self.buffers += 1;
            // Virtio 1.2, section 2.7.10: it rings when it passes the index that was asked for.
            let asked: u16 = self
                .memory
                .read_obj(place(USED + 4 + u64::from(SIZE) * 8))
                .unwrap();
            asked == at
        }

        /// The same for a ring that was filled before: its descriptors and places come around.
        fn make_room_again(&mut self, length: u32) {
            let place = |address: u64| GuestAddress(address);
            let at = self.buffers % SIZE;
            let descriptor = TABLE + u64::from(at) * 16;
            let buffer = BUFFERS + u64::from(at) * 0x1000;
            self.memory.write_obj(buffer, place(descriptor)).unwrap();
            self.memory
                .write_obj(length, place(descriptor + 8))
                .unwrap();
            for (address, value) in [
                (descriptor + 12, WRITABLE),
                (AVAILABLE + 4 + u64::from(at) * 2, at),
                (AVAILABLE + 2, self.buffers.wrapping_add(1)),
            ] {
                self.memory.write_obj(value, place(address)).unwrap();
            }
            self.buffers = self.buffers.wrapping_add(1);
        }

        fn send(&mut self, length: usize) -> bool {
            let content = vec![7; length];
            let mut wire = ToGuest {
                ring: Some((&mut self.ring, &self.memory)),
                merges: true,
                broken: false,
            };
            let sent = wire.send(&Outgoing {
                head: &[],
                content: [&content, &[]],
                offload: Offload::None,
            });
            assert!(!wire.broken);
            sent
        }

        fn used(&self) -> u16 {
            self.memory.read_obj(GuestAddress(USED + 2)).unwrap()
        }
    }

    #[test]
    fn a_frame_that_has_too_little_room_waits_and_the_guest_rings_when_it_has_made_more() {
        let mut guest = Guest::new();
        guest.make_room(100);
        guest.make_room(100);
        assert!(!guest.send(500));
        assert_eq!(
            (guest.used(), guest.ring.base()),
            (0, 0),
            "nothing is taken"
        );
        assert!(guest.make_room(100), "the guest rings");
        assert!(!guest.send(500));
        assert!(guest.make_room(1000), "and again");
        assert!(guest.send(500));
        assert_eq!((guest.used(), guest.ring.base()), (4, 4));
        let header: u16 = guest.memory.read_obj(GuestAddress(BUFFERS + 10)).unwrap();
        assert_eq!(header, 4, "it says how many buffers it took");
    }

    #[test]
    fn a_guest_that_looks_meanwhile_sees_whole_frames_only() {
        let mut guest = Guest::new();
        let memory = guest.memory.clone();
        let (over, sent) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                let mut halves = 0;
                while !over.load(Ordering::Acquire) {
                    let used: u16 = memory
                        .load(GuestAddress(USED + 2), Ordering::Acquire)
                        .unwrap();
                    halves += u32::from(!used.is_multiple_of(4));
                    sent.store(true, Ordering::Release);
                }
                halves
            });
            while !sent.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            for _ in 0..5_000 {
                // The same four buffers again and again.
                for _ in 0..4 {
                    guest.make_room_again(200);
                }
                assert!(guest.send(700));
            }
            over.store(true, Ordering::Release);
            assert_eq!(looks.join().unwrap(), 0);
        });
    }
}
