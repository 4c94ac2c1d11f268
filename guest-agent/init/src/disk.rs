//! The data disk's size: what the device has, what the file system uses, and making them equal.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::ioctl::{Getter, Setter, opcode};

/// What [`grow`] found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Bytes the device has.
    pub device_bytes: u64,
    /// Bytes the file system spanned before.
    pub before_bytes: u64,
    /// Bytes it spans now.
    pub after_bytes: u64,
}

/// Grows the mounted ext4 file system to its device, where the device has become larger.
pub fn grow(mount_point: &Path, device: &Path) -> std::io::Result<Growth> {
    let device_bytes = device_size(File::open(device)?.as_fd())?;
    let root = File::open(mount_point)?;
    let filesystem = superblock_size(device)?;
    let block = filesystem.block_bytes;
    let before_bytes = filesystem.blocks * block;
    let wanted = device_bytes / block;
    // Less than a block group of new room is not worth a resize, and ext4 may refuse it.
    if wanted < filesystem.blocks + filesystem.blocks_per_group {
        return Ok(Growth {
            device_bytes,
            before_bytes,
            after_bytes: before_bytes,
        });
    }
    resize(root.as_fd(), wanted)?;
    let after = superblock_size(device)?;
    Ok(Growth {
        device_bytes,
        before_bytes,
        after_bytes: after.blocks * after.block_bytes,
    })
}

/// The lines of an ext4 superblock that say how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Superblock {
    blocks: u64,
    block_bytes: u64,
    blocks_per_group: u64,
}

/// Reads the superblock through the device: `statfs` leaves out what ext4 keeps for itself.
fn superblock_size(device: &Path) -> std::io::Result<Superblock> {
    let mut bytes = [0; 1024];
    File::open(device)?.read_exact_at(&mut bytes, 1024)?;
    parse_superblock(&bytes)
        .ok_or_else(|| std::io::Error::other("the data disk carries no ext4 file system"))
}

/// Offsets as in the kernel's `Documentation/filesystems/ext4/super.rst`.
fn parse_superblock(bytes: &[u8; 1024]) -> Option<Superblock> {
    let word = |at: usize| {
        bytes
            .get(at..)?
            .first_chunk::<4>()
            .map(|word| u64::from(u32::from_le_bytes(*word)))
    };
    let magic = bytes.get(0x38..0x3a)?;
    let log_block = word(0x18)?;
    if magic != [0x53, 0xef] || log_block > 6 {
        return None;
    }
    let has_64bit = word(0x60)? & 0x80 != 0;
    let high = if has_64bit { word(0x150)? } else { 0 };
    Some(Superblock {
        blocks: word(0x4)? | high << 32,
        block_bytes: 1024 << log_block,
        blocks_per_group: word(0x20)?,
    })
}

/// The size of a block device in bytes.
fn device_size(device: BorrowedFd<'_>) -> Result<u64, Errno> {
    // SAFETY: BLKGETSIZE64 writes one 64-bit integer, as this getter says.
    unsafe {
        let getter = Getter::<{ opcode::read::<u64>(0x12, 114) }, u64>::new();
        rustix::ioctl::ioctl(device, getter)
    }
}

/// Makes the file system span so many of its blocks, while it is mounted.
fn resize(root: BorrowedFd<'_>, blocks: u64) -> Result<(), Errno> {
    // SAFETY: EXT4_IOC_RESIZE_FS reads one 64-bit integer, as this setter says.
    unsafe {
        let setter = Setter::<{ opcode::write::<u64>(b'f', 16) }, u64>::new(blocks);
        rustix::ioctl::ioctl(root, setter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superblock_says_its_size() {
        let mut bytes = [0; 1024];
        assert_eq!(parse_superblock(&bytes), None, "no magic");
        bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        bytes[0x4..0x8].copy_from_slice(&7u32.to_le_bytes());
        bytes[0x18..0x1c].copy_from_slice(&2u32.to_le_bytes());
        bytes[0x20..0x24].copy_from_slice(&32768u32.to_le_bytes());
        bytes[0x150..0x154].copy_from_slice(&1u32.to_le_bytes());
        let without = Superblock {
            blocks: 7,
            block_bytes: 4096,
            blocks_per_group: 32768,
        };
        assert_eq!(parse_superblock(&bytes), Some(without));
        bytes[0x60] = 0x80;
        let with = Superblock {
            blocks: 7 + (1 << 32),
            ..without
        };
        assert_eq!(parse_superblock(&bytes), Some(with));
    }
}
