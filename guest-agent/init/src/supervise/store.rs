//! The descriptor store: names and what they stand for, as long as the machine lives.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lighter_init::wire::{MAX_NAME, NAMES_PER_PACKET, Reply};
use rustix::io::Errno;

/// Below the limit on open files, so that init itself can always open one more.
const MAX_HELD: usize = 1_000_000;

/// Descriptors by name.
#[derive(Debug)]
pub struct Store {
    held: BTreeMap<String, OwnedFd>,
}

impl Store {
    /// A store that holds these.
    pub fn new(held: Vec<(String, OwnedFd)>) -> Self {
        Self {
            held: held.into_iter().collect(),
        }
    }

    /// How many are held.
    pub fn count(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    /// One packet's worth of names after this one, and whether these are the last.
    pub fn after(&self, name: &str) -> (Vec<String>, Vec<BorrowedFd<'_>>, bool) {
        let mut rest = self
            .held
            .range::<str, _>((Bound::Excluded(name), Bound::Unbounded));
        let (names, descriptors) = rest
            .by_ref()
            .take(NAMES_PER_PACKET)
            .map(|(name, descriptor)| (name.clone(), descriptor.as_fd()))
            .unzip();
        (names, descriptors, rest.next().is_none())
    }

    /// Holds a descriptor that came with a request.
    pub fn put(&mut self, name: String, descriptors: Vec<OwnedFd>) -> Reply {
        let Ok([descriptor]) = <[OwnedFd; 1]>::try_from(descriptors) else {
            return refused(Errno::BADF);
        };
        if name.is_empty() || name.len() > MAX_NAME {
            return refused(Errno::INVAL);
        }
        if self.held.len() >= MAX_HELD && !self.held.contains_key(&name) {
            return refused(Errno::MFILE);
        }
        self.held.insert(name, descriptor);
        Reply::Done(1)
    }

    /// Lets go of one.
    pub fn remove(&mut self, name: &str) -> Reply {
        Reply::Done(u32::from(self.held.remove(name).is_some()))
    }

    /// Lets go of all that begin so. The empty prefix would be everything: refused.
    pub fn remove_prefix(&mut self, prefix: &str) -> Reply {
        if prefix.is_empty() {
            return refused(Errno::INVAL);
        }
        let before = self.held.len();
        self.held.retain(|name, _| !name.starts_with(prefix));
        Reply::Done(u32::try_from(before - self.held.len()).unwrap_or(u32::MAX))
    }
}

fn refused(errno: Errno) -> Reply {
    Reply::Refused(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn store(names: &[&str]) -> Store {
        Store::new(
            names
                .iter()
                .map(|&name| (name.to_owned(), descriptor()))
                .collect(),
        )
    }

    #[test]
    fn prefix_takes_its_own_and_no_more() {
        let mut store = store(&["c/1/stdin", "c/1/stdout", "c/10/stdin", "listen/api"]);
        assert_eq!(store.remove_prefix("c/1/"), Reply::Done(2));
        assert_eq!(store.after("").0, ["c/10/stdin", "listen/api"]);
        assert_eq!(store.remove_prefix(""), refused(Errno::INVAL));
        assert_eq!(store.count(), 2);
    }

    #[test]
    fn listing_goes_packet_by_packet() {
        let names: Vec<String> = (0..NAMES_PER_PACKET + 1)
            .map(|n| format!("{n:03}"))
            .collect();
        let store = store(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let (first, descriptors, last) = store.after("");
        assert_eq!(
            (first.len(), descriptors.len(), last),
            (NAMES_PER_PACKET, NAMES_PER_PACKET, false)
        );
        let (second, _, last) = store.after(first.last().unwrap());
        assert_eq!((second, last), (vec![names.last().unwrap().clone()], true));
    }

    #[test]
    fn put_wants_one_descriptor_and_a_name() {
        let mut store = store(&[]);
        assert_eq!(store.put("n".into(), vec![]), refused(Errno::BADF));
        assert_eq!(
            store.put("n".into(), vec![descriptor(), descriptor()]),
            refused(Errno::BADF)
        );
        assert_eq!(
            store.put(String::new(), vec![descriptor()]),
            refused(Errno::INVAL)
        );
        assert_eq!(store.put("n".into(), vec![descriptor()]), Reply::Done(1));
        assert_eq!(store.put("n".into(), vec![descriptor()]), Reply::Done(1));
        assert_eq!(store.count(), 1);
    }
}
