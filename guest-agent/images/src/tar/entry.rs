//! What one entry of an archive says.

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// A run of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where it is in the file.
    pub(crate) offset: u64,
    /// Its length.
    pub(crate) length: u64,
}

/// One entry. Names are bytes: a file system knows no encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Offset of the entry's first block in the archive, for messages.
    pub(crate) header_offset: u64,
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub(crate) link: Vec<u8>,
    /// Permission bits with set-id and sticky.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) mtime_nsec: u32,
    pub(crate) device: (u32, u32),
    /// `(name, value)`, with the full name (`user.x`, `security.capability`).
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Size of the file as programs see it.
    pub(crate) size: u64,
    /// Where the content begins in the archive: always a multiple of 512.
    pub(crate) data_offset: u64,
    /// How many bytes of content are in the archive.
    pub(crate) stored: u64,
    /// The data segments of a sparse file, ascending; together `stored` bytes long.
    pub(crate) sparse: Option<Vec<Segment>>,
}
