//! The inodes that the guest knows, each as (parent, name, device, inode), and the descriptors kept for them.
//!
//! ```text
//!   lookup ──► node, descriptor kept ──evicted──► node only ──used again──► walked from the nearest
//!                                                                           ancestor with a descriptor,
//!                                                                           device and inode checked
//! ```
//!
//! Called by the file system for every request. Descriptors are a bounded cache (second chance); the walk
//! back takes one component at a time, and a node whose place on the host is now another's answers ESTALE,
//! on which the guest looks it up afresh. Number of nodes and length of a walk are bounded too.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;

use super::handles::{Body, Handle};
use super::places::Places;
use super::shares::Share;
use super::sys::{self, HostStat, Result};

/// The synthetic root's number, fixed by FUSE.
pub const ROOT: u64 = 1;

/// Deepest walk back; Linux paths have at most 2048 components.
const MAX_DEPTH: usize = 4096;

/// Bounds of the table.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    /// Most inodes the guest may know at once.
    pub nodes: usize,
    /// Most descriptors kept for them.
    pub descriptors: usize,
}

/// A descriptor that names a node's inode.
#[derive(Clone, Debug)]
pub enum NodeFd {
    /// One of the cache's.
    Cached(Arc<OwnedFd>),
    /// A share's own.
    Share(Arc<Share>),
    /// That of an open handle: the only way to a file that has no name any more.
    Open(Arc<Handle>),
}

impl AsFd for NodeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Cached(fd) => fd.as_fd(),
            Self::Share(share) => share.root(),
            Self::Open(handle) => match &handle.body {
                Body::File { file, .. } => file.as_fd(),
                // `Table::resolve` makes this of regular files only.
                Body::Directory(_) | Body::Root => rustix::fs::CWD,
            },
        }
    }
}

/// A node that was found, with a descriptor for it.
#[derive(Clone, Debug)]
pub struct Located {
    /// Its number.
    pub id: u64,
    /// The share it belongs to.
    pub share: Arc<Share>,
    /// Its descriptor.
    pub fd: NodeFd,
    /// Device it lives on, to notice a mount point below it.
    pub dev: u64,
    /// Inode number there.
    pub ino: u64,
    /// Whether a setuid, setgid or sticky bit was last seen on it.
    pub special: bool,
    /// Whether nothing may change it, because of its share or of a place above it.
    pub read_only: bool,
}

impl Located {
    /// Device and inode number.
    pub fn identity(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// Refuses every change below a read-only share or place. This is the check that makes `read_only` true.
    pub fn writable(self) -> Result<Self> {
        if self.read_only || self.share.refuses_changes() {
            Err(Errno::ROFS)
        } else {
            Ok(self)
        }
    }
}

/// Share, device, inode, birth time.
type Key = (u64, u64, u64, u64);

#[derive(Debug)]
struct Node {
    share: Arc<Share>,
    /// 0 where this is the share itself.
    parent: u64,
    /// Empty where it never had a name.
    name: CString,
    key: Key,
    lookups: u64,
    fd: Option<Arc<OwnedFd>>,
    used: bool,
    special: bool,
    read_only: bool,
    handles: Vec<Weak<Handle>>,
}

#[derive(Debug, Default)]
struct Table {
    nodes: HashMap<u64, Node>,
    by_key: HashMap<Key, u64>,
    clock: VecDeque<u64>,
    cached: usize,
    last: u64,
}

/// The table of nodes.
#[derive(Debug)]
pub struct Nodes {
    table: Mutex<Table>,
    limits: NodeLimits,
}

enum Found {
    Here(Located),
    /// From the topmost: what to walk, below `from`.
    Walk {
        from: NodeFd,
        steps: Vec<(u64, CString, Key)>,
    },
}

impl Nodes {
    /// An empty table.
    pub fn new(limits: NodeLimits) -> Self {
        Self {
            table: Mutex::new(Table {
                last: ROOT,
                ..Table::default()
            }),
            limits,
        }
    }

    /// Finds a node and a descriptor for it.
    pub fn resolve(&self, id: u64) -> Result<Located> {
        let (from, steps) = match self.lock().find(id)? {
            Found::Here(located) => return Ok(located),
            Found::Walk { from, steps } => (from, steps),
        };
        let mut here = from;
        for (step, name, key) in steps {
            let fd = sys::open_child(&here, &name)
                .map_err(|e| if e == Errno::NOENT { Errno::STALE } else { e })?;
            let host = sys::stat(&fd)?;
            if (host.dev, host.ino, host.born) != (key.1, key.2, key.3) {
                return Err(Errno::STALE);
            }
            let fd = Arc::new(fd);
            self.lock().keep(step, &fd, self.limits.descriptors);
            here = NodeFd::Cached(fd);
        }
        match self.lock().find(id)? {
            Found::Here(located) => Ok(located),
            // The cache is so small that the descriptor is gone again: use the one in hand.
            Found::Walk { .. } => self.lock().located(id, here),
        }
    }

    /// Counts one lookup of the inode that `fd` names, making a node of it where there is none.
    pub fn enter(
        &self,
        share: &Arc<Share>,
        place: (u64, &CStr),
        host: &HostStat,
        fd: NodeFd,
        places: &Places,
    ) -> Result<u64> {
        let key = (share.serial, host.dev, host.ino, host.born);
        let mut table = self.lock();
        let id = match table.by_key.get(&key) {
            Some(id) => *id,
            None if table.nodes.len() >= self.limits.nodes => return Err(Errno::NFILE),
            None => table.add(share, place, key),
        };
        // Judged under the lock, so that whoever changes the places finds this node, or it finds them.
        let read_only = match place.0 {
            0 => share.refuses_changes(),
            _ => table.is_read_only(table.flag_of(place.0), place, host.identity(), places),
        };
        let node = table.nodes.get_mut(&id).ok_or(Errno::STALE)?;
        node.lookups = node.lookups.saturating_add(1);
        // By its place when it was last looked up, which the guest does for every use of a name.
        node.read_only = read_only;
        if node.parent != 0 && !place.1.is_empty() {
            node.place_at(place);
        }
        if let NodeFd::Cached(fd) = fd {
            table.keep(id, &fd, self.limits.descriptors);
        }
        Ok(id)
    }

    /// Judges every node anew: the read-only places are others now, or a share is judged otherwise. Who
    /// holds a directory open looks none of those above it up again.
    pub fn judge_again(&self, places: &Places) {
        let mut table = self.lock();
        let mut judged = HashMap::with_capacity(table.nodes.len());
        for id in table.nodes.keys() {
            table.judge(*id, places, &mut judged);
        }
        for (id, node) in &mut table.nodes {
            node.read_only = judged.get(id).copied().unwrap_or(true);
        }
    }

    /// The guest forgets `count` lookups of a node.
    pub fn forget(&self, id: u64, count: u64) {
        let mut table = self.lock();
        let Some(node) = table.nodes.get_mut(&id) else {
            return;
        };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups == 0 {
            table.drop_node(id);
        }
    }

    /// An inode got another place by a rename through us.
    pub fn moved(&self, share: &Share, host: &HostStat, parent: u64, name: &CStr) {
        let mut table = self.lock();
        let id = table
            .by_key
            .get(&(share.serial, host.dev, host.ino, host.born))
            .copied();
        if let Some(node) = id.and_then(|id| table.nodes.get_mut(&id)) {
            node.place_at((parent, name));
        }
    }

    /// Remembers an open handle, the last way to a file whose name goes.
    pub fn opened(&self, id: u64, handle: &Arc<Handle>) {
        if let Some(node) = self.lock().nodes.get_mut(&id) {
            // Only when it would grow: a guest that opens one file for ever must not make each open slower.
            if node.handles.len() == node.handles.capacity() {
                node.handles.retain(|old| old.strong_count() > 0);
            }
            node.handles.push(Arc::downgrade(handle));
        }
    }

    /// Remembers whether special mode bits were seen on a node.
    pub fn set_special(&self, id: u64, special: bool) {
        if let Some(node) = self.lock().nodes.get_mut(&id) {
            node.special = special;
        }
    }

    /// Lets go of every descriptor of a removed share.
    pub fn close_share(&self, serial: u64) {
        let mut table = self.lock();
        let mut closed = 0;
        for node in table
            .nodes
            .values_mut()
            .filter(|node| node.share.serial == serial)
        {
            closed += usize::from(node.fd.take().is_some());
        }
        table.cached -= closed;
    }

    /// Lets go of half of the descriptors: the host has none left to give.
    pub fn shed(&self) {
        let mut table = self.lock();
        let half = table.cached / 2;
        table.evict_to(half);
    }

    /// Forgets everything: a new mount begins, or the old one ended.
    pub fn clear(&self) {
        let mut table = self.lock();
        // Numbers are never given twice, so that a late request cannot hit another inode.
        *table = Table {
            last: table.last,
            ..Table::default()
        };
    }

    /// Number of nodes, and of descriptors kept.
    pub fn counts(&self) -> (usize, usize) {
        let table = self.lock();
        (table.nodes.len(), table.cached)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    fn place_at(&mut self, (parent, name): (u64, &CStr)) {
        self.parent = parent;
        if self.name.as_c_str() != name {
            self.name = name.to_owned();
        }
    }
}

impl Table {
    fn find(&mut self, id: u64) -> Result<Found> {
        if let Some(fd) = self.fd_of(id)? {
            return self.located(id, fd).map(Found::Here);
        }
        let mut steps = Vec::new();
        let mut at = id;
        loop {
            let node = self.nodes.get(&at).ok_or(Errno::STALE)?;
            if steps.len() >= MAX_DEPTH || node.name.is_empty() {
                return Err(Errno::STALE);
            }
            steps.push((at, node.name.clone(), node.key));
            at = node.parent;
            if let Some(from) = self.fd_of(at)? {
                steps.reverse();
                return Ok(Found::Walk { from, steps });
            }
        }
    }

    fn fd_of(&mut self, id: u64) -> Result<Option<NodeFd>> {
        let node = self.nodes.get_mut(&id).ok_or(Errno::STALE)?;
        if node.share.is_revoked() {
            return Err(Errno::STALE);
        }
        node.used = true;
        if node.parent == 0 {
            return Ok(Some(NodeFd::Share(Arc::clone(&node.share))));
        }
        if let Some(fd) = &node.fd {
            return Ok(Some(NodeFd::Cached(Arc::clone(fd))));
        }
        Ok(node
            .handles
            .iter()
            .filter_map(Weak::upgrade)
            .find(|h| h.file().is_ok())
            .map(NodeFd::Open))
    }

    fn located(&self, id: u64, fd: NodeFd) -> Result<Located> {
        let node = self.nodes.get(&id).ok_or(Errno::STALE)?;
        Ok(Located {
            id,
            share: Arc::clone(&node.share),
            fd,
            dev: node.key.1,
            ino: node.key.2,
            special: node.special,
            read_only: node.read_only,
        })
    }

    /// What was last judged of a node. Below one that is not known nothing may be changed.
    fn flag_of(&self, id: u64) -> bool {
        self.nodes.get(&id).is_none_or(|node| node.read_only)
    }

    /// Whether something at this place may not be changed, given the same about the directory.
    fn is_read_only(
        &self,
        above: bool,
        (parent, name): (u64, &CStr),
        identity: (u64, u64),
        places: &Places,
    ) -> bool {
        let named = |parent: &Node| places.has_name((parent.key.1, parent.key.2), name.to_bytes());
        above || places.has_inode(identity) || self.nodes.get(&parent).is_some_and(named)
    }

    /// Judges a node and all above it, as far as they are not judged yet.
    fn judge(&self, id: u64, places: &Places, judged: &mut HashMap<u64, bool>) {
        let (mut chain, mut at) = (Vec::new(), id);
        let mut read_only = loop {
            if let Some(known) = judged.get(&at) {
                break *known;
            }
            // Forgotten before what is below, or a ring of names that were never so at one time: until
            // they are looked up again, nothing is known of their places.
            let Some(node) = self.nodes.get(&at).filter(|_| chain.len() < MAX_DEPTH) else {
                break true;
            };
            chain.push((at, node));
            if node.parent == 0 {
                break node.share.refuses_changes();
            }
            at = node.parent;
        };
        for (id, node) in chain.into_iter().rev() {
            if node.parent != 0 {
                let (place, identity) = ((node.parent, &*node.name), (node.key.1, node.key.2));
                read_only = self.is_read_only(read_only, place, identity, places);
            }
            judged.insert(id, read_only);
        }
    }

    fn add(&mut self, share: &Arc<Share>, place: (u64, &CStr), key: Key) -> u64 {
        self.last += 1;
        let node = Node {
            share: Arc::clone(share),
            parent: place.0,
            name: place.1.to_owned(),
            key,
            lookups: 0,
            fd: None,
            used: true,
            special: false,
            read_only: false,
            handles: Vec::new(),
        };
        self.nodes.insert(self.last, node);
        self.by_key.insert(key, self.last);
        self.last
    }

    fn keep(&mut self, id: u64, fd: &Arc<OwnedFd>, limit: usize) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.used = true;
        if node.parent == 0 || node.share.is_revoked() || node.fd.is_some() {
            return;
        }
        node.fd = Some(Arc::clone(fd));
        self.clock.push_back(id);
        self.cached += 1;
        self.evict_to(limit);
    }

    fn evict_to(&mut self, limit: usize) {
        while self.cached > limit {
            let Some(id) = self.clock.pop_front() else {
                return;
            };
            let Some(node) = self.nodes.get_mut(&id).filter(|node| node.fd.is_some()) else {
                continue;
            };
            if std::mem::take(&mut node.used) {
                self.clock.push_back(id);
            } else {
                node.fd = None;
                self.cached -= 1;
            }
        }
        if self.clock.len() > 2 * self.cached + 1024 {
            let nodes = &self.nodes;
            self.clock
                .retain(|id| nodes.get(id).is_some_and(|node| node.fd.is_some()));
        }
    }

    fn drop_node(&mut self, id: u64) {
        if let Some(node) = self.nodes.remove(&id) {
            self.cached -= usize::from(node.fd.is_some());
            if self.by_key.get(&node.key) == Some(&id) {
                self.by_key.remove(&node.key);
            }
        }
    }
}
