//! The decoder's trait, each method a line or two: what is asked is done elsewhere, errors become errnos here.
//!
//! This is the allow-list of operations: what has no method here answers ENOSYS (ENOTTY for ioctl) by the
//! trait's own default, on every share.

use std::ffi::CStr;
use std::io;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, stat64, statvfs64};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, FsOptions, GetxattrReply, ListxattrReply, OpenOptions,
    SetattrValid, ZeroCopyReader, ZeroCopyWriter,
};
use rustix::fs::StatVfs;
use rustix::io::Errno;

use super::directories::Listing;
use super::io::WriteFlags;
use super::nodes::ROOT;
use super::{BELIEVED, Caller, ShareFs};

impl From<&Context> for Caller {
    fn from(context: &Context) -> Self {
        Self {
            uid: context.uid,
            gid: context.gid,
        }
    }
}

impl FileSystem for ShareFs {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, _: FsOptions) -> io::Result<FsOptions> {
        // Answered in `requests`, which knows flags that this crate's type has no names for.
        Err(Errno::NOSYS.into())
    }

    fn destroy(&self) {
        self.forget_all();
    }

    fn lookup(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        Ok(self.look_up(parent, name)?)
    }

    fn forget(&self, _: &Context, inode: u64, count: u64) {
        self.nodes.forget(inode, count);
    }

    fn getattr(
        &self,
        _: &Context,
        inode: u64,
        handle: Option<u64>,
    ) -> io::Result<(stat64, Duration)> {
        Ok((self.attributes(inode, handle)?, BELIEVED))
    }

    fn setattr(
        &self,
        _: &Context,
        inode: u64,
        attr: stat64,
        handle: Option<u64>,
        valid: SetattrValid,
    ) -> io::Result<(stat64, Duration)> {
        Ok((self.set_attributes(inode, &attr, handle, valid)?, BELIEVED))
    }

    fn readlink(&self, _: &Context, inode: u64) -> io::Result<Vec<u8>> {
        Ok(self.read_link(inode)?)
    }

    fn symlink(&self, who: &Context, target: &CStr, parent: u64, name: &CStr) -> io::Result<Entry> {
        Ok(self.make_link(who.into(), target, parent, name)?)
    }

    fn mknod(
        &self,
        who: &Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        _: u32,
        _: u32,
    ) -> io::Result<Entry> {
        Ok(self.make_node(who.into(), parent, name, mode)?)
    }

    fn mkdir(
        &self,
        who: &Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        _: u32,
    ) -> io::Result<Entry> {
        Ok(self.make_directory(who.into(), parent, name, mode)?)
    }

    fn unlink(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        Ok(self.remove(parent, name, false)?)
    }

    fn rmdir(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        Ok(self.remove(parent, name, true)?)
    }

    fn rename(
        &self,
        _: &Context,
        from: u64,
        old: &CStr,
        to: u64,
        new: &CStr,
        flags: u32,
    ) -> io::Result<()> {
        Ok(ShareFs::rename(self, (from, old), (to, new), flags)?)
    }

    fn link(&self, _: &Context, inode: u64, parent: u64, name: &CStr) -> io::Result<Entry> {
        Ok(ShareFs::link(self, inode, parent, name)?)
    }

    fn open(
        &self,
        _: &Context,
        inode: u64,
        flags: u32,
        _: u32,
    ) -> io::Result<(Option<u64>, OpenOptions, Option<u32>)> {
        // Without KEEP_CACHE the guest drops its pages at each open, so that it sees what the host wrote.
        Ok((
            Some(self.open_file(inode, flags)?),
            OpenOptions::empty(),
            None,
        ))
    }

    fn create(
        &self,
        who: &Context,
        parent: u64,
        name: &CStr,
        args: CreateIn,
    ) -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)> {
        let (entry, handle) =
            ShareFs::create(self, who.into(), parent, name, (args.flags, args.mode))?;
        Ok((entry, Some(handle), OpenOptions::empty(), None))
    }

    fn read(
        &self,
        _: &Context,
        _: u64,
        handle: u64,
        to: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: u32,
    ) -> io::Result<usize> {
        ShareFs::read(self, handle, to, size, offset)
    }

    fn write(
        &self,
        _: &Context,
        inode: u64,
        handle: u64,
        from: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        _: Option<u64>,
        delayed: bool,
        flags: u32,
        fuse_flags: u32,
    ) -> io::Result<usize> {
        // A page written back from a mapping has its place, whatever handle the guest chose for it.
        let append = flags & libc::O_APPEND as u32 != 0 && !delayed;
        ShareFs::write(
            self,
            (inode, handle),
            from,
            size,
            offset,
            WriteFlags {
                append,
                fuse: fuse_flags,
            },
        )
    }

    fn flush(&self, _: &Context, _: u64, handle: u64, _: u64) -> io::Result<()> {
        Ok(ShareFs::flush(self, handle)?)
    }

    fn fsync(&self, _: &Context, _: u64, data_only: bool, handle: u64) -> io::Result<()> {
        Ok(self.sync_file(handle, data_only)?)
    }

    fn fallocate(
        &self,
        _: &Context,
        _: u64,
        handle: u64,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> io::Result<()> {
        Ok(self.allocate(handle, mode, offset, length)?)
    }

    fn release(
        &self,
        _: &Context,
        _: u64,
        _: u32,
        handle: u64,
        _: bool,
        _: bool,
        _: Option<u64>,
    ) -> io::Result<()> {
        Ok(self.close(handle)?)
    }

    fn statfs(&self, _: &Context, inode: u64) -> io::Result<statvfs64> {
        Ok(to_statvfs64(&self.file_system(inode)?))
    }

    fn setxattr(
        &self,
        _: &Context,
        inode: u64,
        name: &CStr,
        value: &[u8],
        flags: u32,
    ) -> io::Result<()> {
        Ok(self.set_xattr(inode, name, value, flags)?)
    }

    fn getxattr(
        &self,
        _: &Context,
        inode: u64,
        name: &CStr,
        size: u32,
    ) -> io::Result<GetxattrReply> {
        Ok(self.xattr(inode, name, size)?)
    }

    fn listxattr(&self, _: &Context, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        Ok(self.xattr_names(inode, size)?)
    }

    fn removexattr(&self, _: &Context, inode: u64, name: &CStr) -> io::Result<()> {
        Ok(self.remove_xattr(inode, name)?)
    }

    fn opendir(&self, _: &Context, inode: u64, _: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        Ok((Some(self.open_directory(inode)?), OpenOptions::empty()))
    }

    fn readdir(
        &self,
        _: &Context,
        inode: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry<'_>) -> io::Result<usize>,
    ) -> io::Result<()> {
        let listing = Listing {
            inode,
            handle,
            size,
            offset,
            plus: false,
        };
        Ok(self.list(listing, &mut |entry, _| add(entry))?)
    }

    fn readdirplus(
        &self,
        _: &Context,
        inode: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry<'_>, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        let listing = Listing {
            inode,
            handle,
            size,
            offset,
            plus: true,
        };
        Ok(self.list(listing, &mut |entry, known| {
            add(entry, known.unwrap_or_default())
        })?)
    }

    fn fsyncdir(&self, _: &Context, _: u64, _: bool, handle: u64) -> io::Result<()> {
        Ok(self.sync_directory(handle)?)
    }

    fn releasedir(&self, _: &Context, _: u64, _: u32, handle: u64) -> io::Result<()> {
        Ok(self.close(handle)?)
    }

    fn access(&self, _: &Context, inode: u64, mask: u32) -> io::Result<()> {
        // The guest's kernel checks modes; only what it cannot know is told here.
        if mask & libc::W_OK as u32 == 0 {
            return Ok(());
        }
        if inode == ROOT {
            return Err(Errno::ROFS.into());
        }
        self.nodes.resolve(inode)?.writable()?;
        Ok(())
    }

    fn lseek(&self, _: &Context, _: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64> {
        Ok(self.seek(handle, offset, whence)?)
    }
}

fn to_statvfs64(host: &StatVfs) -> statvfs64 {
    // SAFETY: statvfs64 is a C struct of integers, for which all zeroes is a value.
    let mut st: statvfs64 = unsafe { std::mem::zeroed() };
    st.f_bsize = host.f_bsize;
    st.f_frsize = host.f_frsize;
    st.f_blocks = host.f_blocks;
    st.f_bfree = host.f_bfree;
    st.f_bavail = host.f_bavail;
    st.f_files = host.f_files;
    st.f_ffree = host.f_ffree;
    st.f_favail = host.f_favail;
    st.f_namemax = host.f_namemax;
    st
}
