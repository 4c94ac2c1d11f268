//! Writes a laid out tree.

use std::io::{self, Read, Write};

use super::error::TreeError;
use super::format::{InodeRecord, NO_BLOCK, Place, SLOT, Super, chunk, dirent};
use super::layout::{Body, Layout, Name, Placed, block_size, blocks, xattr_size};
use super::sparse::Chunk;
use super::tree::{Data, ROOT, Tree};
use super::{BLOCK, xattr};
use crate::digest::Digest;

/// What the index is over.
pub(crate) struct IndexSource<'a> {
    pub(crate) diff_id: &'a Digest,
    pub(crate) tar_bytes: u64,
    /// The copied pieces of sparse files, whole blocks.
    pub(crate) extra: &'a mut dyn Read,
    pub(crate) extra_blocks: u32,
}

/// Number of the tar among the devices; the index itself is 0.
const TAR: u16 = 1;

/// Writes the index. Refuses only what the format cannot hold.
pub(crate) fn write(
    tree: &Tree,
    source: &mut IndexSource<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let layout = Layout::of(tree).map_err(refused)?;
    let too_large = || refused(TreeError::Limit("bytes in a layer"));
    let blocks_start = u32::try_from(layout.inodes_end.div_ceil(BLOCK)).map_err(|_| too_large())?;
    let extra_start = blocks_start
        .checked_add(layout.blocks)
        .ok_or_else(too_large)?;
    let blocks = extra_start
        .checked_add(source.extra_blocks)
        .ok_or_else(too_large)?;
    let superblock = Super {
        layer: source.diff_id,
        root: u16::try_from(layout.numbers[ROOT as usize]).map_err(|_| too_large())?,
        inodes: layout.order.len() as u64,
        blocks,
        tar_blocks: u32::try_from(source.tar_bytes.div_ceil(BLOCK)).map_err(|_| too_large())?,
    };
    let mut writer = Writer {
        tree,
        layout: &layout,
        out,
        position: 0,
        blocks_start,
        extra_start,
    };
    writer.put(&superblock.encode())?;
    for placed in &layout.order {
        writer.inode(placed)?;
    }
    writer.pad_to(u64::from(blocks_start) * BLOCK)?;
    for placed in &layout.order {
        if let Body::Blocks(first) = placed.body {
            writer.pad_to((u64::from(blocks_start) + u64::from(first)) * BLOCK)?;
            writer.own_bytes(placed)?;
        }
    }
    writer.pad_to(u64::from(extra_start) * BLOCK)?;
    io::copy(&mut source.extra, out)?;
    Ok(())
}

struct Writer<'a> {
    tree: &'a Tree,
    layout: &'a Layout,
    out: &'a mut dyn Write,
    position: u64,
    blocks_start: u32,
    extra_start: u32,
}

impl Writer<'_> {
    fn inode(&mut self, placed: &Placed) -> io::Result<()> {
        let inode = self.tree.inodes[placed.inode as usize];
        let number = self.layout.numbers[placed.inode as usize];
        self.pad_to(u64::from(number) * SLOT)?;
        let place = match (placed.body, inode.data) {
            (Body::Inline, _) => Place::Inline,
            (Body::Blocks(first), _) => Place::Blocks(self.blocks_start + first),
            (Body::None, Data::Device { encoded }) => Place::Device(encoded),
            (Body::None, Data::Whiteout) => Place::Device(0),
            (Body::None, Data::Tar { .. }) => Place::Chunks(whole_bits(inode.size)),
            (Body::None, Data::Sparse { map }) => {
                Place::Chunks(self.tree.sparse[map as usize].bits)
            }
            (Body::None, _) => Place::Empty,
        };
        let directory = matches!(inode.data, Data::Directory { .. });
        let record = InodeRecord {
            xattr_count: xattr::count(xattr_size(&inode)),
            mode: inode.mode,
            size: if directory {
                placed.directory_size
            } else {
                inode.size
            },
            place,
            number,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            mtime_nsec: inode.mtime_nsec,
            nlink: self.layout.links[placed.inode as usize],
        };
        self.put(&record.encode())?;
        self.xattrs(&inode)?;
        match inode.data {
            Data::Tar { block } => {
                self.pad_to(self.position.next_multiple_of(8))?;
                self.put(&chunk(TAR, block))
            }
            Data::Sparse { map } => self.chunks(map),
            _ if placed.body == Body::Inline => self.own_bytes(placed),
            _ => Ok(()),
        }
    }

    fn xattrs(&mut self, inode: &super::tree::Inode) -> io::Result<()> {
        let body = self.tree.slice(inode.xattrs);
        if !matches!(inode.data, Data::Directory { opaque: true, .. }) {
            return self.put(body);
        }
        let mut body = body.to_vec();
        xattr::push_opaque(&mut body);
        self.put(&body)
    }

    fn chunks(&mut self, map: u32) -> io::Result<()> {
        self.pad_to(self.position.next_multiple_of(8))?;
        for piece in &self.tree.sparse[map as usize].chunks {
            let entry = match piece {
                Chunk::Hole => chunk(0, NO_BLOCK),
                Chunk::Tar(block) => chunk(TAR, *block),
                Chunk::Copied(block) => chunk(0, self.extra_start + block),
            };
            self.put(&entry)?;
        }
        Ok(())
    }

    /// A directory's names or a link's target.
    fn own_bytes(&mut self, placed: &Placed) -> io::Result<()> {
        match self.tree.inodes[placed.inode as usize].data {
            Data::Symlink(target) => {
                let target = self.tree.slice(target);
                self.put(target)
            }
            Data::Directory { parent, .. } => {
                let names = self.layout.names(self.tree, placed, parent);
                let start = self.position;
                for (at, block) in blocks(&names).enumerate() {
                    self.pad_to(start + at as u64 * BLOCK)?;
                    self.directory_block(block)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn directory_block(&mut self, names: &[Name<'_>]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(usize::try_from(block_size(names)).unwrap_or(0));
        let mut name_offset = names.len() * super::format::DIRENT;
        for name in names {
            let number = u64::from(self.layout.numbers[name.inode as usize]);
            let mode = self.tree.inodes[name.inode as usize].mode;
            bytes.extend_from_slice(&dirent(number, name_offset as u16, mode));
            name_offset += name.name.len();
        }
        for name in names {
            bytes.extend_from_slice(name.name);
        }
        self.put(&bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad_to(&mut self, position: u64) -> io::Result<()> {
        while self.position < position {
            let step = (position - self.position).min(BLOCK);
            self.put(&[0; BLOCK as usize][..usize::try_from(step).unwrap_or(0)])?;
        }
        Ok(())
    }
}

/// The chunk that holds a whole file.
fn whole_bits(size: u64) -> u32 {
    size.max(BLOCK).next_power_of_two().trailing_zeros().min(40)
}

fn refused(error: TreeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
