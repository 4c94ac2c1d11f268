//! Directories listed: the host's by its own stable cookies, the synthetic root by the shares' numbers.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuse_backend_rs::api::filesystem::{DirEntry, Entry};
use rustix::fs::{FileType, RawDir, SeekFrom};
use rustix::io::Errno;

use super::ShareFs;
use super::attributes::inode_number;
use super::handles::{Body, Handle};
use super::nodes::{Located, ROOT};
use super::sys::{self, Result};

/// Most bytes of entries fetched at once, whatever the guest's buffer.
const MAX_BUFFER: usize = 64 * 1024;

/// What a listing gives to its caller, who answers whether it fitted.
pub(super) type Emit<'a> = &'a mut dyn FnMut(DirEntry<'_>, Option<Entry>) -> std::io::Result<usize>;

/// Where in which listing, and how much is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    /// The directory.
    pub inode: u64,
    /// Its open handle.
    pub handle: u64,
    /// Bytes of room.
    pub size: u32,
    /// The cookie to go on after.
    pub offset: u64,
    /// Whether each entry is looked up as well.
    pub plus: bool,
}

impl ShareFs {
    pub(super) fn open_directory(&self, inode: u64) -> Result<u64> {
        if inode == ROOT {
            return self.handles.insert(Arc::new(Handle {
                share: None,
                body: Body::Root,
            }));
        }
        self.handles.room()?;
        let node = self.nodes.resolve(inode)?;
        let directory = self.with_descriptor(|| sys::open_directory(&node.fd))?;
        let handle = Handle {
            share: Some(node.share),
            body: Body::Directory(Mutex::new(directory)),
        };
        self.handles.insert(Arc::new(handle))
    }

    pub(super) fn list(&self, listing: Listing, emit: Emit<'_>) -> Result<()> {
        let handle = self.handles.get(listing.handle)?;
        handle.alive()?;
        match &handle.body {
            Body::Root => self.list_shares(listing, emit),
            Body::Directory(directory) => {
                let parent = self.nodes.resolve(listing.inode)?;
                let directory = directory.lock().unwrap_or_else(PoisonError::into_inner);
                self.list_directory(&parent, &directory, listing, emit)
            }
            Body::File { .. } => Err(Errno::NOTDIR),
        }
    }

    fn list_shares(&self, listing: Listing, emit: Emit<'_>) -> Result<()> {
        if listing.inode != ROOT {
            return Err(Errno::NOTDIR);
        }
        for (offset, name) in [(1, b".".as_slice()), (2, b"..".as_slice())] {
            let entry = DirEntry {
                ino: ROOT,
                offset,
                type_: u32::from(libc::DT_DIR),
                name,
            };
            if offset > listing.offset && !fitted(emit(entry, listing.plus.then(Entry::default)))? {
                return Ok(());
            }
        }
        // A share's number is never given again, so a listing goes on rightly while shares come and go.
        for share in self
            .shares
            .all()
            .into_iter()
            .filter(|share| share.serial + 2 > listing.offset)
        {
            let name = share.id.as_str().as_bytes();
            let host = sys::stat(share.root())?;
            let entry = DirEntry {
                ino: inode_number(host.dev, host.ino),
                offset: share.serial + 2,
                type_: u32::from(if share.directory {
                    libc::DT_DIR
                } else {
                    libc::DT_REG
                }),
                name,
            };
            if !fitted(emit(entry, listing.plus.then(Entry::default)))? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn list_directory(
        &self,
        parent: &Located,
        directory: &MutexGuard<'_, std::os::fd::OwnedFd>,
        listing: Listing,
        emit: Emit<'_>,
    ) -> Result<()> {
        let offset = i64::try_from(listing.offset).map_err(|_| Errno::INVAL)?;
        rustix::fs::seek(&**directory, SeekFrom::Start(offset.unsigned_abs()))?;
        let mut space =
            vec![MaybeUninit::uninit(); (listing.size as usize).clamp(1024, MAX_BUFFER)];
        let mut entries = RawDir::new(&**directory, &mut space);
        let mut any = false;
        while let Some(found) = entries.next() {
            let found = match found {
                // An entry that was told already is not lost by an error after it.
                Err(_) if any => return Ok(()),
                other => other?,
            };
            let name = found.file_name();
            let told = DirEntry {
                ino: inode_number(parent.dev, found.ino()),
                offset: found.next_entry_cookie(),
                type_: dirent_type(found.file_type()),
                name: name.to_bytes(),
            };
            if !self.tell(parent, name, told, listing.plus, emit)? {
                return Ok(());
            }
            any = true;
        }
        Ok(())
    }

    /// Tells one entry; false where the listing is full.
    fn tell(
        &self,
        parent: &Located,
        name: &CStr,
        told: DirEntry<'_>,
        plus: bool,
        emit: Emit<'_>,
    ) -> Result<bool> {
        if self
            .rules
            .hidden
            .has_name(parent.identity(), name.to_bytes())
        {
            return Ok(true);
        }
        if !plus {
            return fitted(emit(told, None));
        }
        // Number 0 tells the guest that there is nothing to know yet: for `.`, `..` and what is just gone.
        let entry = match name.to_bytes() {
            b"." | b".." => Entry::default(),
            _ => self.entry(parent, name).unwrap_or_default(),
        };
        let type_ = if entry.inode == 0 {
            told.type_
        } else {
            (entry.attr.st_mode & libc::S_IFMT) >> 12
        };
        let done = fitted(emit(DirEntry { type_, ..told }, Some(entry)));
        if entry.inode != 0 && !matches!(done, Ok(true)) {
            self.nodes.forget(entry.inode, 1);
        }
        done
    }

    pub(super) fn sync_directory(&self, handle: u64) -> Result<()> {
        let handle = self.handles.get(handle)?;
        handle.alive()?;
        match &handle.body {
            Body::Root => Ok(()),
            Body::Directory(directory) => {
                // A copy, so that a listing of the same handle need not wait for the disk.
                let copy = {
                    let directory = directory.lock().unwrap_or_else(PoisonError::into_inner);
                    rustix::io::fcntl_dupfd_cloexec(&*directory, 0)?
                };
                self.side.sync()?;
                rustix::fs::fsync(copy)
            }
            Body::File { .. } => Err(Errno::NOTDIR),
        }
    }
}

fn fitted(result: std::io::Result<usize>) -> Result<bool> {
    result
        .map(|written| written > 0)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

fn dirent_type(kind: FileType) -> u32 {
    u32::from(match kind {
        FileType::RegularFile => libc::DT_REG,
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::Fifo => libc::DT_FIFO,
        FileType::Socket => libc::DT_SOCK,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::Unknown => libc::DT_UNKNOWN,
    })
}
