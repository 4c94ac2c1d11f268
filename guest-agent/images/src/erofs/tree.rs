//! The file tree of one layer, built entry by entry.
//!
//! Entries name inodes: replacing a name leaves the inode to its other hard links, as on a real
//! file system. Memory is about 130 bytes an entry plus its names, and bounded.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::BLOCK;
use super::error::{TreeError, shown};
use super::path::{self, Cleaned};
use super::sparse::Materialised;
use super::xattr;
use crate::tar::{Entry, Kind};

/// What a tree may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeLimits {
    /// Names and inodes, those of implied directories included.
    pub(crate) nodes: u32,
    /// Bytes of names, link targets and attributes.
    pub(crate) bytes: u32,
    /// Chunks of sparse files: a file of a few blocks can claim a million.
    pub(crate) chunks: usize,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self {
            nodes: 2_000_000,
            bytes: 256 << 20,
            chunks: 8 << 20,
        }
    }
}

pub(super) const S_IFIFO: u16 = 0o010_000;
pub(super) const S_IFCHR: u16 = 0o020_000;
pub(super) const S_IFDIR: u16 = 0o040_000;
pub(super) const S_IFBLK: u16 = 0o060_000;
pub(super) const S_IFREG: u16 = 0o100_000;
pub(super) const S_IFLNK: u16 = 0o120_000;
pub(super) const S_IFMT: u16 = 0o170_000;

pub(super) type InodeId = u32;
pub(super) const ROOT: InodeId = 0;
const NONE: u32 = u32::MAX;

/// A stretch of the tree's byte arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) length: u32,
}

impl Span {
    const EMPTY: Self = Self {
        start: 0,
        length: 0,
    };
}

/// What an inode holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    Nothing,
    Device {
        encoded: u32,
    },
    Symlink(Span),
    /// Whole and in one piece from this block of the tar on.
    Tar {
        block: u32,
    },
    /// An entry of [`Tree::sparse`].
    Sparse {
        map: u32,
    },
    Directory {
        parent: InodeId,
        first: u32,
        opaque: bool,
    },
    /// A name taken away from the layers below.
    Whiteout,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Inode {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) mtime_nsec: u32,
    pub(super) size: u64,
    pub(super) data: Data,
    pub(super) xattrs: Span,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Dentry {
    parent: InodeId,
    pub(super) name: Span,
    pub(super) inode: InodeId,
    next: u32,
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) inodes: Vec<Inode>,
    dentries: Vec<Dentry>,
    lookup: HashTable<u32>,
    hasher: RandomState,
    bytes: Vec<u8>,
    pub(super) sparse: Vec<super::sparse::ChunkMap>,
    /// Chunks of all of them.
    chunks: usize,
    limits: TreeLimits,
}

impl Tree {
    pub(crate) fn new(limits: TreeLimits) -> Self {
        let root = Inode {
            mode: S_IFDIR | 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nsec: 0,
            size: 0,
            data: Data::Directory {
                parent: ROOT,
                first: NONE,
                opaque: false,
            },
            xattrs: Span::EMPTY,
        };
        Self {
            inodes: vec![root],
            dentries: Vec::new(),
            lookup: HashTable::new(),
            hasher: RandomState::new(),
            bytes: Vec::new(),
            sparse: Vec::new(),
            chunks: 0,
            limits,
        }
    }

    /// Adds one entry. `materialised` is given for a sparse file whose pieces had to be copied,
    /// because they do not lie on whole blocks.
    pub(crate) fn insert(
        &mut self,
        entry: &Entry,
        materialised: Option<Materialised>,
    ) -> Result<(), TreeError> {
        let cleaned = path::clean(&entry.path)?;
        let Cleaned::Below(components) = cleaned else {
            return self.root_entry(entry);
        };
        let (name, parents) = components.split_last().ok_or(TreeError::Root)?;
        // AUFS kept its own files under such names; they mean nothing to anyone else.
        if parents.iter().any(|parent| parent.starts_with(b".wh..wh.")) {
            return Ok(());
        }
        let parent = self.make_parents(parents, entry)?;
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(parent, hidden, entry);
        }
        if entry.kind == Kind::HardLink {
            return self.hard_link(parent, name, entry);
        }
        if entry.kind == Kind::Directory {
            return self.directory(parent, name, entry);
        }
        let inode = self.inode(entry, materialised)?;
        let id = self.push_inode(inode)?;
        self.set(parent, name, id)
    }

    pub(super) fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..][..span.length as usize]
    }

    /// The names in a directory, sorted as EROFS wants them: by bytes.
    pub(super) fn children(&self, first: u32, into: &mut Vec<Dentry>) {
        into.clear();
        let mut at = first;
        while at != NONE {
            let dentry = self.dentries[at as usize];
            into.push(dentry);
            at = dentry.next;
        }
        into.sort_unstable_by(|a, b| self.slice(a.name).cmp(self.slice(b.name)));
    }

    pub(super) fn find(&self, parent: InodeId, name: &[u8]) -> Option<InodeId> {
        self.find_dentry(parent, name)
            .map(|at| self.dentries[at as usize].inode)
    }

    /// A directory that an entry needs but the archive does not list.
    pub(super) fn implied_directory(
        &mut self,
        parent: InodeId,
        name: &[u8],
        entry: &Entry,
    ) -> Result<InodeId, TreeError> {
        let opaque = self.is_whiteout(parent, name);
        let (mtime, mtime_nsec) = bounded(entry);
        let id = self.push_inode(Inode {
            mode: S_IFDIR | 0o755,
            uid: 0,
            gid: 0,
            mtime,
            mtime_nsec,
            size: 0,
            data: Data::Directory {
                parent,
                first: NONE,
                opaque,
            },
            xattrs: Span::EMPTY,
        })?;
        self.set(parent, name, id)?;
        Ok(id)
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), TreeError> {
        if entry.kind != Kind::Directory {
            return Err(TreeError::Root);
        }
        self.set_directory(ROOT, entry)
    }

    fn directory(&mut self, parent: InodeId, name: &[u8], entry: &Entry) -> Result<(), TreeError> {
        let existing = self.find(parent, name);
        let id = match existing {
            Some(id) if matches!(self.inodes[id as usize].data, Data::Directory { .. }) => id,
            _ => self.implied_directory(parent, name, entry)?,
        };
        self.set_directory(id, entry)
    }

    /// A directory listed again takes the newer attributes and keeps its children.
    fn set_directory(&mut self, id: InodeId, entry: &Entry) -> Result<(), TreeError> {
        let xattrs = self.push_xattrs(entry)?;
        let inode = &mut self.inodes[id as usize];
        inode.mode = S_IFDIR | entry.mode;
        inode.uid = entry.uid;
        inode.gid = entry.gid;
        (inode.mtime, inode.mtime_nsec) = bounded(entry);
        inode.xattrs = xattrs;
        Ok(())
    }

    fn whiteout(&mut self, parent: InodeId, hidden: &[u8], entry: &Entry) -> Result<(), TreeError> {
        if hidden == b".wh..opq" {
            self.set_opaque(parent);
            return Ok(());
        }
        // AUFS's again.
        if hidden.starts_with(b".wh.") {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(TreeError::Whiteout(shown(&entry.path)));
        }
        // A whiteout is about the layers below: what this layer itself has of that name stays.
        if let Some(existing) = self.find(parent, hidden) {
            self.set_opaque(existing);
            return Ok(());
        }
        let (mtime, mtime_nsec) = bounded(entry);
        let id = self.push_inode(Inode {
            mode: S_IFCHR,
            uid: entry.uid,
            gid: entry.gid,
            mtime,
            mtime_nsec,
            size: 0,
            data: Data::Whiteout,
            xattrs: Span::EMPTY,
        })?;
        self.set(parent, hidden, id)
    }

    fn set_opaque(&mut self, id: InodeId) {
        if let Data::Directory { opaque, .. } = &mut self.inodes[id as usize].data {
            *opaque = true;
        }
    }

    fn is_whiteout(&self, parent: InodeId, name: &[u8]) -> bool {
        self.find(parent, name)
            .is_some_and(|id| self.inodes[id as usize].data == Data::Whiteout)
    }

    fn hard_link(&mut self, parent: InodeId, name: &[u8], entry: &Entry) -> Result<(), TreeError> {
        let refused = || TreeError::LinkTarget(shown(&entry.link));
        let Cleaned::Below(components) = path::clean(&entry.link)? else {
            return Err(refused());
        };
        let target = self.lookup_path(&components).ok_or_else(refused)?;
        match self.inodes[target as usize].data {
            Data::Directory { .. } | Data::Whiteout => Err(refused()),
            _ => self.set(parent, name, target),
        }
    }

    fn inode(
        &mut self,
        entry: &Entry,
        materialised: Option<Materialised>,
    ) -> Result<Inode, TreeError> {
        let (kind, size, data) = match entry.kind {
            Kind::Regular => (S_IFREG, entry.size, self.content(entry, materialised)?),
            Kind::Symlink if entry.link.is_empty() => {
                return Err(TreeError::EmptyLink(shown(&entry.path)));
            }
            Kind::Symlink => {
                let span = self.push_bytes(&entry.link)?;
                (S_IFLNK, u64::from(span.length), Data::Symlink(span))
            }
            Kind::CharDevice => (
                S_IFCHR,
                0,
                Data::Device {
                    encoded: device(entry)?,
                },
            ),
            Kind::BlockDevice => (
                S_IFBLK,
                0,
                Data::Device {
                    encoded: device(entry)?,
                },
            ),
            Kind::Fifo => (S_IFIFO, 0, Data::Nothing),
            Kind::HardLink | Kind::Directory => return Err(TreeError::Root),
        };
        let (mtime, mtime_nsec) = bounded(entry);
        Ok(Inode {
            mode: kind | entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime,
            mtime_nsec,
            size,
            data,
            xattrs: self.push_xattrs(entry)?,
        })
    }

    fn content(
        &mut self,
        entry: &Entry,
        materialised: Option<Materialised>,
    ) -> Result<Data, TreeError> {
        let block = u32::try_from(entry.data_offset / BLOCK)
            .map_err(|_| TreeError::Limit("bytes in a layer"))?;
        let map = match (&entry.sparse, materialised) {
            (_, Some(materialised)) => materialised.into_map(),
            (Some(segments), None) => super::sparse::map_in_place(segments, entry.size, block)
                .ok_or(TreeError::Limit("pieces in a sparse file"))?,
            (None, None) if entry.size == 0 => return Ok(Data::Nothing),
            (None, None) => return Ok(Data::Tar { block }),
        };
        if entry.size == 0 {
            return Ok(Data::Nothing);
        }
        self.chunks += map.chunks.len();
        if self.chunks > self.limits.chunks {
            return Err(TreeError::Limit("pieces in sparse files"));
        }
        self.sparse.push(map);
        let map =
            u32::try_from(self.sparse.len() - 1).map_err(|_| TreeError::Limit("sparse files"))?;
        Ok(Data::Sparse { map })
    }

    /// Makes `name` in `parent` mean `inode`, whatever it meant before.
    fn set(&mut self, parent: InodeId, name: &[u8], inode: InodeId) -> Result<(), TreeError> {
        if let Some(at) = self.find_dentry(parent, name) {
            self.dentries[at as usize].inode = inode;
            return Ok(());
        }
        let at = self.next_id(self.dentries.len())?;
        let name = self.push_bytes(name)?;
        let Data::Directory { first, .. } = &mut self.inodes[parent as usize].data else {
            return Err(TreeError::NotDirectory(String::new()));
        };
        let next = std::mem::replace(first, at);
        self.dentries.push(Dentry {
            parent,
            name,
            inode,
            next,
        });
        let Self {
            lookup,
            dentries,
            bytes,
            hasher,
            ..
        } = self;
        let hash_of = |at: &u32| {
            let dentry = &dentries[*at as usize];
            let name = &bytes[dentry.name.start as usize..][..dentry.name.length as usize];
            hasher.hash_one((dentry.parent, name))
        };
        lookup.insert_unique(hash_of(&at), at, hash_of);
        Ok(())
    }

    fn find_dentry(&self, parent: InodeId, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one((parent, name));
        let same = |at: &u32| {
            let dentry = &self.dentries[*at as usize];
            dentry.parent == parent && self.slice(dentry.name) == name
        };
        self.lookup.find(hash, same).copied()
    }

    fn push_inode(&mut self, inode: Inode) -> Result<InodeId, TreeError> {
        let id = self.next_id(self.inodes.len())?;
        self.inodes.push(inode);
        Ok(id)
    }

    fn next_id(&self, count: usize) -> Result<u32, TreeError> {
        match u32::try_from(count) {
            Ok(id) if id < self.limits.nodes => Ok(id),
            _ => Err(TreeError::Limit("files in a layer")),
        }
    }

    fn push_xattrs(&mut self, entry: &Entry) -> Result<Span, TreeError> {
        if entry.xattrs.is_empty() {
            return Ok(Span::EMPTY);
        }
        let body =
            xattr::encode(&entry.xattrs).ok_or_else(|| TreeError::Xattr(shown(&entry.path)))?;
        self.push_bytes(&body)
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> Result<Span, TreeError> {
        let full = || TreeError::Limit("bytes of names and attributes");
        let start = u32::try_from(self.bytes.len()).map_err(|_| full())?;
        let length = u32::try_from(bytes.len()).map_err(|_| full())?;
        if start
            .checked_add(length)
            .is_none_or(|end| end > self.limits.bytes)
        {
            return Err(full());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(Span { start, length })
    }
}

/// dockerd's bounds of a time: what lies outside of them is the beginning of 1970.
fn bounded(entry: &Entry) -> (i64, u32) {
    // The last second that 63 bits of nanoseconds reach.
    if (0..=9_223_372_036).contains(&entry.mtime) {
        (entry.mtime, entry.mtime_nsec)
    } else {
        (0, 0)
    }
}

/// The kernel's 32-bit form: 12 bits of major, 20 of minor.
fn device(entry: &Entry) -> Result<u32, TreeError> {
    let (major, minor) = entry.device;
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(TreeError::Device(shown(&entry.path)));
    }
    Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}
