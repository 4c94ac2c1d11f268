//! What an ext4 file system says of itself on its device: its size, and which of its groups of blocks are in use.
//!
//! Called by the parent, beside a mounted file system: the kernel's own reads and writes of these blocks go through
//! the same cache. Offsets as in the kernel's `Documentation/filesystems/ext4/`, `super.rst` and `group_descr.rst`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

const MAGIC: u64 = 0xef53;
/// Where the superblock begins on the device, in bytes.
const SUPERBLOCK_AT: u64 = 1024;

/// `s_feature_compat`: backups of the superblock in two groups of choice.
const SPARSE_SUPER2: u64 = 0x200;
/// `s_feature_incompat`: the descriptors of later groups are within those.
const META_BG: u64 = 0x10;
/// `s_feature_incompat`: numbers of blocks have 64 bits.
const BITS_64: u64 = 0x80;
/// `s_feature_ro_compat`: backups of the superblock in few groups.
const SPARSE_SUPER: u64 = 0x1;
/// `s_feature_ro_compat`, of either: descriptors tell which groups have never been used.
const CHECKED_GROUPS: u64 = 0x10 | 0x400;
/// `bg_flags`: nothing was ever allocated in the group.
const BLOCK_UNINIT: u16 = 0x2;

/// The lines of an ext4 superblock that say how large it is, and where its descriptors of groups are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Superblock {
    pub blocks: u64,
    pub block_bytes: u64,
    pub blocks_per_group: u64,
    /// The block that the first group begins with.
    first_block: u64,
    /// Bytes of a descriptor.
    descriptor: u64,
    /// From this block of descriptors on, each is in the first group it describes.
    first_meta: u64,
    /// Whether the descriptors tell which groups have never been used.
    tells_unused: bool,
}

impl Superblock {
    /// Reads it through the device: `statfs` leaves out what ext4 keeps for itself.
    pub(super) fn read(device: &File) -> io::Result<Self> {
        let mut bytes = [0; 1024];
        device.read_exact_at(&mut bytes, SUPERBLOCK_AT)?;
        Self::parse(&bytes).ok_or_else(|| {
            io::Error::other("the data disk carries no ext4 file system that is known here")
        })
    }

    fn parse(bytes: &[u8; 1024]) -> Option<Self> {
        let word = |at: usize| {
            Some(u64::from(u32::from_le_bytes(
                *bytes.get(at..)?.first_chunk()?,
            )))
        };
        let half = |at: usize| {
            Some(u64::from(u16::from_le_bytes(
                *bytes.get(at..)?.first_chunk()?,
            )))
        };
        let log_block = word(0x18)?;
        if half(0x38)? != MAGIC || log_block > 6 {
            return None;
        }
        let (compat, incompat, ro_compat) = (word(0x5c)?, word(0x60)?, word(0x64)?);
        let wide = incompat & BITS_64 != 0;
        let high = if wide { word(0x150)? } else { 0 };
        let meta = incompat & META_BG != 0;
        // Elsewhere a backup may stand before a block of descriptors.
        if meta && (compat & SPARSE_SUPER2 != 0 || ro_compat & SPARSE_SUPER == 0) {
            return None;
        }
        let known = Self {
            blocks: word(0x4)? | high << 32,
            block_bytes: 1024 << log_block,
            blocks_per_group: word(0x20)?,
            first_block: word(0x14)?,
            descriptor: if wide { half(0xfe)? } else { 32 },
            first_meta: if meta { word(0x104)? } else { u64::MAX },
            tells_unused: ro_compat & CHECKED_GROUPS != 0,
        };
        let sane = (32..=1024).contains(&known.descriptor)
            && known.blocks_per_group >= 8
            && known.first_block < known.blocks;
        sane.then_some(known)
    }

    /// The groups in which something was allocated at some time, neighbours together, in order.
    pub(super) fn used_groups(&self, device: &File) -> io::Result<Vec<Range<u64>>> {
        let groups = (self.blocks - self.first_block).div_ceil(self.blocks_per_group);
        if !self.tells_unused {
            return Ok(std::iter::once(0..groups).collect());
        }
        let in_a_block = self.block_bytes / self.descriptor;
        let mut block = vec![0; usize::try_from(self.block_bytes).map_err(io::Error::other)?];
        let mut used: Vec<Range<u64>> = Vec::new();
        for number in 0..groups.div_ceil(in_a_block) {
            device.read_exact_at(&mut block, self.descriptors_at(number, in_a_block))?;
            let first = number * in_a_block;
            let descriptors =
                block.chunks_exact(usize::try_from(self.descriptor).map_err(io::Error::other)?);
            for (group, descriptor) in (first..groups).zip(descriptors) {
                let flags = u16::from_le_bytes([descriptor[0x12], descriptor[0x13]]);
                if flags & BLOCK_UNINIT != 0 {
                    continue;
                }
                match used.last_mut() {
                    Some(last) if last.end == group => last.end += 1,
                    _ => used.push(group..group + 1),
                }
            }
        }
        Ok(used)
    }

    /// Where the so-manieth block of descriptors is, in bytes of the device; as the kernel's `descriptor_loc`.
    fn descriptors_at(&self, number: u64, in_a_block: u64) -> u64 {
        let block = if number < self.first_meta {
            self.first_block + 1 + number
        } else {
            let with_superblock = u64::from(number == 0);
            with_superblock + self.first_block + number * in_a_block * self.blocks_per_group
        };
        block * self.block_bytes
    }

    /// The bytes of the file system that groups span, as `FITRIM` counts them: from the first group's beginning.
    pub(super) fn bytes_of(&self, groups: &Range<u64>) -> Range<u64> {
        let group = self.blocks_per_group * self.block_bytes;
        let start = self.first_block * self.block_bytes;
        start + groups.start * group..start + groups.end * group
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn superblock_says_its_size() {
        let mut bytes = [0; 1024];
        assert_eq!(Superblock::parse(&bytes), None, "no magic");
        bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        bytes[0x4..0x8].copy_from_slice(&7u32.to_le_bytes());
        bytes[0x18..0x1c].copy_from_slice(&2u32.to_le_bytes());
        bytes[0x20..0x24].copy_from_slice(&32768u32.to_le_bytes());
        bytes[0xfe..0x100].copy_from_slice(&64u16.to_le_bytes());
        bytes[0x150..0x154].copy_from_slice(&1u32.to_le_bytes());
        let without = Superblock::parse(&bytes).unwrap();
        assert_eq!(
            (
                without.blocks,
                without.block_bytes,
                without.blocks_per_group
            ),
            (7, 4096, 32768)
        );
        bytes[0x60] = 0x80;
        let with = Superblock::parse(&bytes).unwrap();
        assert_eq!(with.blocks, 7 + (1 << 32));
        bytes[0xfe] = 8;
        assert_eq!(
            Superblock::parse(&bytes),
            None,
            "descriptors too small for what they hold"
        );
    }

    /// A file system as `mke2fs` makes it, and the groups that `dumpe2fs` says are not `BLOCK_UNINIT`.
    fn made(size: &str, features: &str) -> (tempfile::NamedTempFile, Vec<u64>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-F", "-t", "ext4", "-O", features])
            .arg(file.path())
            .arg(size);
        assert!(make.status().unwrap().success());
        let dump = Command::new("dumpe2fs").arg(file.path()).output().unwrap();
        let text = String::from_utf8(dump.stdout).unwrap();
        let groups = text
            .lines()
            .filter(|line| line.contains(": (Blocks ") && !line.contains("BLOCK_UNINIT"));
        let number = |line: &str| {
            line["Group ".len()..]
                .split(':')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        };
        (file, groups.map(number).collect())
    }

    #[test]
    fn groups_in_use_are_those_that_e2fsprogs_says() {
        for (size, features) in [
            ("8G", "64bit"),
            ("1G", "^64bit"),
            ("300G", "64bit,meta_bg,^resize_inode"),
        ] {
            let (file, expected) = made(size, features);
            let file = File::open(file.path()).unwrap();
            let superblock = Superblock::read(&file).unwrap();
            let used: Vec<u64> = superblock
                .used_groups(&file)
                .unwrap()
                .into_iter()
                .flatten()
                .collect();
            assert_eq!(used, expected, "{size} {features}");
            let groups = superblock.blocks.div_ceil(superblock.blocks_per_group);
            assert!(
                !used.is_empty() && (used.len() as u64) < groups,
                "{size} {features}: {used:?} of {groups}"
            );
        }
    }

    #[test]
    fn without_checksums_every_group_may_be_in_use() {
        let (file, _) = made("1G", "^metadata_csum,^uninit_bg");
        let file = File::open(file.path()).unwrap();
        let superblock = Superblock::read(&file).unwrap();
        assert_eq!(
            superblock.used_groups(&file).unwrap(),
            [Range { start: 0, end: 8 }]
        );
    }
}
