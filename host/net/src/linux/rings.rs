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
        for (chain, size) in chains {
            let head = chain.head_index();
            let written = fill(memory, chain, size, &mut parts);
            ring.push_used(memory, head, written as u32)?;
        }
        Ok(true)
    }
}

/// Takes chains that together hold `length` bytes; none if there are not enough.
fn take<'m>(
    ring: &mut Ring,
    memory: &'m Memory,
    length: usize,
    most: usize,
) -> Result<Option<Vec<Chain<'m>>>, BadRing> {
    let mut taken: Vec<Chain<'m>> = Vec::new();
    let mut room = 0;
    while room < length && taken.len() < most {
        let Some(chain) = ring.pop(memory)? else {
            break;
        };
        let size = Writer::new(memory, chain.clone()).map_or(0, |writer| writer.available_bytes());
        room += size;
        taken.push((chain, size));
    }
    if room >= length && taken.first().is_some_and(|(_, size)| *size >= HEADER) {
        return Ok(Some(taken));
    }
    ring.put_back(taken.len() as u16);
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
