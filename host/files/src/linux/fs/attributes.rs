//! Attributes: read, merged with what the guest set before, and set.

use std::os::fd::AsFd;
use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::stat64;
use fuse_backend_rs::api::filesystem::{Entry, SetattrValid};
use rustix::fs::{FileType, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;

use super::handles::Handle;
use super::nodes::{Located, NodeFd, ROOT};
use super::owner::{GuestStat, MAX_TEXT, Shown, XATTR, host_permissions};
use super::sidecar::SIDE_FULL;
use super::sys::{self, HostStat, Result};
use super::{BELIEVED, ShareFs};

impl ShareFs {
    /// What the guest is shown of the inode behind `fd`.
    pub(super) fn shown(&self, fd: impl AsFd, host: &HostStat) -> Shown {
        Shown::merge(host, self.mark(fd, host).as_ref())
    }

    fn mark(&self, fd: impl AsFd, host: &HostStat) -> Option<GuestStat> {
        if !has_xattrs(host) {
            return if self.side.is_empty() {
                None
            } else {
                self.side.get(host)
            };
        }
        match sys::get_xattr(fd, XATTR, MAX_TEXT) {
            Ok(text) => GuestStat::decode(&text),
            Err(Errno::NOTSUP) => self.side.get(host),
            Err(_) => None,
        }
    }

    /// Writes down that the inode behind `fd` is to be shown so.
    pub(super) fn set_shown(&self, fd: impl AsFd, host: &HostStat, shown: &Shown) -> Result<()> {
        let mark = shown.record(host);
        if !has_xattrs(host) {
            return self.side.set(host, mark);
        }
        match self.set_xattr_mark(fd.as_fd(), mark) {
            Err(Errno::NOTSUP) => self.side.set(host, mark),
            // A file that its owner may not write (0444): the attribute needs the right to write.
            Err(Errno::ACCESS) if host.uid == self.user => {
                self.proc.chmod(&fd, host.mode & 0o7777 | 0o200)?;
                let done = self.set_xattr_mark(fd.as_fd(), mark);
                self.proc.chmod(&fd, host.mode & 0o7777)?;
                done
            }
            other => other,
        }
    }

    fn set_xattr_mark(&self, fd: impl AsFd, mark: Option<GuestStat>) -> Result<()> {
        match mark {
            Some(mark) => sys::set_xattr(fd, XATTR, mark.encode().as_bytes(), XattrFlags::empty()),
            None => match sys::remove_xattr(fd, XATTR) {
                Err(Errno::NODATA) => Ok(()),
                other => other,
            },
        }
    }

    /// Answers a lookup: counts it and tells the attributes.
    pub(super) fn entry(&self, parent: &Located, name: &std::ffi::CStr) -> Result<Entry> {
        let hidden = &self.rules.hidden;
        if hidden.has_name(parent.identity(), name.to_bytes()) {
            return Err(Errno::ACCESS);
        }
        let fd = Arc::new(self.with_descriptor(|| sys::open_child(&parent.fd, name))?);
        let host = sys::stat(&fd)?;
        if host.dev != parent.dev {
            sys::check_file_system(&fd)?;
        }
        if hidden.has(&host) {
            return Err(Errno::ACCESS);
        }
        let shown = self.shown(&fd, &host);
        self.enter(parent, name, NodeFd::Cached(fd), (&host, &shown))
    }

    /// The same for an inode that is in hand already.
    pub(super) fn enter(
        &self,
        parent: &Located,
        name: &std::ffi::CStr,
        fd: NodeFd,
        (host, shown): (&HostStat, &Shown),
    ) -> Result<Entry> {
        let places = &self.rules.read_only;
        let inode = self
            .nodes
            .enter(&parent.share, (parent.id, name), host, fd, places)?;
        self.nodes.set_special(inode, shown.is_special());
        Ok(entry_of(inode, to_stat64(host, shown)))
    }

    /// The attributes of a node, asked through an open file where there is one.
    pub(super) fn attributes(&self, inode: u64, handle: Option<u64>) -> Result<stat64> {
        if inode == ROOT {
            return Ok(root_attributes(self.shares.count()));
        }
        if let Some(handle) = handle.and_then(|id| self.handles.get(id).ok())
            && let Ok(file) = handle.file()
        {
            let host = sys::stat(file)?;
            return Ok(to_stat64(&host, &self.shown(file, &host)));
        }
        let node = self.nodes.resolve(inode)?;
        let host = sys::stat(&node.fd)?;
        let shown = self.shown(&node.fd, &host);
        if shown.is_special() != node.special {
            self.nodes.set_special(inode, shown.is_special());
        }
        Ok(to_stat64(&host, &shown))
    }

    /// Sets what `valid` names. Size first, for the rest is then as after a write.
    pub(super) fn set_attributes(
        &self,
        inode: u64,
        wanted: &stat64,
        handle: Option<u64>,
        valid: SetattrValid,
    ) -> Result<stat64> {
        if inode == ROOT {
            return Err(Errno::ROFS);
        }
        let node = self.nodes.resolve(inode)?.writable()?;
        if valid.contains(SetattrValid::SIZE) {
            let handle = handle.and_then(|id| self.handles.get(id).ok());
            self.set_size(
                &node,
                u64::try_from(wanted.st_size).map_err(|_| Errno::FBIG)?,
                handle.as_deref(),
            )?;
        }
        if valid.intersects(
            SetattrValid::MODE | SetattrValid::UID | SetattrValid::GID | SetattrValid::KILL_SUIDGID,
        ) {
            self.set_owner_and_mode(&node, wanted, valid)?;
        }
        if valid.intersects(SetattrValid::ATIME | SetattrValid::MTIME) {
            let time = |set, now, seconds, nanos| match (valid.contains(set), valid.contains(now)) {
                (false, _) => Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_OMIT,
                },
                (true, true) => Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_NOW,
                },
                (true, false) => Timespec {
                    tv_sec: seconds,
                    tv_nsec: nanos,
                },
            };
            let times = Timestamps {
                last_access: time(
                    SetattrValid::ATIME,
                    SetattrValid::ATIME_NOW,
                    wanted.st_atime,
                    wanted.st_atime_nsec.clamp(0, 999_999_999),
                ),
                last_modification: time(
                    SetattrValid::MTIME,
                    SetattrValid::MTIME_NOW,
                    wanted.st_mtime,
                    wanted.st_mtime_nsec.clamp(0, 999_999_999),
                ),
            };
            self.proc.set_times(&node.fd, &times)?;
        }
        self.attributes(inode, None)
    }

    fn set_size(&self, node: &Located, size: u64, handle: Option<&Handle>) -> Result<()> {
        if let Some(file) = handle.and_then(|h| h.file_to_change().ok()) {
            return rustix::fs::ftruncate(file, size);
        }
        let host = sys::stat(&node.fd)?;
        let file = self.with_descriptor(|| self.proc.reopen(&node.fd, &host, OFlags::WRONLY))?;
        rustix::fs::ftruncate(file, size)
    }

    fn set_owner_and_mode(
        &self,
        node: &Located,
        wanted: &stat64,
        valid: SetattrValid,
    ) -> Result<()> {
        let host = sys::stat(&node.fd)?;
        let mut shown = self.shown(&node.fd, &host);
        if valid.contains(SetattrValid::UID) {
            shown.uid = wanted.st_uid;
        }
        if valid.contains(SetattrValid::GID) {
            shown.gid = wanted.st_gid;
        }
        let before = shown.mode;
        if valid.intersects(SetattrValid::UID | SetattrValid::GID | SetattrValid::KILL_SUIDGID) {
            shown = shown.without_privileges();
        }
        if valid.contains(SetattrValid::MODE) {
            shown.mode = shown.mode & libc::S_IFMT | wanted.st_mode & 0o7777;
        }
        let chmod = valid.contains(SetattrValid::MODE) || before != shown.mode;
        self.show(node, &host, &shown, chmod)
    }

    /// Makes the guest see `shown`; where the mode is new, its permission bits go to the host as far as they
    /// can. A mere change of owner leaves the host's mode alone.
    fn show(&self, node: &Located, host: &HostStat, shown: &Shown, chmod: bool) -> Result<()> {
        let mut host = *host;
        let directory = host.kind() == FileType::Directory;
        // A directory keeps special bits that somebody set on the host; a file loses them with any change.
        let kept = if directory { host.mode & 0o7000 } else { 0 };
        let bits = host_permissions(shown.mode, directory) | kept;
        if chmod && has_xattrs(&host) && host.mode & 0o7777 != bits {
            match self.proc.chmod(&node.fd, bits) {
                // Somebody else's file: only the guest sees the new mode.
                Ok(()) | Err(Errno::PERM) => {}
                Err(error) => return Err(error),
            }
            host = sys::stat(&node.fd)?;
        }
        match self.set_shown(&node.fd, &host, shown) {
            Err(SIDE_FULL) => return Err(Errno::NOSPC),
            other => other?,
        }
        self.nodes.set_special(node.id, shown.is_special());
        Ok(())
    }

    /// Takes setuid and setgid away after a write by one who may not keep them.
    pub(super) fn drop_privileges(&self, inode: u64) -> Result<()> {
        let node = self.nodes.resolve(inode)?.writable()?;
        let host = sys::stat(&node.fd)?;
        let shown = self.shown(&node.fd, &host);
        let without = shown.without_privileges();
        if without == shown {
            Ok(())
        } else {
            self.show(&node, &host, &without, true)
        }
    }
}

/// Whether the kernel lets such an inode have user attributes at all (xattr(7)).
fn has_xattrs(host: &HostStat) -> bool {
    matches!(host.kind(), FileType::RegularFile | FileType::Directory)
}

pub(super) fn entry_of(inode: u64, attr: stat64) -> Entry {
    Entry {
        inode,
        attr,
        attr_timeout: BELIEVED,
        entry_timeout: BELIEVED,
        ..Entry::default()
    }
}

/// An inode number that is unique over all devices of all shares, since the guest sees a single device:
/// the upper 24 bits are mixed with the device's number. The same inode has the same number in every share.
pub(super) fn inode_number(dev: u64, ino: u64) -> u64 {
    // The finaliser of MurmurHash3, so that neighbouring device numbers differ in the upper bits.
    let mut mixed = dev;
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ino ^ (mixed & 0xffff_ff00_0000_0000)
}

fn blank() -> stat64 {
    // SAFETY: stat64 is a C struct of integers, for which all zeroes is a value.
    unsafe { std::mem::zeroed() }
}

pub(super) fn root_attributes(shares: usize) -> stat64 {
    let mut st = blank();
    st.st_ino = ROOT;
    st.st_mode = libc::S_IFDIR | 0o755;
    st.st_nlink = 2 + shares as u64;
    st.st_blksize = 4096;
    st
}

pub(super) fn to_stat64(host: &HostStat, shown: &Shown) -> stat64 {
    let mut st = blank();
    st.st_ino = inode_number(host.dev, host.ino);
    st.st_mode = shown.mode;
    st.st_nlink = u64::from(host.nlink);
    st.st_uid = shown.uid;
    st.st_gid = shown.gid;
    // The number of a host's device would name a device of the guest: st_rdev stays 0.
    st.st_size = i64::try_from(host.size).unwrap_or(i64::MAX);
    st.st_blocks = i64::try_from(host.blocks).unwrap_or(i64::MAX);
    st.st_blksize = i64::from(host.blksize);
    (st.st_atime, st.st_atime_nsec) = (host.atime.0, i64::from(host.atime.1));
    (st.st_mtime, st.st_mtime_nsec) = (host.mtime.0, i64::from(host.mtime.1));
    (st.st_ctime, st.st_ctime_nsec) = (host.ctime.0, i64::from(host.ctime.1));
    st
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inode_numbers_of_neighbouring_devices_are_apart() {
        let devices: Vec<u64> = (0..64).map(|minor| rustix::fs::makedev(0, minor)).collect();
        let mut seen: Vec<u64> = devices
            .iter()
            .map(|dev| inode_number(*dev, 2) >> 40)
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), devices.len());
        assert_eq!(inode_number(5, 77), inode_number(5, 77));
        assert_ne!(inode_number(5, 77), inode_number(5, 78));
    }
}
