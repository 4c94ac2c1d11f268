//! Names: looked up, made, moved and taken away, one component at a time.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use fuse_backend_rs::api::filesystem::Entry;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::attributes::{entry_of, to_stat64};
use super::handles::{Body, Handle};
use super::io::{access_flags, writes};
use super::nodes::{Located, NodeFd, ROOT};
use super::owner::{Shown, host_permissions};
use super::sidecar::SIDE_FULL;
use super::sys::{self, HostStat, Result};
use super::{Caller, ShareFs};

/// Longest target of a symbolic link, as the kernel's.
const MAX_LINK: usize = 4095;

impl ShareFs {
    pub(super) fn look_up(&self, parent: u64, name: &CStr) -> Result<Entry> {
        let name = sys::component(name)?;
        if parent == ROOT {
            return self.look_up_share(name);
        }
        self.entry(&self.nodes.resolve(parent)?, name)
    }

    fn look_up_share(&self, name: &CStr) -> Result<Entry> {
        let share = self.shares.get(name.to_bytes()).ok_or(Errno::NOENT)?;
        let host = sys::stat(share.root())?;
        let shown = self.shown(share.root(), &host);
        // Parent 0 marks the share's own node.
        let inode = self.nodes.enter(
            &share,
            (0, c""),
            &host,
            NodeFd::Share(Arc::clone(&share)),
            &self.rules.read_only,
        )?;
        self.nodes.set_special(inode, shown.is_special());
        Ok(entry_of(inode, to_stat64(&host, &shown)))
    }

    /// A directory in which something is to be changed. The synthetic root is none.
    fn directory_to_change(&self, inode: u64) -> Result<Located> {
        if inode == ROOT {
            Err(Errno::ROFS)
        } else {
            self.nodes.resolve(inode)?.writable()
        }
    }

    /// A name in such a directory: one component, and none with a rule of its own.
    fn name_to_change<'n>(&self, directory: &Located, name: &'n CStr) -> Result<&'n CStr> {
        let name = sys::component(name)?;
        if self
            .rules
            .hidden
            .has_name(directory.identity(), name.to_bytes())
        {
            return Err(Errno::ACCESS);
        }
        let read_only = &self.rules.read_only;
        // Whatever its name is now, what is for reading stays where it is.
        let is_read_only = || {
            let host = sys::open_child(&directory.fd, name).and_then(sys::stat);
            host.is_ok_and(|host| read_only.has(&host))
        };
        if !read_only.is_empty()
            && (read_only.has_name(directory.identity(), name.to_bytes()) || is_read_only())
        {
            return Err(Errno::ROFS);
        }
        Ok(name)
    }

    /// Refuses to move, replace or remove a directory above a place with a rule: the daemon grants by path.
    ///
    /// No race: what may not be moved cannot come to a name after it was looked at, but by the host's hand.
    fn may_move(&self, directory: &Located, name: &CStr) -> Result<()> {
        let found = self.with_descriptor(|| sys::open_child(&directory.fd, name));
        match found.and_then(sys::stat) {
            Ok(host) if self.rules.stays(&host) => Err(Errno::BUSY),
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn make_directory(
        &self,
        who: Caller,
        parent: u64,
        name: &CStr,
        mode: u32,
    ) -> Result<Entry> {
        let parent = self.directory_to_change(parent)?;
        let name = self.name_to_change(&parent, name)?;
        rustix::fs::mkdirat(
            &parent.fd,
            name,
            Mode::from_raw_mode(host_permissions(mode, true)),
        )?;
        self.finish(who, &parent, name, libc::S_IFDIR | mode & 0o7777)
            .inspect_err(|_| undo(&parent.fd, name, AtFlags::REMOVEDIR))
    }

    pub(super) fn make_link(
        &self,
        who: Caller,
        target: &CStr,
        parent: u64,
        name: &CStr,
    ) -> Result<Entry> {
        let parent = self.directory_to_change(parent)?;
        let name = self.name_to_change(&parent, name)?;
        if target.to_bytes().len() > MAX_LINK {
            return Err(Errno::NAMETOOLONG);
        }
        rustix::fs::symlinkat(target, &parent.fd, name)?;
        self.finish(who, &parent, name, libc::S_IFLNK | 0o777)
            .inspect_err(|_| undo(&parent.fd, name, AtFlags::empty()))
    }

    /// Regular files, and FIFOs and sockets as marked empty files. A device is never made.
    pub(super) fn make_node(
        &self,
        who: Caller,
        parent: u64,
        name: &CStr,
        mode: u32,
    ) -> Result<Entry> {
        let parent = self.directory_to_change(parent)?;
        let name = self.name_to_change(&parent, name)?;
        let kind = match mode & libc::S_IFMT {
            0 | libc::S_IFREG => libc::S_IFREG,
            kind @ (libc::S_IFIFO | libc::S_IFSOCK) => kind,
            libc::S_IFCHR | libc::S_IFBLK => return Err(Errno::PERM),
            _ => return Err(Errno::INVAL),
        };
        let create = || {
            sys::create_child(
                &parent.fd,
                name,
                OFlags::WRONLY,
                host_permissions(mode, false),
            )
        };
        drop(self.with_descriptor(create)?);
        self.finish(who, &parent, name, kind | mode & 0o7777)
            .inspect_err(|_| undo(&parent.fd, name, AtFlags::empty()))
    }

    /// Gives what was just made at `name` its owner and mode, and enters it.
    fn finish(&self, who: Caller, parent: &Located, name: &CStr, mode: u32) -> Result<Entry> {
        let fd = Arc::new(self.with_descriptor(|| sys::open_child(&parent.fd, name))?);
        let host = sys::stat(&fd)?;
        let shown = self.give(who, parent, (&fd, &host), mode)?;
        self.enter(parent, name, NodeFd::Cached(fd), (&host, &shown))
    }

    /// Owner, group and mode of a new inode, as Linux gives them, setgid directories included.
    fn give(
        &self,
        who: Caller,
        parent: &Located,
        (fd, host): (impl AsFd, &HostStat),
        mode: u32,
    ) -> Result<Shown> {
        let kind = host.mode & libc::S_IFMT;
        let emulated =
            kind == libc::S_IFREG && matches!(mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFSOCK);
        if kind != mode & libc::S_IFMT && !emulated {
            // Somebody on the host put another thing there meanwhile.
            return Err(Errno::STALE);
        }
        let mut shown = Shown {
            uid: who.uid,
            gid: who.gid,
            mode,
        };
        if parent.special {
            let parent_host = sys::stat(&parent.fd)?;
            let above = self.shown(&parent.fd, &parent_host);
            if above.mode & libc::S_ISGID != 0 {
                shown.gid = above.gid;
                shown.mode |= if kind == libc::S_IFDIR {
                    libc::S_ISGID
                } else {
                    0
                };
            }
        }
        match self.set_shown(fd, host, &shown) {
            // A link without its owner is better than no link; a FIFO that is a file is not.
            Err(SIDE_FULL) if !emulated => Ok(Shown::merge(host, None)),
            Err(SIDE_FULL) => Err(Errno::NOSPC),
            other => other.map(|()| shown),
        }
    }

    /// Creates and opens in one step; opens what is there unless `O_EXCL` says not to.
    pub(super) fn create(
        &self,
        who: Caller,
        parent: u64,
        name: &CStr,
        (flags, mode): (u32, u32),
    ) -> Result<(Entry, u64)> {
        let directory = self.directory_to_change(parent)?;
        let name = self.name_to_change(&directory, name)?;
        self.handles.room()?;
        let create = || {
            sys::create_child(
                &directory.fd,
                name,
                access_flags(flags),
                host_permissions(mode, false),
            )
        };
        let file = match self.with_descriptor(create) {
            Err(Errno::EXIST) if flags & libc::O_EXCL as u32 == 0 => {
                return self.open_present(parent, name, flags);
            }
            other => other?,
        };
        let made = self.enter_new_file(who, &directory, name, (file, mode), flags);
        made.inspect_err(|_| undo(&directory.fd, name, AtFlags::empty()))
    }

    /// An unnamed file (`O_TMPFILE`), which may get a name later.
    pub fn create_unnamed(
        &self,
        who: Caller,
        parent: u64,
        (flags, mode): (u32, u32),
    ) -> Result<(Entry, u64)> {
        let directory = self.directory_to_change(parent)?;
        self.handles.room()?;
        if !writes(flags) {
            return Err(Errno::INVAL);
        }
        let exclusive = if flags & libc::O_EXCL as u32 == 0 {
            OFlags::empty()
        } else {
            OFlags::EXCL
        };
        let create = || {
            sys::create_unnamed(
                &directory.fd,
                access_flags(flags) | exclusive,
                host_permissions(mode, false),
            )
        };
        let file = self.with_descriptor(create)?;
        self.enter_new_file(who, &directory, c"", (file, mode), flags)
    }

    fn enter_new_file(
        &self,
        who: Caller,
        directory: &Located,
        name: &CStr,
        (file, mode): (std::os::fd::OwnedFd, u32),
        flags: u32,
    ) -> Result<(Entry, u64)> {
        let host = sys::stat(&file)?;
        let shown = self.give(
            who,
            directory,
            (&file, &host),
            libc::S_IFREG | mode & 0o7777,
        )?;
        let named = NodeFd::Cached(Arc::new(self.with_descriptor(|| self.proc.path_of(&file))?));
        let entry = self.enter(directory, name, named, (&host, &shown))?;
        let body = Body::File {
            file,
            writable: writes(flags),
        };
        let handle = Arc::new(Handle {
            share: Some(Arc::clone(&directory.share)),
            body,
        });
        self.nodes.opened(entry.inode, &handle);
        match self.handles.insert(handle) {
            Ok(handle) => Ok((entry, handle)),
            Err(error) => {
                self.nodes.forget(entry.inode, 1);
                Err(error)
            }
        }
    }

    fn open_present(&self, parent: u64, name: &CStr, flags: u32) -> Result<(Entry, u64)> {
        let entry = self.look_up(parent, name)?;
        match self.open_file(entry.inode, flags) {
            Ok(handle) => Ok((entry, handle)),
            Err(error) => {
                self.nodes.forget(entry.inode, 1);
                Err(error)
            }
        }
    }

    pub(super) fn remove(&self, parent: u64, name: &CStr, directory: bool) -> Result<()> {
        let parent = self.directory_to_change(parent)?;
        let name = self.name_to_change(&parent, name)?;
        if directory {
            self.may_move(&parent, name)?;
        }
        let marked = self.marked_beside(&parent, name);
        let flags = if directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        rustix::fs::unlinkat(&parent.fd, name, flags)?;
        self.unmark(marked)
    }

    /// The inode at `name` if its last name is about to go and its mark is not on itself.
    fn marked_beside(&self, parent: &Located, name: &CStr) -> Option<HostStat> {
        if self.side.is_empty() {
            return None;
        }
        let host = sys::open_child(&parent.fd, name).and_then(sys::stat).ok()?;
        (host.nlink <= 1 || host.kind() == FileType::Directory).then_some(host)
    }

    fn unmark(&self, gone: Option<HostStat>) -> Result<()> {
        gone.map_or(Ok(()), |host| self.side.set(&host, None))
    }

    pub(super) fn rename(&self, from: (u64, &CStr), to: (u64, &CStr), flags: u32) -> Result<()> {
        let old = self.directory_to_change(from.0)?;
        let new = self.directory_to_change(to.0)?;
        let (old_name, new_name) = (
            self.name_to_change(&old, from.1)?,
            self.name_to_change(&new, to.1)?,
        );
        if old.share.serial != new.share.serial {
            return Err(Errno::XDEV);
        }
        self.may_move(&old, old_name)?;
        self.may_move(&new, new_name)?;
        // RENAME_WHITEOUT makes a device.
        let flags = RenameFlags::from_bits(flags)
            .filter(|f| (RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(*f))
            .ok_or(Errno::INVAL)?;
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let replaced = if exchange {
            None
        } else {
            self.marked_beside(&new, new_name)
        };
        rustix::fs::renameat_with(&old.fd, old_name, &new.fd, new_name, flags)?;
        self.unmark(replaced)?;
        self.note_move(&new, new_name);
        if exchange {
            self.note_move(&old, old_name);
        }
        Ok(())
    }

    // A place that cannot be noted is found again by the guest's next lookup.
    fn note_move(&self, parent: &Located, name: &CStr) {
        if let Ok(host) = sys::open_child(&parent.fd, name).and_then(sys::stat) {
            self.nodes.moved(&parent.share, &host, parent.id, name);
        }
    }

    pub(super) fn link(&self, inode: u64, parent: u64, name: &CStr) -> Result<Entry> {
        let parent = self.directory_to_change(parent)?;
        let name = self.name_to_change(&parent, name)?;
        if inode == ROOT {
            return Err(Errno::PERM);
        }
        let node = self.nodes.resolve(inode)?.writable()?;
        if node.share.serial != parent.share.serial {
            return Err(Errno::XDEV);
        }
        self.proc.link(&node.fd, &parent.fd, name)?;
        self.entry(&parent, name)
    }

    pub(super) fn read_link(&self, inode: u64) -> Result<Vec<u8>> {
        if inode == ROOT {
            return Err(Errno::INVAL);
        }
        let node = self.nodes.resolve(inode)?;
        if sys::stat(&node.fd)?.kind() != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        Ok(rustix::fs::readlinkat(&node.fd, c"", Vec::new())?.into_bytes())
    }
}

/// Takes back what was made when the rest of making it failed; that failure is what is told.
fn undo(parent: impl AsFd, name: &CStr, flags: AtFlags) {
    let _ = rustix::fs::unlinkat(parent, name, flags);
}
