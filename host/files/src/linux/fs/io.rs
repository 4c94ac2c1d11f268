//! Open files: content read and written, allocated, copied and synced.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use fuse_backend_rs::api::filesystem::{ZeroCopyReader, ZeroCopyWriter};
use fuse_backend_rs::file_buf::FileVolatileSlice;
use fuse_backend_rs::file_traits::FileReadWriteVolatile;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, StatVfs};
use rustix::io::Errno;

use super::ShareFs;
use super::handles::{Body, Handle};
use super::nodes::ROOT;
use super::sys::{self, Result};

/// A write by one without the right to keep setuid and setgid (FUSE_WRITE_KILL_SUIDGID).
const WRITE_KILLS_PRIVILEGES: u32 = 1 << 2;

/// Most bytes copied by one request: the guest asks again for the rest, and no worker is held for long.
const MAX_COPY: usize = 8 << 20;

/// Whether the open flags ask for writing.
pub(super) fn writes(flags: u32) -> bool {
    flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32
}

/// The open flags that reach the host: how to access and how to sync. Appending is done write by write,
/// O_DIRECT would make demands on the guest's buffers, and the others are about names.
pub(super) fn access_flags(flags: u32) -> OFlags {
    let passed = libc::O_ACCMODE | libc::O_SYNC | libc::O_DSYNC;
    OFlags::from_bits_retain(flags & passed as u32)
}

impl ShareFs {
    pub(super) fn open_file(&self, inode: u64, flags: u32) -> Result<u64> {
        if inode == ROOT {
            return Err(Errno::ISDIR);
        }
        let mut node = self.nodes.resolve(inode)?;
        let truncate = flags & libc::O_TRUNC as u32 != 0;
        if writes(flags) || truncate {
            node = node.writable()?;
        }
        let mut access = access_flags(flags);
        if node.read_only {
            // Not even the time of last access changes there, as far as the host lets us.
            access = OFlags::RDONLY | OFlags::NOATIME;
        } else if truncate {
            access |= OFlags::TRUNC;
        }
        self.handles.room()?;
        let host = sys::stat(&node.fd)?;
        let file = self.with_descriptor(|| self.proc.reopen(&node.fd, &host, access))?;
        if truncate && node.special {
            self.drop_privileges(inode)?;
        }
        let body = Body::File {
            file,
            writable: writes(flags),
        };
        let handle = Arc::new(Handle {
            share: Some(node.share),
            body,
        });
        self.nodes.opened(inode, &handle);
        self.handles.insert(handle)
    }

    pub(super) fn read(
        &self,
        handle: u64,
        to: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
    ) -> io::Result<usize> {
        let handle = self.handles.get(handle)?;
        let mut file = Volatile {
            file: handle.file()?,
            append: false,
        };
        check_offset(offset)?;
        let size = to.available_bytes().min(size as usize);
        to.write_from(&mut file, size, offset)
    }

    pub(super) fn write(
        &self,
        (inode, handle): (u64, u64),
        from: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        flags: WriteFlags,
    ) -> io::Result<usize> {
        let handle = self.handles.get(handle)?;
        let mut file = Volatile {
            file: handle.file_to_change()?,
            append: flags.append,
        };
        check_offset(offset)?;
        if flags.fuse & WRITE_KILLS_PRIVILEGES != 0 && self.nodes.resolve(inode)?.special {
            self.drop_privileges(inode)?;
        }
        let mut done = 0;
        while done < size as usize {
            match from.read_to(
                &mut file,
                size as usize - done,
                offset.saturating_add(done as u64),
            ) {
                Ok(0) => break,
                Ok(count) => done += count,
                // What was written is told; the error comes again with the rest.
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    pub(super) fn sync_file(&self, handle: u64, data_only: bool) -> Result<()> {
        let handle = self.handles.get(handle)?;
        let file = handle.file()?;
        if data_only {
            rustix::fs::fdatasync(file)
        } else {
            rustix::fs::fsync(file)
        }
    }

    /// What `close` does on the host for the errors of delayed writes (network file systems tell them there).
    pub(super) fn flush(&self, handle: u64) -> Result<()> {
        let handle = self.handles.get(handle)?;
        let copy = rustix::io::fcntl_dupfd_cloexec(handle.file()?, 0)?;
        // SAFETY: the descriptor was made one line above, is owned here and is given up by `into_raw_fd`.
        let closed = unsafe { libc::close(std::os::fd::IntoRawFd::into_raw_fd(copy)) };
        if closed == 0 {
            Ok(())
        } else {
            Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
        }
    }

    pub(super) fn allocate(&self, handle: u64, mode: u32, offset: u64, length: u64) -> Result<()> {
        let handle = self.handles.get(handle)?;
        let file = handle.file_to_change()?;
        let known =
            FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        let mode = FallocateFlags::from_bits(mode)
            .filter(|m| known.contains(*m))
            .ok_or(Errno::OPNOTSUPP)?;
        rustix::fs::fallocate(file, mode, offset, length)
    }

    pub(super) fn seek(&self, handle: u64, offset: u64, whence: u32) -> Result<u64> {
        let handle = self.handles.get(handle)?;
        let offset = i64::try_from(offset).map_err(|_| Errno::OVERFLOW)?;
        let offset = u64::try_from(offset).map_err(|_| Errno::NXIO)?;
        let to = match whence as i32 {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        rustix::fs::seek(handle.file()?, to)
    }

    /// Copies between two open files on the host, sharing blocks where it can.
    pub fn copy(&self, from: (u64, u64), to: (u64, u64), length: u64) -> Result<usize> {
        let (source, target) = (self.handles.get(from.0)?, self.handles.get(to.0)?);
        let (source, target) = (source.file()?, target.file_to_change()?);
        let (mut read_at, mut write_at) = (from.1, to.1);
        let length = usize::try_from(length).unwrap_or(MAX_COPY).min(MAX_COPY);
        rustix::fs::copy_file_range(
            source,
            Some(&mut read_at),
            target,
            Some(&mut write_at),
            length,
        )
    }

    pub(super) fn close(&self, handle: u64) -> Result<()> {
        self.handles.remove(handle).map(drop)
    }

    /// Syncs the file systems of all writable shares, once each.
    pub fn sync_all(&self) -> Result<()> {
        let mut synced = Vec::new();
        for share in self
            .shares
            .all()
            .into_iter()
            .filter(|share| !share.read_only)
        {
            let device = sys::stat(share.root())?.dev;
            if synced.contains(&device) {
                continue;
            }
            // syncfs wants an open descriptor and a share's may only name its directory.
            match sys::open_directory(share.root()) {
                Ok(directory) => rustix::fs::syncfs(directory)?,
                Err(Errno::NOTDIR) => {
                    let host = sys::stat(share.root())?;
                    rustix::fs::syncfs(self.proc.reopen(share.root(), &host, OFlags::RDONLY)?)?;
                }
                Err(error) => return Err(error),
            }
            synced.push(device);
        }
        self.sync_marks()
    }

    /// Makes the marks durable that no file carries.
    pub fn sync_marks(&self) -> Result<()> {
        self.side.sync()
    }

    pub(super) fn file_system(&self, inode: u64) -> Result<StatVfs> {
        if inode != ROOT {
            return rustix::fs::fstatvfs(&self.nodes.resolve(inode)?.fd);
        }
        match self.shares.all().first() {
            Some(share) => rustix::fs::fstatvfs(share.root()),
            None => Ok(rustix::fs::fstatvfs(rustix::fs::CWD)?),
        }
    }
}

/// What a write request says beside data and place.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteFlags {
    /// To the end of the file, wherever that is on the host by now.
    pub append: bool,
    /// FUSE's own flags.
    pub fuse: u32,
}

fn check_offset(offset: u64) -> Result<()> {
    if i64::try_from(offset).is_ok() {
        Ok(())
    } else {
        Err(Errno::INVAL)
    }
}

/// Guest memory read from and written to a file, without a copy and without a `&mut File`.
struct Volatile<'a> {
    file: BorrowedFd<'a>,
    append: bool,
}

/// Most pieces one system call takes (UIO_MAXIOV).
const MAX_PIECES: usize = 1024;

fn pieces(buffers: &[FileVolatileSlice<'_>]) -> Vec<libc::iovec> {
    let piece = |b: &FileVolatileSlice<'_>| libc::iovec {
        iov_base: b.as_ptr().cast(),
        iov_len: b.len(),
    };
    buffers.iter().take(MAX_PIECES).map(piece).collect()
}

fn transferred(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn offset_of(offset: u64) -> io::Result<libc::off64_t> {
    libc::off64_t::try_from(offset).map_err(|_| Errno::INVAL.into())
}

impl FileReadWriteVolatile for Volatile<'_> {
    fn read_volatile(&mut self, _: FileVolatileSlice<'_>) -> io::Result<usize> {
        Err(Errno::SPIPE.into())
    }

    fn write_volatile(&mut self, _: FileVolatileSlice<'_>) -> io::Result<usize> {
        Err(Errno::SPIPE.into())
    }

    fn read_at_volatile(&mut self, slice: FileVolatileSlice<'_>, offset: u64) -> io::Result<usize> {
        self.read_vectored_at_volatile(&[slice], offset)
    }

    fn write_at_volatile(
        &mut self,
        slice: FileVolatileSlice<'_>,
        offset: u64,
    ) -> io::Result<usize> {
        self.write_vectored_at_volatile(&[slice], offset)
    }

    fn read_vectored_at_volatile(
        &mut self,
        buffers: &[FileVolatileSlice<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        let pieces = pieces(buffers);
        let offset = offset_of(offset)?;
        // SAFETY: each piece lies within a slice of guest memory that the caller holds for the length of this
        // call; the kernel writes to it as another CPU of the guest might, which volatile memory allows.
        let read = unsafe {
            libc::preadv64(
                self.file.as_raw_fd(),
                pieces.as_ptr(),
                pieces.len() as libc::c_int,
                offset,
            )
        };
        transferred(read)
    }

    fn write_vectored_at_volatile(
        &mut self,
        buffers: &[FileVolatileSlice<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        let pieces = pieces(buffers);
        let flags = if self.append { libc::RWF_APPEND } else { 0 };
        let offset = offset_of(offset)?;
        // SAFETY: as above, and the kernel only reads the pieces here.
        let written = unsafe {
            libc::pwritev2(
                self.file.as_raw_fd(),
                pieces.as_ptr(),
                pieces.len() as libc::c_int,
                offset,
                flags,
            )
        };
        transferred(written)
    }
}
