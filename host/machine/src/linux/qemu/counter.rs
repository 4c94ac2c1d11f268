//! How fast this processor's time-stamp counter counts. An emulated processor has the same counter, and its kernel is told.
//!
//! A kernel that is not told measures it against emulated timers, which answer late when the host is busy with other
//! things: it has been seen to take 345 MHz for 2,596, and the guest's time then passes 7.5 times too fast, or, the other
//! way, so slowly that the guest does not come up. Two looks at the counter and the host's clock, some milliseconds apart,
//! tell it to some millionths.
//!
//! Called by the machine: a look when it is made, and what came of it when QEMU starts. Must never: tell a frequency that
//! it is not sure of.

use std::time::{Duration, Instant};

/// Between two looks at least.
const APART: Duration = Duration::from_millis(5);
/// And at most: then nothing is told.
const LONGEST: Duration = Duration::from_millis(200);
/// How often a look is tried, of which the shortest counts: the others were interrupted.
const TRIES: usize = 16;
/// One of so many parts of the truth may be missing at most.
const EXACT: u32 = 10_000;

/// The counter, and when it was so.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    count: u64,
    /// Before the counter was read.
    time: Instant,
    /// What passed until it had been read for certain.
    unsure: Duration,
}

impl Look {
    /// Looks; nothing where the processor has no such counter.
    pub fn take() -> Option<Self> {
        let look = || {
            let time = Instant::now();
            let count = read()?;
            let unsure = time.elapsed();
            Some(Self {
                count,
                time,
                unsure,
            })
        };
        (0..TRIES)
            .filter_map(|_| look())
            .min_by_key(|look| look.unsure)
    }

    /// Thousands of counts in a second, exact to a ten-thousandth; nothing where the host is too busy to tell that.
    pub fn khz(self) -> Option<u64> {
        loop {
            std::thread::sleep(APART.saturating_sub(self.time.elapsed()));
            let now = Self::take()?;
            let apart = now.time - self.time;
            if (self.unsure + now.unsure) * EXACT <= apart {
                return self.khz_until(now);
            }
            if apart > LONGEST {
                return None;
            }
        }
    }

    fn khz_until(self, later: Self) -> Option<u64> {
        let nanos = (later.time - self.time).as_nanos();
        let counted = u128::from(later.count.checked_sub(self.count)?);
        u64::try_from((counted * 1_000_000).checked_div(nanos)?).ok()
    }
}

#[cfg(target_arch = "x86_64")]
fn read() -> Option<u64> {
    // SAFETY: every processor of 64 bits has the instruction, and it changes nothing.
    Some(unsafe { std::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn read() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_a_time_are_its_frequency() {
        let time = Instant::now();
        let look = |count, after| Look {
            count,
            time: time + Duration::from_micros(after),
            unsure: Duration::ZERO,
        };
        let first = look(1_000, 0);
        assert_eq!(first.khz_until(look(13_001_000, 5_000)), Some(2_600_000));
        // A counter that goes back, and a clock that stands still.
        assert_eq!(first.khz_until(look(999, 5_000)), None);
        assert_eq!(first.khz_until(look(2_000, 0)), None);
    }

    /// Over a time that is a hundred times as long it comes to the same.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_is_told_stays_true() {
        let begin = Look::take().unwrap();
        let Some(told) = begin.khz() else {
            return lighter_tests::env::skip(
                "what_is_told_stays_true",
                "the host is too busy to tell",
            );
        };
        let until = Instant::now() + 100 * APART;
        while Instant::now() < until {
            std::thread::yield_now();
        }
        let long = begin.khz_until(Look::take().unwrap()).unwrap();
        assert!(told.abs_diff(long) <= long / 1_000, "{told} and {long}");
    }
}
