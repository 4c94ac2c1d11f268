//! The guest's clock, which is the host's.

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// A smaller difference is left alone: the message itself takes some time, and a clock that goes
/// back by a little puts log lines in the wrong order.
const TOLERANCE_NS: i128 = 20_000_000;

/// Sets the clock to what the host says, where it is off.
pub fn set(unix_ns: u64) {
    let now = clock_gettime(ClockId::Realtime);
    let now_ns = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    let off = i128::from(unix_ns) - now_ns;
    if off.abs() <= TOLERANCE_NS {
        return;
    }
    let (Ok(tv_sec), Ok(tv_nsec)) = (
        i64::try_from(unix_ns / 1_000_000_000),
        i64::try_from(unix_ns % 1_000_000_000),
    ) else {
        return;
    };
    match clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec }) {
        Ok(()) => tracing::debug!(off_ms = off / 1_000_000, "the clock is set"),
        Err(error) => tracing::warn!(%error, "the clock cannot be set"),
    }
}
