//! How much memory connections may take, and how it is shared out among them. Used by the table of connections.

use super::super::ring::{LARGEST, Ring, SMALLEST};

/// What is left, and for how many.
#[derive(Debug)]
pub struct Budget {
    /// Bytes that rings may still grow by.
    left: usize,
    /// Bytes that connections may have under way together, each way.
    shared: usize,
    connections: usize,
}

impl Budget {
    /// For rings that may grow by `memory` bytes together, and have `shared` under way.
    pub fn new(memory: usize, shared: usize) -> Self {
        Self {
            left: memory,
            shared,
            connections: 0,
        }
    }

    /// One connection more.
    pub fn add(&mut self) {
        self.connections += 1;
    }

    /// One that had these rings less.
    pub fn remove(&mut self, rings: &[&Ring]) {
        self.connections -= 1;
        self.left += rings
            .iter()
            .map(|ring| ring.limit() - SMALLEST)
            .sum::<usize>();
    }

    /// Bytes that each may have under way.
    pub fn share(&self) -> usize {
        (self.shared / self.connections.max(1)).clamp(SMALLEST, LARGEST)
    }

    /// Doubles a ring if that is within what is left and within its share.
    pub fn raise(&mut self, ring: &mut Ring) {
        let before = ring.limit();
        if before < self.share() && before <= self.left {
            ring.raise_limit();
            self.left -= ring.limit() - before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connections_had_comes_back_and_none_has_more_than_its_share() {
        let (memory, shared) = (LARGEST, 8 * SMALLEST);
        let mut budget = Budget::new(memory, shared);
        assert_eq!(budget.share(), 8 * SMALLEST);
        let mut rings = [Ring::new(), Ring::new()];
        budget.add();
        for ring in &mut rings {
            for _ in 0..20 {
                budget.raise(ring);
            }
            assert_eq!(ring.limit(), 8 * SMALLEST);
        }
        for _ in 0..3 {
            budget.add();
        }
        assert_eq!(budget.share(), 2 * SMALLEST);
        budget.raise(&mut rings[0]);
        assert_eq!(rings[0].limit(), 8 * SMALLEST);
        for _ in 0..1_000 {
            budget.add();
        }
        assert_eq!(budget.share(), SMALLEST);
        let [one, other] = &rings;
        budget.remove(&[one, other]);
        assert_eq!(budget.left, memory);
    }
}
