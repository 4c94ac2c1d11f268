//! Bytes on their way from one side to the other, kept until the other side has them.

use std::io::{IoSlice, IoSliceMut};

/// What a ring holds at first, in bytes.
pub const SMALLEST: usize = 16 << 10;
/// What it may grow to, in bytes.
pub const LARGEST: usize = 4 << 20;

/// A buffer that grows by doubling, up to a limit that its owner raises.
#[derive(Debug)]
pub struct Ring {
    bytes: Box<[u8]>,
    start: usize,
    length: usize,
    limit: usize,
}

impl Ring {
    /// An empty one, which takes no memory yet.
    pub fn new() -> Self {
        Self {
            bytes: Box::default(),
            start: 0,
            length: 0,
            limit: SMALLEST,
        }
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many more it would take.
    pub fn room(&self) -> usize {
        self.limit - self.length
    }

    /// The same where it is to hold no more than `most`.
    pub fn room_within(&self, most: usize) -> usize {
        self.limit.min(most).saturating_sub(self.length)
    }

    /// How many it may hold at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Doubles what it may hold, up to [`LARGEST`].
    pub fn raise_limit(&mut self) {
        self.limit = (self.limit * 2).min(LARGEST);
    }

    /// Has it hold no more than the first doubling of [`SMALLEST`] that is `most`, or as much as is in it; never more than
    /// before. Memory beyond that is given back.
    pub fn lower_limit(&mut self, most: usize) {
        let most = most.max(self.length).max(SMALLEST).next_power_of_two();
        self.limit = self.limit.min(most);
        if self.length == 0 {
            self.shrink();
        } else if self.bytes.len() > self.limit {
            self.move_to(self.limit);
        }
    }

    /// `count` bytes from `offset` on; both must be in it.
    pub fn slices(&self, offset: usize, count: usize) -> [&[u8]; 2] {
        let size = self.bytes.len().max(1);
        let from = (self.start + offset) % size;
        let first = count.min(self.bytes.len() - from.min(self.bytes.len()));
        [
            &self.bytes[from..from + first],
            &self.bytes[..count - first],
        ]
    }

    /// All of it, for a vectored write.
    pub fn to_write(&self) -> [IoSlice<'_>; 2] {
        self.slices(0, self.length).map(IoSlice::new)
    }

    /// Forgets the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.length);
        self.length -= count;
        self.start = match self.length {
            // A ring that is empty begins at its start, where one piece is the longest.
            0 => 0,
            _ => (self.start + count) % self.bytes.len(),
        };
    }

    /// Gives the memory back if nothing is in it.
    pub fn shrink(&mut self) {
        if self.length == 0 && self.bytes.len() > SMALLEST {
            self.bytes = Box::default();
            self.start = 0;
        }
    }

    /// Takes as much of `bytes` as it may hold; how much.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.reserve(count);
        let (first, second) = self.free();
        let split = count.min(first.len());
        first[..split].copy_from_slice(&bytes[..split]);
        second[..count - split].copy_from_slice(&bytes[split..count]);
        self.length += count;
        count
    }

    /// Lets `read` fill what is free, so that the ring holds no more than `most`, and counts what it says it filled.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub fn fill_within<E>(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let most = self.room_within(most);
        self.reserve(most.min(self.length.max(SMALLEST)));
        let (first, second) = self.free();
        let one = most.min(first.len());
        let two = (most - one).min(second.len());
        let count = read(&mut [
            IoSliceMut::new(&mut first[..one]),
            IoSliceMut::new(&mut second[..two]),
        ])?;
        self.length += count.min(one + two);
        Ok(count)
    }

    /// What is free, in order.
    fn free(&mut self) -> (&mut [u8], &mut [u8]) {
        let size = self.bytes.len();
        let end = self.start + self.length;
        if end >= size {
            let from = end - size;
            return (&mut self.bytes[from..self.start], &mut []);
        }
        let (before, after) = self.bytes.split_at_mut(end);
        (after, &mut before[..self.start])
    }

    /// Makes room for `count` more bytes.
    fn reserve(&mut self, count: usize) {
        let wanted = self.length + count;
        if wanted <= self.bytes.len() {
            return;
        }
        self.move_to(wanted.next_power_of_two().max(SMALLEST));
    }

    /// Moves what is in it to memory of `size` bytes, which must be enough.
    fn move_to(&mut self, size: usize) {
        let mut moved = vec![0; size].into_boxed_slice();
        let [first, second] = self.slices(0, self.length);
        moved[..first.len()].copy_from_slice(first);
        moved[first.len()..first.len() + second.len()].copy_from_slice(second);
        self.bytes = moved;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ring: &Ring) -> Vec<u8> {
        ring.slices(0, ring.len()).concat()
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut ring = Ring::new();
        let mut model: Vec<u8> = Vec::new();
        let mut next = 0_u8;
        // Sizes that do not divide the ring's, so that every place is a seam once.
        for round in 0..2_000_usize {
            let bytes: Vec<u8> = (0..round * 37 % 7_001)
                .map(|_| {
                    next = next.wrapping_add(1);
                    next
                })
                .collect();
            let taken = if round % 2 == 0 {
                ring.push(&bytes)
            } else {
                let filled = ring.fill_within::<()>(LARGEST, |free| {
                    let mut done = 0;
                    for part in free {
                        let count = part.len().min(bytes.len() - done);
                        part[..count].copy_from_slice(&bytes[done..done + count]);
                        done += count;
                    }
                    Ok(done)
                });
                filled.unwrap_or_default()
            };
            model.extend_from_slice(&bytes[..taken]);
            assert_eq!(all(&ring), model);
            let gone = (round * 53 % 6_007).min(model.len());
            ring.consume(gone);
            model.drain(..gone);
            let middle = model.len() / 3;
            assert_eq!(
                ring.slices(middle, middle).concat(),
                model[middle..2 * middle]
            );
        }
    }

    #[test]
    fn a_lower_limit_keeps_what_is_there_and_gives_memory_back() {
        let mut ring = Ring::new();
        for _ in 0..3 {
            ring.raise_limit();
        }
        let bytes: Vec<u8> = (0..8 * SMALLEST).map(|at| (at % 251) as u8).collect();
        assert_eq!(ring.push(&bytes), bytes.len());
        // What is left goes around the end.
        ring.consume(7 * SMALLEST);
        assert_eq!(ring.push(&bytes[..SMALLEST]), SMALLEST);
        let left = all(&ring);
        ring.lower_limit(0);
        assert_eq!(
            (ring.limit(), ring.bytes.len()),
            (2 * SMALLEST, 2 * SMALLEST)
        );
        assert_eq!(all(&ring), left);
        ring.lower_limit(LARGEST);
        assert_eq!(ring.limit(), 2 * SMALLEST);
        ring.consume(2 * SMALLEST);
        ring.lower_limit(0);
        assert_eq!((ring.limit(), ring.bytes.len()), (SMALLEST, 0));
        assert_eq!(ring.push(&bytes), SMALLEST);
        assert_eq!(all(&ring), &bytes[..SMALLEST]);
    }

    #[test]
    fn no_more_is_taken_than_the_limit() {
        let mut ring = Ring::new();
        assert_eq!(ring.push(&vec![1; 2 * SMALLEST]), SMALLEST);
        assert_eq!(ring.push(&[1]), 0);
        ring.raise_limit();
        assert_eq!(ring.push(&vec![1; 2 * SMALLEST]), SMALLEST);
        for _ in 0..20 {
            ring.raise_limit();
        }
        assert_eq!(ring.limit(), LARGEST);
        // Two rings of the smallest size are in it.
        let free =
            |room: &mut [IoSliceMut<'_>]| Ok::<_, ()>(room.iter().map(|part| part.len()).sum());
        assert_eq!(ring.fill_within(2 * SMALLEST, free), Ok(0));
        assert_eq!(ring.fill_within(3 * SMALLEST, free), Ok(SMALLEST));
    }
}
