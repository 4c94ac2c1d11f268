//! How much memory connections may take, and how it is shared out among them. Used by the table of connections.
//!
//! A container that has many connections takes no more of it than it leaves: the others find some.

use std::collections::HashMap;
use std::net::IpAddr;

use super::super::ring::{LARGEST, Ring, SMALLEST};

/// What is left, and for how many.
#[derive(Debug)]
pub struct Budget {
    /// Bytes that rings may still grow by.
    left: usize,
    /// Bytes that connections may have under way together, each way.
    shared: usize,
    connections: usize,
    sources: HashMap<IpAddr, Held>,
    /// A ring could not grow to its share for want of memory.
    is_short: bool,
}

/// What connections of one address have.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    connections: usize,
    /// Bytes that their rings have grown by.
    grown: usize,
    /// What each ring may have at most since memory was short.
    most: Option<usize>,
}

impl Held {
    /// Has all rings of both ways come to the same, where memory was short and `left` bytes are.
    fn share_out(&mut self, left: usize) {
        let rings = 2 * self.connections.max(1);
        self.most = self.most.map(|_| (left + self.grown) / 2 / rings);
    }
}

impl Budget {
    /// For rings that may grow by `memory` bytes together, and have `shared` under way.
    pub fn new(memory: usize, shared: usize) -> Self {
        Self {
            left: memory,
            shared,
            connections: 0,
            sources: HashMap::new(),
            is_short: false,
        }
    }

    /// One connection of `source` more.
    pub fn add(&mut self, source: IpAddr) {
        self.connections += 1;
        let held = self.sources.entry(source).or_default();
        held.connections += 1;
        held.share_out(self.left);
    }

    /// One of `source` that had these rings less.
    pub fn remove(&mut self, source: IpAddr, rings: &[&Ring]) {
        let grown = rings
            .iter()
            .map(|ring| ring.limit() - SMALLEST)
            .sum::<usize>();
        self.connections -= 1;
        self.left += grown;
        if let Some(held) = self.sources.get_mut(&source) {
            held.connections -= 1;
            held.grown -= grown;
            held.share_out(self.left);
            if held.connections == 0 {
                self.sources.remove(&source);
            }
        }
    }

    /// Bytes that each of `source` may have under way: the largest ring within the same part for all, or within that of its
    /// container where it has few.
    pub fn share(&self, source: IpAddr) -> usize {
        let own = self.sources.get(&source).map_or(0, |held| held.connections);
        let of_all = self.shared / self.connections.max(1);
        let of_its_own = self.shared / self.sources.len().max(1) / own.max(1);
        doubling(of_all.max(of_its_own))
    }

    /// The largest ring that connections of `source` may have: their share, or less where memory was short, and then the same
    /// for all rings of both ways.
    pub fn largest(&self, source: IpAddr) -> usize {
        let most = self.sources.get(&source).and_then(|held| held.most);
        most.map_or(LARGEST, doubling).min(self.share(source))
    }

    /// Whether a ring of `source` could not grow for want of memory.
    pub fn is_short_of(&self, source: IpAddr) -> bool {
        let held = self.sources.get(&source);
        held.is_some_and(|held| held.most.is_some())
    }

    /// Doubles a ring of `source` if it may be as large then, and what is left before is as much as `source` has after.
    pub fn raise(&mut self, source: IpAddr, ring: &mut Ring) {
        let before = ring.limit();
        if let Some(held) = self.sources.get_mut(&source) {
            // Others may have left some since.
            held.share_out(self.left);
        }
        let largest = self.largest(source);
        let Some(held) = self.sources.get_mut(&source) else {
            return;
        };
        if 2 * before > largest {
            return;
        }
        if held.grown + before > self.left {
            self.is_short = true;
            held.most = Some(LARGEST);
            held.share_out(self.left);
            return;
        }
        ring.raise_limit();
        held.grown += ring.limit() - before;
        self.left -= ring.limit() - before;
    }

    /// Has a ring of `source` hold no more than the first doubling that is `most`, or as much as is in it.
    pub fn lower(&mut self, source: IpAddr, ring: &mut Ring, most: usize) {
        let before = ring.limit();
        ring.lower_limit(most);
        let gained = before - ring.limit();
        self.left += gained;
        if let Some(held) = self.sources.get_mut(&source) {
            held.grown -= gained;
        }
    }

    /// Whether a ring could not grow for want of memory since this was asked last.
    pub fn was_short(&mut self) -> bool {
        std::mem::take(&mut self.is_short)
    }
}

/// The largest ring within so many bytes.
fn doubling(within: usize) -> usize {
    1 << within.clamp(SMALLEST, LARGEST).ilog2()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn what_connections_had_comes_back_and_none_has_more_than_its_share() {
        let (memory, shared) = (LARGEST, 8 * SMALLEST);
        let mut budget = Budget::new(memory, shared);
        assert_eq!(budget.share(ONE), 8 * SMALLEST);
        let mut rings = [Ring::new(), Ring::new()];
        budget.add(ONE);
        for ring in &mut rings {
            for _ in 0..20 {
                budget.raise(ONE, ring);
            }
            assert_eq!(ring.limit(), 8 * SMALLEST);
        }
        for _ in 0..3 {
            budget.add(ONE);
        }
        assert_eq!(budget.share(ONE), 2 * SMALLEST);
        budget.raise(ONE, &mut rings[0]);
        assert_eq!(rings[0].limit(), 8 * SMALLEST);
        let left = budget.left;
        budget.lower(ONE, &mut rings[0], 2 * SMALLEST);
        assert_eq!(rings[0].limit(), 2 * SMALLEST);
        assert_eq!(budget.left, left + 6 * SMALLEST);
        for _ in 0..1_000 {
            budget.add(ONE);
        }
        assert_eq!(budget.share(ONE), SMALLEST);
        let [one, other] = &rings;
        budget.remove(ONE, &[one, other]);
        assert_eq!(budget.left, memory);
        for _ in 0..1_003 {
            budget.remove(ONE, &[]);
        }
        assert!(budget.sources.is_empty());
    }

    /// What the first have above their share, the last lack for ever.
    #[test]
    fn rings_of_many_connections_grow_to_the_same() {
        let mut budget = Budget::new(32 * SMALLEST, 4 * 7 * SMALLEST);
        let mut rings: Vec<_> = (0..4).map(|_| Ring::new()).collect();
        rings.iter().for_each(|_| budget.add(ONE));
        assert_eq!(budget.share(ONE), 4 * SMALLEST);
        for ring in &mut rings {
            for _ in 0..4 {
                budget.raise(ONE, ring);
            }
        }
        let limits: Vec<_> = rings.iter().map(Ring::limit).collect();
        assert_eq!(limits, [4 * SMALLEST; 4]);
    }

    /// The first would else have all, for as long as they use it.
    #[test]
    fn where_memory_is_short_rings_of_both_ways_come_to_the_same() {
        let mut budget = Budget::new(80 * SMALLEST, 64 * SMALLEST);
        let mut rings: Vec<_> = (0..8).map(|_| Ring::new()).collect();
        (0..4).for_each(|_| budget.add(ONE));
        let grow = |budget: &mut Budget, rings: &mut [Ring]| {
            for ring in rings {
                for _ in 0..4 {
                    budget.raise(ONE, ring);
                }
            }
        };
        grow(&mut budget, &mut rings);
        assert!(budget.was_short());
        assert!(rings[0].limit() > rings[7].limit());
        let largest = budget.largest(ONE);
        for ring in &mut rings {
            budget.lower(ONE, ring, largest);
        }
        grow(&mut budget, &mut rings);
        assert!(!budget.was_short());
        for ring in &rings {
            assert_eq!(ring.limit(), 4 * SMALLEST);
        }
        budget.add(ONE);
        assert!(budget.largest(ONE) <= 4 * SMALLEST, "for one more");
        for _ in 0..4 {
            budget.remove(ONE, &[]);
        }
        assert_eq!(budget.largest(ONE), 16 * SMALLEST);
    }

    #[test]
    fn one_with_many_connections_leaves_memory_and_a_share_for_others() {
        let mut budget = Budget::new(64 * SMALLEST, 64 * SMALLEST);
        let mut rings: Vec<_> = (0..100).map(|_| Ring::new()).collect();
        for ring in &mut rings {
            budget.add(ONE);
            for _ in 0..4 {
                budget.raise(ONE, ring);
            }
        }
        let mut ring = Ring::new();
        budget.add(OTHER);
        assert_eq!(budget.share(OTHER), 32 * SMALLEST);
        assert_eq!(budget.share(ONE), SMALLEST);
        for _ in 0..4 {
            budget.raise(OTHER, &mut ring);
        }
        assert_eq!(ring.limit(), 16 * SMALLEST);
    }
}
