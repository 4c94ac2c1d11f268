//! Where everything of a tree stands in the index: inodes first, then blocks of directories and
//! long links.
//!
//! Directory by directory, so that inodes listed together stand together. Only what can be
//! reached from the root is placed: names that were replaced are gone here.

use super::BLOCK;
use super::error::TreeError;
use super::format::{DIRENT, FIRST_INODE, INODE_SIZE, SLOT};
use super::tree::{Data, Inode, InodeId, ROOT, Span, Tree};
use super::xattr;

/// One name of a directory, as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: InodeId,
}

/// How an inode's own bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing of its own, or chunks only.
    None,
    /// Behind the inode.
    Inline,
    /// In blocks, counted from where the blocks begin.
    Blocks(u32),
}

/// The place of one inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) inode: InodeId,
    /// Its children, as a range of [`Layout::children`].
    first_child: u32,
    child_count: u32,
    pub(super) body: Body,
    /// Size of a directory's content.
    pub(super) directory_size: u64,
}

/// The layout.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) order: Vec<Placed>,
    children: Vec<(Span, InodeId)>,
    /// By inode: its number in the file system (0: not reachable) and its links.
    pub(super) numbers: Vec<u32>,
    pub(super) links: Vec<u32>,
    /// End of the inodes, in bytes.
    pub(super) inodes_end: u64,
    /// Blocks of directories and links.
    pub(super) blocks: u32,
}

impl Layout {
    pub(super) fn of(tree: &Tree) -> Result<Self, TreeError> {
        let count = tree.inodes.len();
        let mut layout = Self {
            order: Vec::with_capacity(count),
            children: Vec::new(),
            numbers: vec![0; count],
            links: vec![0; count],
            inodes_end: FIRST_INODE,
            blocks: 0,
        };
        layout.reach(ROOT);
        let mut scratch = Vec::new();
        let mut at = 0;
        while at < layout.order.len() {
            let id = layout.order[at].inode;
            if let Data::Directory { parent, first, .. } = tree.inodes[id as usize].data {
                tree.children(first, &mut scratch);
                layout.order[at].first_child = layout.children.len() as u32;
                layout.order[at].child_count = scratch.len() as u32;
                // Its own `.`; its subdirectories add theirs.
                layout.links[id as usize] += 1;
                layout.links[parent as usize] += u32::from(id == ROOT);
                for dentry in &scratch {
                    layout.children.push((dentry.name, dentry.inode));
                    let child = &tree.inodes[dentry.inode as usize];
                    if matches!(child.data, Data::Directory { .. }) {
                        layout.links[id as usize] += 1;
                    }
                    if layout.links[dentry.inode as usize] == 0 {
                        layout.reach(dentry.inode);
                    }
                    layout.links[dentry.inode as usize] += 1;
                }
            }
            layout.place(tree, at)?;
            at += 1;
        }
        Ok(layout)
    }

    fn reach(&mut self, inode: InodeId) {
        self.order.push(Placed {
            inode,
            first_child: 0,
            child_count: 0,
            body: Body::None,
            directory_size: 0,
        });
    }

    fn place(&mut self, tree: &Tree, at: usize) -> Result<(), TreeError> {
        let placed = self.order[at];
        let inode = &tree.inodes[placed.inode as usize];
        let head = INODE_SIZE + xattr_size(inode) as u64;
        let (own, directory_size) = match inode.data {
            Data::Directory { parent, .. } => {
                let size = directory_size(&self.names(tree, &placed, parent));
                (size, size)
            }
            Data::Symlink(target) => (u64::from(target.length), 0),
            _ => (0, 0),
        };
        let start = self.inodes_end;
        let (start, body, end) = match inode.data {
            Data::Tar { .. } => (start, Body::None, start + head.next_multiple_of(8) + 8),
            Data::Sparse { map } => {
                let chunks = tree.sparse[map as usize].chunks.len() as u64;
                (
                    start,
                    Body::None,
                    start + head.next_multiple_of(8) + 8 * chunks,
                )
            }
            _ if own == 0 => (start, Body::None, start + head),
            _ => match inline_start(start, head, own) {
                Some(start) => (start, Body::Inline, start + head + own),
                None => (start, Body::Blocks(self.take_blocks(own)?), start + head),
            },
        };
        let number = u32::try_from(start / SLOT).map_err(|_| TreeError::Limit("inodes"))?;
        self.numbers[placed.inode as usize] = number;
        self.inodes_end = end.next_multiple_of(SLOT);
        self.order[at].body = body;
        self.order[at].directory_size = directory_size;
        Ok(())
    }

    fn take_blocks(&mut self, bytes: u64) -> Result<u32, TreeError> {
        let first = self.blocks;
        self.blocks = u32::try_from(bytes.div_ceil(BLOCK))
            .ok()
            .and_then(|blocks| first.checked_add(blocks))
            .ok_or(TreeError::Limit("directory blocks"))?;
        Ok(first)
    }

    /// A directory's names with `.` and `..`, sorted.
    pub(super) fn names<'a>(
        &self,
        tree: &'a Tree,
        placed: &Placed,
        parent: InodeId,
    ) -> Vec<Name<'a>> {
        let range = placed.first_child as usize..(placed.first_child + placed.child_count) as usize;
        let listed = &self.children[range];
        let mut names = Vec::with_capacity(listed.len() + 2);
        let mut dots = [
            Name {
                name: &b"."[..],
                inode: placed.inode,
            },
            Name {
                name: b"..",
                inode: parent,
            },
        ]
        .into_iter()
        .peekable();
        for (span, inode) in listed {
            let name = tree.slice(*span);
            while let Some(dot) = dots.next_if(|dot| dot.name < name) {
                names.push(dot);
            }
            names.push(Name {
                name,
                inode: *inode,
            });
        }
        names.extend(dots);
        names
    }
}

/// Splits a directory's names into blocks: each takes as many as fit.
pub(super) fn blocks<'n, 'a>(names: &'n [Name<'a>]) -> impl Iterator<Item = &'n [Name<'a>]> {
    let mut rest = names;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut used = 0;
        let fitting = rest.iter().take_while(|name| {
            used += DIRENT + name.name.len();
            used <= BLOCK as usize
        });
        let (block, later) = rest.split_at(fitting.count());
        rest = later;
        Some(block)
    })
}

/// Bytes one block's names take.
pub(super) fn block_size(names: &[Name<'_>]) -> u64 {
    names
        .iter()
        .map(|name| (DIRENT + name.name.len()) as u64)
        .sum()
}

fn directory_size(names: &[Name<'_>]) -> u64 {
    blocks(names).fold(0, |size: u64, block| {
        size.next_multiple_of(BLOCK) + block_size(block)
    })
}

pub(super) fn xattr_size(inode: &Inode) -> usize {
    let size = inode.xattrs.length as usize;
    match inode.data {
        Data::Directory { opaque: true, .. } => xattr::opaque_size(size),
        _ => size,
    }
}

/// Where an inode must start so that its inline bytes lie within one block, at or behind `start`.
fn inline_start(start: u64, head: u64, own: u64) -> Option<u64> {
    let fits = |start: u64| (start + head) % BLOCK + own <= BLOCK;
    (0..BLOCK / SLOT)
        .map(|slots| start + slots * SLOT)
        .find(|start| fits(*start))
}
