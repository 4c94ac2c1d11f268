//! EROFS's structures on disk, little endian, as in the kernel's `fs/erofs/erofs_fs.h`.

use super::BLOCK;
use crate::digest::Digest;

const MAGIC: u32 = 0xE0F5_E1E2;
const SUPER_OFFSET: usize = 1024;
const DEVICE_SLOT: usize = 128;
/// Where the one device slot is: right behind the superblock.
const DEVICE_OFFSET: usize = SUPER_OFFSET + 128;
/// Inodes begin behind the block that holds superblock and device slot.
pub(super) const FIRST_INODE: u64 = 1536;
/// Inode numbers count slots of this size from the start of the file.
pub(super) const SLOT: u64 = 32;
pub(super) const INODE_SIZE: u64 = 64;
pub(super) const DIRENT: usize = 12;

const FEATURE_COMPAT_MTIME: u32 = 2;
const FEATURE_INCOMPAT_CHUNKED_FILE: u32 = 4;
const FEATURE_INCOMPAT_DEVICE_TABLE: u32 = 8;

const LAYOUT_PLAIN: u16 = 0;
const LAYOUT_INLINE: u16 = 2;
const LAYOUT_CHUNKS: u16 = 4;
const CHUNK_INDEXES: u32 = 0x20;
pub(super) const NO_BLOCK: u32 = u32::MAX;

/// What the superblock tells.
pub(super) struct Super<'a> {
    pub(super) layer: &'a Digest,
    pub(super) root: u16,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) tar_blocks: u32,
}

impl Super<'_> {
    /// The first bytes of the file, up to the first inode.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; FIRST_INODE as usize];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let base = SUPER_OFFSET;
        put(base, &MAGIC.to_le_bytes());
        put(base + 8, &FEATURE_COMPAT_MTIME.to_le_bytes());
        put(base + 12, &[BLOCK.trailing_zeros() as u8]);
        put(base + 14, &self.root.to_le_bytes());
        put(base + 16, &self.inodes.to_le_bytes());
        put(base + 36, &self.blocks.to_le_bytes());
        put(base + 48, &self.layer.as_bytes()[..16]);
        let features = FEATURE_INCOMPAT_CHUNKED_FILE | FEATURE_INCOMPAT_DEVICE_TABLE;
        put(base + 80, &features.to_le_bytes());
        put(base + 86, &1u16.to_le_bytes());
        put(
            base + 88,
            &((DEVICE_OFFSET / DEVICE_SLOT) as u16).to_le_bytes(),
        );
        put(DEVICE_OFFSET, self.layer.hex().as_bytes());
        put(DEVICE_OFFSET + 64, &self.tar_blocks.to_le_bytes());
        bytes
    }
}

/// Where an inode's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// No content.
    Empty,
    /// Device number.
    Device(u32),
    /// Behind the inode.
    Inline,
    /// Blocks of the index from here on.
    Blocks(u32),
    /// Chunks of this size, listed behind the inode.
    Chunks(u32),
}

/// One extended inode.
pub(super) struct InodeRecord {
    pub(super) xattr_count: u16,
    pub(super) mode: u16,
    pub(super) size: u64,
    pub(super) place: Place,
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) mtime_nsec: u32,
    pub(super) nlink: u32,
}

impl InodeRecord {
    pub(super) fn encode(&self) -> [u8; INODE_SIZE as usize] {
        let (layout, union) = match self.place {
            Place::Empty => (LAYOUT_PLAIN, NO_BLOCK),
            Place::Device(encoded) => (LAYOUT_PLAIN, encoded),
            Place::Inline => (LAYOUT_INLINE, 0),
            Place::Blocks(block) => (LAYOUT_PLAIN, block),
            Place::Chunks(bits) => (
                LAYOUT_CHUNKS,
                CHUNK_INDEXES | (bits - BLOCK.trailing_zeros()),
            ),
        };
        let mut bytes = [0; INODE_SIZE as usize];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &(1 | (layout << 1)).to_le_bytes());
        put(2, &self.xattr_count.to_le_bytes());
        put(4, &self.mode.to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &union.to_le_bytes());
        put(20, &self.number.to_le_bytes());
        put(24, &self.uid.to_le_bytes());
        put(28, &self.gid.to_le_bytes());
        put(32, &self.mtime.to_le_bytes());
        put(40, &self.mtime_nsec.to_le_bytes());
        put(44, &self.nlink.to_le_bytes());
        bytes
    }
}

/// One entry of a chunk list.
pub(super) fn chunk(device: u16, block: u32) -> [u8; 8] {
    let (device, block) = (device.to_le_bytes(), block.to_le_bytes());
    [
        0, 0, device[0], device[1], block[0], block[1], block[2], block[3],
    ]
}

/// One directory entry.
pub(super) fn dirent(nid: u64, name_offset: u16, mode: u16) -> [u8; DIRENT] {
    let mut bytes = [0; DIRENT];
    bytes[..8].copy_from_slice(&nid.to_le_bytes());
    bytes[8..10].copy_from_slice(&name_offset.to_le_bytes());
    bytes[10] = file_type(mode);
    bytes
}

fn file_type(mode: u16) -> u8 {
    use super::tree::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG};
    match mode & S_IFMT {
        S_IFREG => 1,
        S_IFDIR => 2,
        S_IFCHR => 3,
        S_IFBLK => 4,
        S_IFIFO => 5,
        S_IFLNK => 7,
        _ => 0,
    }
}
