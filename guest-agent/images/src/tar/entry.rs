//! What one entry of an archive says.

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    Regular,
    /// Another name of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A run of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it is in the file.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

/// One entry. Names are bytes: a file system knows no encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Offset of the entry's first block in the archive, for messages.
    pub header_offset: u64,
    /// Its kind.
    pub kind: Kind,
    /// Its name, as written.
    pub path: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    /// Permission bits with set-id and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change, in seconds …
    pub mtime: i64,
    /// … and nanoseconds.
    pub mtime_nsec: u32,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// `(name, value)`, with the full name (`user.x`, `security.capability`).
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Size of the file as programs see it.
    pub size: u64,
    /// Where the content begins in the archive: always a multiple of 512.
    pub data_offset: u64,
    /// How many bytes of content are in the archive.
    pub stored: u64,
    /// The data segments of a sparse file, ascending; together `stored` bytes long.
    pub sparse: Option<Vec<Segment>>,
}
