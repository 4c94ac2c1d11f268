//! The data disk from below: growing its file system to its device, and giving back the room of what was removed.
//!
//! Called by the agent, with the file system mounted. It reads the device and changes nothing there itself:
//! that is the kernel's, by its calls.

mod ext4;
mod trim;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::ioctl::{Getter, Setter, opcode};

pub use trim::{Trimmed, trim};

use ext4::Superblock;

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
    let filesystem = Superblock::read(&File::open(device)?)?;
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
    let after = Superblock::read(&File::open(device)?)?;
    Ok(Growth {
        device_bytes,
        before_bytes,
        after_bytes: after.blocks * after.block_bytes,
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
