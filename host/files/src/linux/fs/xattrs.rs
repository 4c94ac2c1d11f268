//! The guest's own extended attributes: `user.*` goes to the host, except what is ours; nothing else does.
//!
//! A `security.*` attribute set by a guest would be obeyed by the host's kernel (file capabilities, labels),
//! and `trusted.*` and ACLs need rights that this process does not have.

use std::ffi::CStr;

use fuse_backend_rs::api::filesystem::{GetxattrReply, ListxattrReply};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::ShareFs;
use super::nodes::ROOT;
use super::owner::XATTR_PREFIX;
use super::sys::{self, Result};

/// Longest value Linux takes.
const MAX_VALUE: usize = 64 * 1024;

/// Where an attribute's name belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// The guest's, kept on the host.
    Guest,
    /// This server's.
    Ours,
    /// Looked for by every program and never there: absent rather than unsupported.
    Absent,
    /// Not kept.
    Unsupported,
}

fn room(name: &CStr) -> Room {
    let name = name.to_bytes();
    if name.starts_with(XATTR_PREFIX) {
        Room::Ours
    } else if name.starts_with(b"user.") && name.len() > b"user.".len() {
        Room::Guest
    } else if name.starts_with(b"security.") || name.starts_with(b"trusted.") {
        Room::Absent
    } else {
        Room::Unsupported
    }
}

impl ShareFs {
    pub(super) fn set_xattr(
        &self,
        inode: u64,
        name: &CStr,
        value: &[u8],
        flags: u32,
    ) -> Result<()> {
        if inode == ROOT {
            return Err(Errno::ROFS);
        }
        let node = self.nodes.resolve(inode)?.writable()?;
        match room(name) {
            Room::Guest => {
                let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
                sys::set_xattr(&node.fd, name, value, flags)
            }
            Room::Ours => Err(Errno::PERM),
            Room::Absent | Room::Unsupported => Err(Errno::OPNOTSUPP),
        }
    }

    pub(super) fn remove_xattr(&self, inode: u64, name: &CStr) -> Result<()> {
        if inode == ROOT {
            return Err(Errno::ROFS);
        }
        let node = self.nodes.resolve(inode)?.writable()?;
        match room(name) {
            Room::Guest => sys::remove_xattr(&node.fd, name),
            Room::Ours => Err(Errno::PERM),
            Room::Absent => Err(Errno::NODATA),
            Room::Unsupported => Err(Errno::OPNOTSUPP),
        }
    }

    pub(super) fn xattr(&self, inode: u64, name: &CStr, size: u32) -> Result<GetxattrReply> {
        match room(name) {
            Room::Guest if inode != ROOT => {}
            Room::Unsupported => return Err(Errno::OPNOTSUPP),
            _ => return Err(Errno::NODATA),
        }
        let node = self.nodes.resolve(inode)?;
        if size == 0 {
            let length = sys::xattr_length(&node.fd, name)?;
            return Ok(GetxattrReply::Count(
                u32::try_from(length).map_err(|_| Errno::RANGE)?,
            ));
        }
        sys::get_xattr(&node.fd, name, (size as usize).min(MAX_VALUE)).map(GetxattrReply::Value)
    }

    pub(super) fn xattr_names(&self, inode: u64, size: u32) -> Result<ListxattrReply> {
        let names = if inode == ROOT {
            Vec::new()
        } else {
            match sys::list_xattrs(&self.nodes.resolve(inode)?.fd) {
                Err(Errno::OPNOTSUPP) => Vec::new(),
                other => other?,
            }
        };
        let shown = |name: &&[u8]| {
            CStr::from_bytes_with_nul(name).is_ok_and(|name| room(name) == Room::Guest)
        };
        let names: Vec<u8> = names
            .split_inclusive(|byte| *byte == 0)
            .filter(shown)
            .flatten()
            .copied()
            .collect();
        match size {
            0 => Ok(ListxattrReply::Count(
                u32::try_from(names.len()).map_err(|_| Errno::RANGE)?,
            )),
            size if names.len() > size as usize => Err(Errno::RANGE),
            _ => Ok(ListxattrReply::Names(names)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_room() {
        assert_eq!(room(c"user.note"), Room::Guest);
        assert_eq!(room(c"user.lighter"), Room::Guest);
        assert_eq!(room(c"user.lighter.stat"), Room::Ours);
        assert_eq!(room(c"user.lighter.anything"), Room::Ours);
        assert_eq!(room(c"security.capability"), Room::Absent);
        assert_eq!(room(c"trusted.overlay.opaque"), Room::Absent);
        for name in [
            c"system.posix_acl_access",
            c"user.",
            c"",
            c"USER.x",
            c"os2.x",
        ] {
            assert_eq!(room(name), Room::Unsupported, "{name:?}");
        }
    }
}
