//! Sparse files: which piece of the file is where.
//!
//! EROFS addresses a file in chunks of one size, each whole in one place or a hole. GNU tar stores
//! only the data, so a file whose pieces lie on whole blocks (what `tar -S` finds on a disk) is
//! mapped where it stands. Pieces that do not are copied, chunk by chunk, into the index file.

use std::io::{self, Read, Write};

use super::BLOCK;
use crate::tar::Segment;

/// More chunks than this (8 MiB of index) are avoided by larger chunks.
pub(super) const MAX_CHUNKS: u64 = 1 << 20;
/// ext4's largest file; a sparse file beyond it could not be copied up by anyone.
pub(crate) const MAX_SPARSE: u64 = 16 << 40;

/// The largest chunk: one may have to be copied, whole, into memory and into the index's own data.
/// With [`MAX_CHUNKS`] of them a file reaches [`MAX_SPARSE`].
pub(super) const MAX_BITS: u32 = 24;

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    Hole,
    /// Block of the tar.
    Tar(u32),
    /// Block of the index's own data, counted from where that begins.
    Copied(u32),
}

/// The chunks of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChunkMap {
    /// Chunk size as a power of two.
    pub(super) bits: u32,
    pub(super) chunks: Vec<Chunk>,
}

/// A sparse file whose data was copied.
#[derive(Debug)]
pub(crate) struct Materialised(ChunkMap);

impl Materialised {
    pub(super) fn into_map(self) -> ChunkMap {
        self.0
    }
}

/// Whether the file can be mapped where it stands in the tar.
pub(crate) fn fits_in_place(segments: &[Segment], size: u64) -> bool {
    chunk_bits(segments, size).is_some()
}

pub(super) fn map_in_place(segments: &[Segment], size: u64, block: u32) -> Option<ChunkMap> {
    let bits = chunk_bits(segments, size)?;
    let count = usize::try_from(size.div_ceil(1 << bits)).ok()?;
    let mut chunks = vec![Chunk::Hole; count];
    let mut stored = u64::from(block);
    for segment in segments {
        let first = usize::try_from(segment.offset >> bits).ok()?;
        let pieces = usize::try_from(segment.length.div_ceil(1 << bits)).ok()?;
        for (piece, chunk) in chunks[first..first + pieces].iter_mut().enumerate() {
            let blocks = (piece as u64) << (bits - BLOCK.trailing_zeros());
            *chunk = Chunk::Tar(u32::try_from(stored + blocks).ok()?);
        }
        stored += segment.length.div_ceil(BLOCK);
    }
    Some(ChunkMap { bits, chunks })
}

/// The largest chunk on whose multiples all pieces begin and (but for the file's end) end.
fn chunk_bits(segments: &[Segment], size: u64) -> Option<u32> {
    // Without any piece the whole file is one hole.
    let mut bits = size
        .max(BLOCK)
        .next_power_of_two()
        .trailing_zeros()
        .min(MAX_BITS);
    for segment in segments {
        let end = segment.offset + segment.length;
        for edge in [segment.offset, if end == size { 0 } else { end }] {
            bits = bits.min(edge.trailing_zeros());
        }
    }
    let fits = bits >= BLOCK.trailing_zeros() && size.div_ceil(1 << bits) <= MAX_CHUNKS;
    fits.then_some(bits)
}

/// Copies the data of a sparse file to `extra`, of which `used` blocks are taken. Refuses (with
/// `StorageFull`) to write more than `limit` bytes in all.
pub(crate) fn materialise(
    content: &mut dyn Read,
    segments: &[Segment],
    size: u64,
    extra: &mut dyn Write,
    used: &mut u32,
    limit: u64,
) -> io::Result<Materialised> {
    let bits = size
        .div_ceil(MAX_CHUNKS)
        .next_power_of_two()
        .trailing_zeros()
        .max(12);
    let chunk_size = 1usize << bits;
    let count = usize::try_from(size.div_ceil(1 << bits)).map_err(|_| full())?;
    let mut map = ChunkMap {
        bits,
        chunks: vec![Chunk::Hole; count],
    };
    let mut buffer = vec![0; chunk_size];
    let mut open: Option<usize> = None;
    let mut flush = |at: usize, buffer: &mut [u8]| {
        if (u64::from(*used) + (1 << (bits - 9))) * BLOCK > limit {
            return Err(full());
        }
        extra.write_all(buffer)?;
        buffer.fill(0);
        map.chunks[at] = Chunk::Copied(*used);
        *used += 1 << (bits - 9);
        Ok(())
    };
    for segment in segments {
        let (mut offset, end) = (segment.offset, segment.offset + segment.length);
        while offset < end {
            let at = usize::try_from(offset >> bits).map_err(|_| full())?;
            if let Some(before) = open.replace(at).filter(|before| *before != at) {
                flush(before, &mut buffer)?;
            }
            let chunk_end = ((at as u64) + 1) << bits;
            let within = usize::try_from(offset & ((1 << bits) - 1)).map_err(|_| full())?;
            let length = usize::try_from(end.min(chunk_end) - offset).map_err(|_| full())?;
            content.read_exact(&mut buffer[within..within + length])?;
            offset += length as u64;
        }
    }
    if let Some(last) = open {
        flush(last, &mut buffer)?;
    }
    Ok(Materialised(map))
}

fn full() -> io::Error {
    io::Error::new(
        io::ErrorKind::StorageFull,
        "sparse file takes too much room",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn aligned_pieces_stay_in_the_tar() {
        let segments = [segment(4096, 8192), segment(1 << 20, 100)];
        let map = map_in_place(&segments, (1 << 20) + 100, 7).unwrap();
        assert_eq!(map.bits, 12);
        assert_eq!(
            map.chunks[..4],
            [Chunk::Hole, Chunk::Tar(7), Chunk::Tar(15), Chunk::Hole]
        );
        assert_eq!(map.chunks.last(), Some(&Chunk::Tar(23)));
        assert_eq!(
            map_in_place(&[], 2 << MAX_BITS, 0).unwrap().chunks,
            [Chunk::Hole; 2]
        );
    }

    #[test]
    fn other_pieces_are_copied_to_the_right_place() {
        let segments = [segment(10, 5), segment(4090, 12), segment(20_000, 1)];
        assert!(!fits_in_place(&segments, 30_000));
        let (mut extra, mut used) = (Vec::new(), 8);
        let content: Vec<u8> = (1..=18).collect();
        let map = materialise(
            &mut &content[..],
            &segments,
            30_000,
            &mut extra,
            &mut used,
            1 << 20,
        )
        .unwrap()
        .into_map();
        assert_eq!(map.chunks[0], Chunk::Copied(8));
        assert_eq!(map.chunks[1], Chunk::Copied(16));
        assert_eq!(
            map.chunks[2..5],
            [Chunk::Hole, Chunk::Hole, Chunk::Copied(24)]
        );
        assert_eq!(used, 32);
        assert_eq!(&extra[10..15], &content[..5]);
        assert_eq!(&extra[4090..4102], &content[5..17]);
        assert_eq!(extra[8192 + 20_000 - 16_384], 18);
        assert_eq!(extra.iter().filter(|b| **b != 0).count(), 18);
    }

    #[test]
    fn a_file_cannot_blow_up_the_index() {
        let segments: Vec<_> = (0..64).map(|n| segment(n << 20 | 1, 1)).collect();
        let error = materialise(
            &mut &[1; 64][..],
            &segments,
            1 << 30,
            &mut Vec::new(),
            &mut 0,
            9000,
        )
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
