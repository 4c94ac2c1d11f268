//! The journal of exits: every process that ended and that nobody has said to forget.

use std::collections::VecDeque;

use lighter_init::Exit;
use lighter_init::wire::EXITS_PER_PACKET;
use rustix::time::{ClockId, clock_gettime};

/// More than this means that nobody forgets; the oldest go, and are counted.
const MAX_KEPT: usize = 32 * 1024;

/// Exits in the order of their sequence numbers.
#[derive(Debug, Default)]
pub struct Journal {
    kept: VecDeque<Exit>,
    last_seq: u64,
    lost: u32,
}

impl Journal {
    /// Notes an exit.
    pub fn add(&mut self, pid: i32, status: i32) {
        if self.kept.len() >= MAX_KEPT {
            self.kept.pop_front();
            self.lost = self.lost.saturating_add(1);
        }
        self.last_seq += 1;
        let now = clock_gettime(ClockId::Realtime);
        let at_unix_ns = now
            .tv_sec
            .saturating_mul(1_000_000_000)
            .saturating_add(now.tv_nsec);
        self.kept.push_back(Exit {
            seq: self.last_seq,
            pid,
            status,
            at_unix_ns,
        });
    }

    /// The number of the latest exit.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// How many are kept.
    pub fn count(&self) -> u32 {
        u32::try_from(self.kept.len()).unwrap_or(u32::MAX)
    }

    /// How many were dropped for lack of room.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// One packet's worth of exits after this number, and whether these are the last.
    pub fn after(&self, seq: u64) -> (Vec<Exit>, bool) {
        let from = self.kept.partition_point(|exit| exit.seq <= seq);
        let mut rest = self.kept.range(from..);
        let exits = rest.by_ref().take(EXITS_PER_PACKET).copied().collect();
        (exits, rest.next().is_none())
    }

    /// Forgets one exit of a process id, or with number 0 all of them; says how many there were.
    pub fn forget(&mut self, pid: i32, seq: u64) -> u32 {
        let before = self.kept.len();
        self.kept
            .retain(|exit| exit.pid != pid || (seq != 0 && exit.seq != seq));
        u32::try_from(before - self.kept.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_pid_twice_is_two_exits() {
        let mut journal = Journal::default();
        journal.add(7, 0);
        journal.add(8, 0);
        journal.add(7, 256);
        assert_eq!(journal.forget(7, 1), 1);
        let left: Vec<_> = journal
            .after(0)
            .0
            .iter()
            .map(|exit| (exit.pid, exit.status))
            .collect();
        assert_eq!(left, [(8, 0), (7, 256)]);
        assert_eq!(journal.forget(7, 0), 1);
        assert_eq!(journal.forget(7, 0), 0);
        assert_eq!(journal.last_seq(), 3);
    }

    #[test]
    fn journal_is_bounded_and_counts_its_losses() {
        let mut journal = Journal::default();
        for _ in 0..MAX_KEPT + 2 {
            journal.add(1, 0);
        }
        assert_eq!((journal.count() as usize, journal.lost()), (MAX_KEPT, 2));
        let (exits, last) = journal.after(0);
        assert_eq!(
            (exits.len(), exits.first().map(|exit| exit.seq), last),
            (EXITS_PER_PACKET, Some(3), false)
        );
    }
}
