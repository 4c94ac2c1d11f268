//! Gives the room of what was removed back to the host: `FITRIM`, over the groups of blocks that were ever in use.
//!
//! Called by the agent, which may block here. The file system is made as large as it may ever become, and nearly all
//! of it has never been written: to look there would cost the guest memory and the host a call a group.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::ioctl::{Updater, opcode};

use super::ext4::Superblock;

/// Less free room in one piece is not worth a hole in the host's file.
const LEAST: u64 = 64 << 10;
/// Groups of one call: others come to the disk in between.
const AT_ONCE: u64 = 16;

/// What [`trim`] gave back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Groups of blocks that were looked at.
    pub groups: u64,
    /// Bytes that the device was told nobody needs. Some of them it may not have held.
    pub bytes: u64,
}

/// As the kernel's `struct fstrim_range`, in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct FstrimRange {
    start: u64,
    /// How far; after the call, how much was trimmed.
    len: u64,
    minlen: u64,
}

/// Tells the device below a mounted ext4 file system what it no longer needs to hold.
///
/// # Errors
///
/// When the file system is none that is known, or the device takes no discards.
pub fn trim(mount_point: &Path, device: &Path) -> io::Result<Trimmed> {
    let root = File::open(mount_point)?;
    // What was removed is free once the journal says so.
    rustix::fs::syncfs(&root)?;
    let device = File::open(device)?;
    let superblock = Superblock::read(&device)?;
    let mut trimmed = Trimmed::default();
    for run in superblock.used_groups(&device)? {
        trimmed.groups += run.end - run.start;
        for start in run.clone().step_by(AT_ONCE as usize) {
            let bytes = superblock.bytes_of(&(start..run.end.min(start + AT_ONCE)));
            let range = FstrimRange {
                start: bytes.start,
                len: bytes.end - bytes.start,
                minlen: LEAST,
            };
            trimmed.bytes += fitrim(root.as_fd(), range)?;
        }
    }
    Ok(trimmed)
}

/// Trims a range, and says how many bytes of it were free.
fn fitrim(root: BorrowedFd<'_>, mut range: FstrimRange) -> Result<u64, Errno> {
    // SAFETY: FITRIM reads and writes one `struct fstrim_range`, as this updater says.
    unsafe {
        let updater =
            Updater::<{ opcode::read_write::<FstrimRange>(b'X', 121) }, _>::new(&mut range);
        rustix::ioctl::ioctl(root, updater)?;
    }
    Ok(range.len)
}
