//! From an entry's name to its place in the tree, never leaving the tree.
//!
//! Names are cleaned by their text alone, as dockerd does; what would lead above the root is
//! refused. Symbolic links on the way are those of this same layer and are followed within it,
//! with the layer as the root.

use super::error::{TreeError, shown};
use super::tree::{Data, InodeId, ROOT, Tree};
use crate::tar::Entry;

const MAX_NAME: usize = 255;
/// As the kernel's.
const MAX_LINKS: u32 = 40;

/// A name without `.`, `..` and empty components.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cleaned<'a> {
    Root,
    Below(Vec<&'a [u8]>),
}

/// Cleans a name; a leading slash counts for nothing.
pub(super) fn clean(path: &[u8]) -> Result<Cleaned<'_>, TreeError> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components
                    .pop()
                    .ok_or_else(|| TreeError::Breakout(shown(path)))?;
            }
            long if long.len() > MAX_NAME => return Err(TreeError::NameTooLong(shown(long))),
            name => components.push(name),
        }
    }
    Ok(if components.is_empty() {
        Cleaned::Root
    } else {
        Cleaned::Below(components)
    })
}

impl Tree {
    /// The directory these components lead to; what is missing is made.
    pub(super) fn make_parents(
        &mut self,
        components: &[&[u8]],
        entry: &Entry,
    ) -> Result<InodeId, TreeError> {
        let mut at = ROOT;
        let mut links = 0;
        for component in components {
            at = self.step(at, component, entry, &mut links)?;
        }
        Ok(at)
    }

    /// One component further, following links and making directories.
    fn step(
        &mut self,
        from: InodeId,
        component: &[u8],
        entry: &Entry,
        links: &mut u32,
    ) -> Result<InodeId, TreeError> {
        // Nearly always a plain directory: no allocation on that way.
        let Some(found) = self.find(from, component) else {
            return self.implied_directory(from, component, entry);
        };
        match self.inodes[found as usize].data {
            Data::Directory { .. } => Ok(found),
            Data::Whiteout => self.implied_directory(from, component, entry),
            Data::Symlink(_) => self.follow(from, found, entry, links),
            _ => Err(TreeError::NotDirectory(shown(&entry.path))),
        }
    }

    fn follow(
        &mut self,
        from: InodeId,
        link: InodeId,
        entry: &Entry,
        links: &mut u32,
    ) -> Result<InodeId, TreeError> {
        *links += 1;
        if *links > MAX_LINKS {
            return Err(TreeError::Loop(shown(&entry.path)));
        }
        let Data::Symlink(span) = self.inodes[link as usize].data else {
            return Ok(link);
        };
        let target = self.slice(span).to_vec();
        let mut at = if target.starts_with(b"/") { ROOT } else { from };
        for component in target.split(|b| *b == b'/') {
            at = match component {
                b"" | b"." => at,
                b".." => self.parent(at),
                long if long.len() > MAX_NAME => return Err(TreeError::NameTooLong(shown(long))),
                name => self.step(at, name, entry, links)?,
            };
        }
        Ok(at)
    }

    /// The inode at a path that must exist; the last component is not followed if it is a link.
    pub(super) fn lookup_path(&self, components: &[&[u8]]) -> Option<InodeId> {
        let (name, parents) = components.split_last()?;
        let mut links = 0;
        let mut at = ROOT;
        for component in parents {
            at = self.lookup_step(at, component, &mut links)?;
        }
        self.find(at, name)
    }

    fn lookup_step(&self, from: InodeId, component: &[u8], links: &mut u32) -> Option<InodeId> {
        let found = self.find(from, component)?;
        match self.inodes[found as usize].data {
            Data::Directory { .. } => Some(found),
            Data::Symlink(span) if *links < MAX_LINKS => {
                *links += 1;
                let target = self.slice(span);
                let start = if target.starts_with(b"/") { ROOT } else { from };
                target
                    .split(|b| *b == b'/')
                    .try_fold(start, |at, component| match component {
                        b"" | b"." => Some(at),
                        b".." => Some(self.parent(at)),
                        name => self.lookup_step(at, name, links),
                    })
            }
            _ => None,
        }
    }

    /// The root is its own parent.
    fn parent(&self, directory: InodeId) -> InodeId {
        match self.inodes[directory as usize].data {
            Data::Directory { parent, .. } => parent,
            _ => ROOT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_never_lead_out() {
        let below = |path: &'static [u8]| match clean(path) {
            Ok(Cleaned::Below(components)) => components.join(&b'/'),
            other => panic!("{other:?}"),
        };
        assert_eq!(below(b"a/b"), b"a/b");
        assert_eq!(below(b"/a//b/"), b"a/b");
        assert_eq!(below(b"./a/./b/../c"), b"a/c");
        assert_eq!(clean(b"./"), Ok(Cleaned::Root));
        assert_eq!(clean(b"a/.."), Ok(Cleaned::Root));
        for bad in [
            &b".."[..],
            b"../a",
            b"a/../../b",
            b"/..",
            b"./../etc/passwd",
        ] {
            assert!(matches!(clean(bad), Err(TreeError::Breakout(_))));
        }
        assert!(matches!(
            clean(&[b'x'; 256]),
            Err(TreeError::NameTooLong(_))
        ));
    }
}
