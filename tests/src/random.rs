//! Random choices that can be made again.

use crate::env;

/// A small generator (xorshift64*), so that a seed names a whole run.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From the running test's [`env::seed`].
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Self::from(env::seed())
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    /// One of these, of which there is one at least.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap_or(0)]
    }

    /// Puts these in another order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            let other = self.below(at as u64 + 1);
            all.swap(at, usize::try_from(other).unwrap_or(0));
        }
    }
}

impl From<u64> for Random {
    fn from(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed | 1)
    }
}

impl Default for Random {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}
