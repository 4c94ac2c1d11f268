//! A guest made of bytes: it writes requests into virtio descriptors and reads what comes back.

use std::ffi::CStr;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use fuse_backend_rs::transport::{Reader, VirtioFsWriter};
use rustix::io::Errno;
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::control::ShareId;
use crate::sys::fs::nodes::NodeLimits;
use crate::sys::fs::places::Rules;
use crate::sys::fs::shares::Shares;
use crate::sys::fs::sidecar::Sidecar;
use crate::sys::fs::{Limits, ShareFs};
use crate::sys::requests::Service;

const REQUEST: u64 = 0x1_0000;
const REPLY: u64 = 0x10_0000;
const REPLY_LENGTH: u32 = 0x2_0000;

pub const LOOKUP: u32 = 1;
pub const FORGET: u32 = 2;
pub const GETATTR: u32 = 3;
pub const SETATTR: u32 = 4;
pub const READLINK: u32 = 5;
pub const SYMLINK: u32 = 6;
pub const MKNOD: u32 = 8;
pub const MKDIR: u32 = 9;
pub const UNLINK: u32 = 10;
pub const RMDIR: u32 = 11;
pub const RENAME: u32 = 12;
pub const LINK: u32 = 13;
pub const OPEN: u32 = 14;
pub const READ: u32 = 15;
pub const WRITE: u32 = 16;
pub const STATFS: u32 = 17;
pub const RELEASE: u32 = 18;
pub const FSYNC: u32 = 20;
pub const SETXATTR: u32 = 21;
pub const GETXATTR: u32 = 22;
pub const LISTXATTR: u32 = 23;
pub const REMOVEXATTR: u32 = 24;
pub const FLUSH: u32 = 25;
pub const OPENDIR: u32 = 27;
pub const READDIR: u32 = 28;
pub const FSYNCDIR: u32 = 30;
pub const ACCESS: u32 = 34;
pub const CREATE: u32 = 35;
pub const IOCTL: u32 = 39;
pub const BATCH_FORGET: u32 = 42;
pub const FALLOCATE: u32 = 43;
pub const READDIRPLUS: u32 = 44;
pub const RENAME2: u32 = 45;
pub const LSEEK: u32 = 46;
pub const COPY_FILE_RANGE: u32 = 47;
pub const TMPFILE: u32 = 51;

/// Builds request bodies.
#[derive(Clone, Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub fn zeroes(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    pub fn name(mut self, name: &CStr) -> Self {
        self.0.extend(name.to_bytes_with_nul());
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

pub fn body() -> Body {
    Body::default()
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(word)
}

/// The attributes in a reply, of those the tests look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub ino: u64,
    pub size: u64,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
}

fn attr_at(bytes: &[u8], at: usize) -> Attr {
    Attr {
        ino: u64_at(bytes, at),
        size: u64_at(bytes, at + 8),
        mode: u32_at(bytes, at + 60),
        nlink: u32_at(bytes, at + 64),
        uid: u32_at(bytes, at + 68),
        gid: u32_at(bytes, at + 72),
        rdev: u32_at(bytes, at + 76),
    }
}

pub struct Guest {
    pub shares: Arc<Shares>,
    pub rules: Arc<Rules>,
    pub fs: Arc<ShareFs>,
    service: Service,
    memory: GuestMemoryMmap,
    pub who: (u32, u32),
    _side: tempfile::TempDir,
}

impl Guest {
    pub fn new() -> Self {
        Self::with_limits(Limits {
            handles: 64,
            nodes: NodeLimits {
                nodes: 10_000,
                descriptors: 64,
            },
        })
    }

    pub fn with_limits(limits: Limits) -> Self {
        let side = tempfile::tempdir().expect("temporary directory");
        let rules = Arc::new(Rules::default());
        let shares = Arc::new(Shares::new(Arc::clone(&rules)));
        let sidecar =
            Sidecar::open(File::open(side.path()).expect("open").into()).expect("empty directory");
        let fs = Arc::new(
            ShareFs::new(Arc::clone(&shares), Arc::clone(&rules), sidecar, limits)
                .expect("proc is mounted"),
        );
        // The rest of the process's tests run with the same umask; modes are then what the guest asked for.
        rustix::process::umask(rustix::fs::Mode::empty());
        Self {
            shares,
            rules,
            service: Service::new(Arc::clone(&fs)),
            fs,
            memory: GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x20_0000)]).expect("2 MiB"),
            who: (0, 0),
            _side: side,
        }
    }

    pub fn share(&self, id: &str, path: &Path, read_only: bool) -> u64 {
        let target = File::open(path).expect("shared path");
        self.shares
            .add(
                ShareId::new(id).expect("id"),
                target.into(),
                read_only,
                path.display().to_string(),
            )
            .expect("new share");
        let name = std::ffi::CString::new(id).expect("no NUL");
        self.lookup(1, &name).expect("share").0
    }

    /// Sends one request; the bytes after the reply's header, `None` where there is no reply at all.
    pub fn raw(&self, opcode: u32, node: u64, body: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
        let length = 40 + body.len() as u32;
        let header = super::guest::body()
            .u32(length)
            .u32(opcode)
            .u64(7)
            .u64(node)
            .u32(self.who.0)
            .u32(self.who.1)
            .u32(1)
            .u32(0);
        let reply = self.send(&header.bytes(body).0);
        if reply.is_empty() {
            return None;
        }
        assert_eq!(
            u32_at(&reply, 0) as usize,
            reply.len(),
            "opcode {opcode}: length in the header"
        );
        assert_eq!(u64_at(&reply, 8), 7, "opcode {opcode}: unique");
        match u32_at(&reply, 4).cast_signed() {
            0 => Some(Ok(reply[16..].to_vec())),
            error => Some(Err(Errno::from_raw_os_error(-error))),
        }
    }

    /// Sends raw bytes as one request, in a descriptor of their own each for header and rest.
    pub fn send(&self, request: &[u8]) -> Vec<u8> {
        self.memory
            .write_slice(request, GuestAddress(REQUEST))
            .expect("within memory");
        let queue = MockSplitQueue::new(&self.memory, 16);
        let (first, second) = (request.len().min(40), request.len().saturating_sub(40));
        let mut descriptors = vec![RawDescriptor::from(Descriptor::new(
            REQUEST,
            first as u32,
            0,
            0,
        ))];
        if second > 0 {
            descriptors.push(RawDescriptor::from(Descriptor::new(
                REQUEST + 40,
                second as u32,
                0,
                0,
            )));
        }
        descriptors.push(RawDescriptor::from(Descriptor::new(
            REPLY,
            REPLY_LENGTH,
            2,
            0,
        )));
        let chain = queue.build_desc_chain(&descriptors).expect("short chain");
        let reader =
            Reader::from_descriptor_chain(&self.memory, chain.clone()).expect("within memory");
        let writer = VirtioFsWriter::new(&self.memory, chain).expect("within memory");
        let length = self.service.handle(reader, writer.into());
        let mut reply = vec![0; length];
        self.memory
            .read_slice(&mut reply, GuestAddress(REPLY))
            .expect("within memory");
        reply
    }

    pub fn ask(&self, opcode: u32, node: u64, Body(body): Body) -> Result<Vec<u8>, Errno> {
        self.raw(opcode, node, &body).expect("a reply")
    }

    fn entry(&self, opcode: u32, node: u64, body: Body) -> Result<(u64, Attr), Errno> {
        let reply = self.ask(opcode, node, body)?;
        Ok((u64_at(&reply, 0), attr_at(&reply, 40)))
    }

    pub fn lookup(&self, parent: u64, name: &CStr) -> Result<(u64, Attr), Errno> {
        self.entry(LOOKUP, parent, body().name(name))
    }

    /// Looks a path up, component by component.
    pub fn walk(&self, from: u64, path: &str) -> Result<(u64, Attr), Errno> {
        let mut found = (from, self.getattr(from)?);
        for name in path.split('/') {
            found = self.lookup(found.0, &std::ffi::CString::new(name).expect("no NUL"))?;
        }
        Ok(found)
    }

    pub fn forget(&self, node: u64, count: u64) {
        assert!(
            self.raw(FORGET, node, &body().u64(count).0).is_none(),
            "FORGET has no reply"
        );
    }

    pub fn getattr(&self, node: u64) -> Result<Attr, Errno> {
        Ok(attr_at(&self.ask(GETATTR, node, body().zeroes(16))?, 16))
    }

    pub fn setattr(&self, node: u64, change: Change) -> Result<Attr, Errno> {
        let reply = self.ask(SETATTR, node, change.body())?;
        Ok(attr_at(&reply, 16))
    }

    pub fn mkdir(&self, parent: u64, name: &CStr, mode: u32) -> Result<(u64, Attr), Errno> {
        self.entry(MKDIR, parent, body().u32(mode).u32(0).name(name))
    }

    pub fn mknod(
        &self,
        parent: u64,
        name: &CStr,
        mode: u32,
        rdev: u32,
    ) -> Result<(u64, Attr), Errno> {
        self.entry(
            MKNOD,
            parent,
            body().u32(mode).u32(rdev).u32(0).u32(0).name(name),
        )
    }

    pub fn symlink(&self, parent: u64, name: &CStr, target: &CStr) -> Result<(u64, Attr), Errno> {
        self.entry(SYMLINK, parent, body().name(name).name(target))
    }

    pub fn link(&self, node: u64, parent: u64, name: &CStr) -> Result<(u64, Attr), Errno> {
        self.entry(LINK, parent, body().u64(node).name(name))
    }

    pub fn readlink(&self, node: u64) -> Result<Vec<u8>, Errno> {
        self.ask(READLINK, node, body())
    }

    pub fn unlink(&self, parent: u64, name: &CStr) -> Result<(), Errno> {
        self.ask(UNLINK, parent, body().name(name)).map(drop)
    }

    pub fn rmdir(&self, parent: u64, name: &CStr) -> Result<(), Errno> {
        self.ask(RMDIR, parent, body().name(name)).map(drop)
    }

    pub fn rename(&self, from: (u64, &CStr), to: (u64, &CStr), flags: u32) -> Result<(), Errno> {
        let request = body().u64(to.0).u32(flags).u32(0).name(from.1).name(to.1);
        self.ask(RENAME2, from.0, request).map(drop)
    }

    pub fn create(
        &self,
        parent: u64,
        name: &CStr,
        flags: i32,
        mode: u32,
    ) -> Result<(u64, u64, Attr), Errno> {
        let request = body()
            .u32(flags.cast_unsigned())
            .u32(mode)
            .u32(0)
            .u32(0)
            .name(name);
        let reply = self.ask(CREATE, parent, request)?;
        Ok((u64_at(&reply, 0), u64_at(&reply, 128), attr_at(&reply, 40)))
    }

    pub fn open(&self, node: u64, flags: i32) -> Result<u64, Errno> {
        Ok(u64_at(
            &self.ask(OPEN, node, body().u32(flags.cast_unsigned()).u32(0))?,
            0,
        ))
    }

    pub fn release(&self, node: u64, handle: u64) -> Result<(), Errno> {
        self.ask(RELEASE, node, body().u64(handle).zeroes(16))
            .map(drop)
    }

    pub fn read(&self, node: u64, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        self.ask(
            READ,
            node,
            body().u64(handle).u64(offset).u32(size).zeroes(20),
        )
    }

    pub fn write(
        &self,
        node: u64,
        handle: u64,
        offset: u64,
        data: &[u8],
        flags: (i32, u32),
    ) -> Result<u32, Errno> {
        let request = body()
            .u64(handle)
            .u64(offset)
            .u32(data.len() as u32)
            .u32(flags.1)
            .u64(0)
            .u32(flags.0.cast_unsigned())
            .u32(0)
            .bytes(data);
        Ok(u32_at(&self.ask(WRITE, node, request)?, 0))
    }

    pub fn getxattr(&self, node: u64, name: &CStr) -> Result<Vec<u8>, Errno> {
        self.ask(GETXATTR, node, body().u32(4096).u32(0).name(name))
    }

    pub fn setxattr(&self, node: u64, name: &CStr, value: &[u8]) -> Result<(), Errno> {
        let request = body()
            .u32(value.len() as u32)
            .u32(0)
            .name(name)
            .bytes(value);
        self.ask(SETXATTR, node, request).map(drop)
    }

    pub fn listxattr(&self, node: u64) -> Result<Vec<u8>, Errno> {
        self.ask(LISTXATTR, node, body().u32(4096).u32(0))
    }

    pub fn opendir(&self, node: u64) -> Result<u64, Errno> {
        Ok(u64_at(&self.ask(OPENDIR, node, body().zeroes(8))?, 0))
    }

    /// One READDIR; (name, inode, cookie) of each entry.
    pub fn readdir(
        &self,
        node: u64,
        handle: u64,
        offset: u64,
        size: u32,
    ) -> Result<Vec<(Vec<u8>, u64, u64)>, Errno> {
        let reply = self.ask(
            READDIR,
            node,
            body().u64(handle).u64(offset).u32(size).zeroes(20),
        )?;
        let (mut entries, mut at) = (Vec::new(), 0);
        while at < reply.len() {
            let length = u32_at(&reply, at + 16) as usize;
            let name = reply[at + 24..at + 24 + length].to_vec();
            entries.push((name, u64_at(&reply, at), u64_at(&reply, at + 8)));
            at += (24 + length).next_multiple_of(8);
        }
        Ok(entries)
    }
}

/// What a SETATTR changes.
#[derive(Clone, Copy, Default)]
pub struct Change {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub mtime: Option<u64>,
    pub kill_privileges: bool,
}

impl Change {
    fn body(self) -> Body {
        let valid = u32::from(self.mode.is_some())
            | u32::from(self.uid.is_some()) << 1
            | u32::from(self.gid.is_some()) << 2
            | u32::from(self.size.is_some()) << 3
            | u32::from(self.mtime.is_some()) << 5
            | u32::from(self.kill_privileges) << 11;
        body()
            .u32(valid)
            .u32(0)
            .u64(0)
            .u64(self.size.unwrap_or(0))
            .u64(0)
            .u64(0)
            .u64(self.mtime.unwrap_or(0))
            .u64(0)
            .zeroes(12)
            .u32(self.mode.unwrap_or(0))
            .u32(0)
            .u32(self.uid.unwrap_or(0))
            .u32(self.gid.unwrap_or(0))
            .u32(0)
    }
}
