//! The end of a tar that is not a whole number of blocks.
//!
//! The padding behind the last entry's content may be missing. The kernel reads whole blocks of a
//! device or fails, and the tar must stay as it came: so the one piece of a file that such a last
//! block holds is copied into the index's own data.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::BLOCK;
use super::sparse::{Chunk, ChunkMap, MAX_CHUNKS};
use super::tree::{Data, Tree};

impl Tree {
    /// Copies the chunk that reaches into the last, partial block of a tar of `tar_bytes`; `used`
    /// counts the blocks of `extra`, which may not take more than `limit` bytes in all: an entry whose
    /// data ends before the last block can have a chunk that reaches into it, and so can many.
    pub(crate) fn lift_tail(
        &mut self,
        tar_bytes: u64,
        tar: &mut (impl Read + Seek),
        extra: &mut impl Write,
        used: &mut u32,
        limit: u64,
    ) -> io::Result<()> {
        let last = tar_bytes / BLOCK;
        for at in 0..self.inodes.len() {
            let inode = self.inodes[at];
            let map = match inode.data {
                Data::Tar { block } if u64::from(block) + (inode.size - 1) / BLOCK == last => {
                    self.sparse.push(in_chunks(inode.size, block));
                    let map = u32::try_from(self.sparse.len() - 1).map_err(io::Error::other)?;
                    self.inodes[at].data = Data::Sparse { map };
                    map
                }
                Data::Sparse { map } => map,
                _ => continue,
            };
            let ChunkMap { bits, chunks } = &mut self.sparse[map as usize];
            let blocks = 1 << (*bits - BLOCK.trailing_zeros());
            let holds = |chunk: &&mut Chunk| matches!(chunk, Chunk::Tar(first) if (u64::from(*first)..u64::from(*first) + blocks).contains(&last));
            let Some(chunk) = chunks.iter_mut().rev().find(holds) else {
                continue;
            };
            let Chunk::Tar(first) = *chunk else {
                continue;
            };
            if (u64::from(*used) + blocks) * BLOCK > limit {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let start = u64::from(first) * BLOCK;
            let mut piece = Vec::new();
            tar.seek(SeekFrom::Start(start))?;
            tar.by_ref().take(blocks * BLOCK).read_to_end(&mut piece)?;
            piece.resize(
                usize::try_from(blocks * BLOCK).map_err(io::Error::other)?,
                0,
            );
            extra.write_all(&piece)?;
            *chunk = Chunk::Copied(*used);
            *used += u32::try_from(blocks).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// A file that is whole in the tar, in pieces small enough for one of them to be copied.
fn in_chunks(size: u64, block: u32) -> ChunkMap {
    let bits = size
        .div_ceil(MAX_CHUNKS)
        .next_power_of_two()
        .trailing_zeros()
        .max(12);
    let blocks = 1u32 << (bits - BLOCK.trailing_zeros());
    let count = size.div_ceil(1 << bits);
    let chunks = (0..count).map(|at| Chunk::Tar(block + at as u32 * blocks));
    ChunkMap {
        bits,
        chunks: chunks.collect(),
    }
}
