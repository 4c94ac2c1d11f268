//! What the guest says of an inode's owner, mode and type, kept beside what the host says.
//!
//! No host credential ever changes, so a guest's `chown` cannot be done on the host: it is written down
//! in one extended attribute, [`XATTR`], and merged into every answer. The rules are in `README.md`.

use std::ffi::CStr;

use rustix::fs::FileType;

use super::sys::HostStat;

/// The attribute that holds a [`GuestStat`]. User attributes of this prefix are hidden from the guest.
pub const XATTR: &CStr = c"user.lighter.stat";

/// Prefix of every attribute that is ours.
pub const XATTR_PREFIX: &[u8] = b"user.lighter.";

/// The longest text of a [`GuestStat`].
pub const MAX_TEXT: usize = 96;

const SPECIAL_BITS: u32 = 0o7000;

/// Owner, mode and type as the guest set them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestStat {
    /// Owner in the guest.
    pub uid: u32,
    /// Group in the guest.
    pub gid: u32,
    /// Type and all twelve mode bits in the guest.
    pub mode: u32,
    /// The host's permission bits when this was written: another value there means that somebody on the
    /// host changed them since, and then the host's count.
    pub host_permissions: u32,
}

/// What the guest is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Type and mode bits.
    pub mode: u32,
}

impl Shown {
    /// Merges what the host says with what the guest once set.
    pub fn merge(host: &HostStat, guest: Option<&GuestStat>) -> Self {
        let Some(guest) = guest else {
            return Self {
                uid: host.uid,
                gid: host.gid,
                mode: host.mode,
            };
        };
        let kind = if host.kind() == FileType::RegularFile && is_emulated(guest.mode) {
            guest.mode & libc::S_IFMT
        } else {
            host.mode & libc::S_IFMT
        };
        let bits = if guest.host_permissions == host.permissions() {
            guest.mode & 0o7777
        } else {
            host.permissions()
        };
        Self {
            uid: guest.uid,
            gid: guest.gid,
            mode: kind | bits,
        }
    }

    /// Whether a setuid, setgid or sticky bit is among the mode bits.
    pub fn is_special(&self) -> bool {
        self.mode & SPECIAL_BITS != 0
    }

    /// What must be written down for the guest to be shown this on an inode of which the host says `host`;
    /// `None` where the host says it already.
    pub fn record(&self, host: &HostStat) -> Option<GuestStat> {
        if self.uid == host.uid && self.gid == host.gid && self.mode == host.mode {
            return None;
        }
        Some(GuestStat {
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
            host_permissions: host.permissions(),
        })
    }

    /// The mode after a change that must take privileges away: a write or truncation by one without
    /// CAP_FSETID, or any change of owner.
    #[must_use]
    pub fn without_privileges(mut self) -> Self {
        if self.mode & libc::S_IFMT == libc::S_IFREG {
            self.mode &= !libc::S_ISUID;
            if self.mode & libc::S_IXGRP != 0 {
                self.mode &= !libc::S_ISGID;
            }
        }
        self
    }
}

/// FIFOs and sockets of the guest are empty regular files on the host.
fn is_emulated(mode: u32) -> bool {
    matches!(mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFSOCK)
}

/// The permission bits that a file of ours gets on the host for the mode that the guest wants.
///
/// The owner's own access always stays: this process acts as the owner without the guest root's right to
/// pass over modes. Setuid, setgid and sticky bits never reach the host.
pub fn host_permissions(mode: u32, directory: bool) -> u32 {
    (mode & 0o777) | if directory { 0o700 } else { 0o600 }
}

impl GuestStat {
    /// As text: `1 uid gid mode host-permissions`, the last two octal.
    pub fn encode(&self) -> String {
        format!(
            "1 {} {} {:o} {:o}",
            self.uid, self.gid, self.mode, self.host_permissions
        )
    }

    /// From text; `None` for anything that [`Self::encode`] does not write.
    pub fn decode(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text)
            .ok()
            .filter(|t| t.len() <= MAX_TEXT)?;
        let mut parts = text.split(' ');
        if parts.next()? != "1" {
            return None;
        }
        let guest = Self {
            uid: parts.next()?.parse().ok()?,
            gid: parts.next()?.parse().ok()?,
            mode: u32::from_str_radix(parts.next()?, 8).ok()?,
            host_permissions: u32::from_str_radix(parts.next()?, 8).ok()?,
        };
        (parts.next().is_none() && guest.encode() == text).then_some(guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(mode: u32) -> HostStat {
        HostStat {
            dev: 1,
            ino: 2,
            born: 3,
            mode,
            nlink: 1,
            uid: 1000,
            gid: 1000,
            size: 0,
            blocks: 0,
            blksize: 4096,
            atime: (0, 0),
            mtime: (0, 0),
            ctime: (0, 0),
        }
    }

    #[test]
    fn text_is_read_back_and_nothing_else_is() {
        let stat = GuestStat {
            uid: 999,
            gid: u32::MAX - 1,
            mode: 0o104_755,
            host_permissions: 0o755,
        };
        assert_eq!(stat.encode(), "1 999 4294967294 104755 755");
        assert_eq!(GuestStat::decode(stat.encode().as_bytes()), Some(stat));
        for bad in [
            "",
            "1",
            "2 0 0 0 0",
            "1 0 0 9 0",
            "1 0 0 0 0 0",
            "1 +0 0 0 0",
            "1 00 0 0 0",
            "1 0 0 0 0\n",
        ] {
            assert_eq!(GuestStat::decode(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn an_unmarked_file_is_shown_as_the_host_has_it() {
        let shown = Shown::merge(&host(0o100_644), None);
        assert_eq!(
            shown,
            Shown {
                uid: 1000,
                gid: 1000,
                mode: 0o100_644
            }
        );
        assert_eq!(shown.record(&host(0o100_644)), None);
    }

    #[test]
    fn a_chmod_on_the_host_wins_over_an_older_one_of_the_guest() {
        let guest = GuestStat {
            uid: 999,
            gid: 999,
            mode: 0o104_555,
            host_permissions: 0o755,
        };
        assert_eq!(Shown::merge(&host(0o100_755), Some(&guest)).mode, 0o104_555);
        let changed = Shown::merge(&host(0o100_640), Some(&guest));
        assert_eq!(
            changed,
            Shown {
                uid: 999,
                gid: 999,
                mode: 0o100_640
            }
        );
    }

    #[test]
    fn only_fifo_and_socket_are_types_a_mark_can_give() {
        for (mode, expected) in [
            (0o010_644, 0o010_644),
            (0o140_644, 0o140_644),
            (0o020_644, 0o100_644), // character device
            (0o060_644, 0o100_644), // block device
            (0o120_644, 0o100_644), // symbolic link
            (0o040_644, 0o100_644), // directory
        ] {
            let guest = GuestStat {
                uid: 0,
                gid: 0,
                mode,
                host_permissions: 0o644,
            };
            assert_eq!(
                Shown::merge(&host(0o100_644), Some(&guest)).mode,
                expected,
                "{mode:o}"
            );
            // A mark never turns a host directory into something else.
            assert_eq!(
                Shown::merge(&host(0o040_644), Some(&guest)).mode & libc::S_IFMT,
                libc::S_IFDIR
            );
        }
    }

    #[test]
    fn special_bits_stay_in_the_guest() {
        assert_eq!(host_permissions(0o7777, false), 0o777);
        assert_eq!(host_permissions(0o000, false), 0o600);
        assert_eq!(host_permissions(0o000, true), 0o700);
    }

    #[test]
    fn privileges_go_as_the_kernel_takes_them() {
        let shown = |mode| {
            Shown {
                uid: 0,
                gid: 0,
                mode,
            }
            .without_privileges()
            .mode
        };
        assert_eq!(shown(0o106_755), 0o100_755);
        assert_eq!(
            shown(0o106_745),
            0o102_745,
            "setgid without group execution is mandatory locking's mark"
        );
        assert_eq!(
            shown(0o042_755),
            0o042_755,
            "a directory's setgid is no privilege"
        );
    }
}
