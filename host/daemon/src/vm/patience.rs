//! Waiting for a guest that may have to wait itself: a machine whose disk image cannot be written
//! for want of room on the host's disk stands still, and is neither dead nor lost.

use std::pin::pin;
use std::time::{Duration, Instant};

use lighter_machine::Machine;

/// How often a machine is asked whether it waits for room on the host's disk.
pub const LOOK: Duration = Duration::from_secs(1);
/// The machine process answers at once or hangs.
const ANSWER: Duration = Duration::from_secs(1);

/// Whether the machine stands still because the host's disk has no room for its writes.
pub async fn waits_for_room(machine: &Machine) -> bool {
    let status = tokio::time::timeout(ANSWER, machine.status()).await;
    matches!(status, Ok(Ok(status)) if status.disk_full)
}

/// Does `work`, for `limit` at most: then there is nothing. The limit begins anew for as long as
/// `excused` says so.
pub async fn within<T, E: Future<Output = bool>>(
    limit: Duration,
    work: impl Future<Output = T>,
    excused: impl Fn() -> E,
) -> Option<T> {
    let mut work = pin!(work);
    let mut began = Instant::now();
    loop {
        let left = limit.saturating_sub(began.elapsed());
        if let Ok(done) = tokio::time::timeout(left.min(LOOK), &mut work).await {
            return Some(done);
        }
        if excused().await {
            began = Instant::now();
        } else if began.elapsed() >= limit {
            return None;
        }
    }
}

/// Waits until something was so for as long as `limit`, asking at this pace.
pub async fn lasts<E: Future<Output = bool>>(limit: Duration, pace: Duration, so: impl Fn() -> E) {
    let mut since = None;
    loop {
        tokio::time::sleep(pace).await;
        since = match since {
            _ if !so().await => None,
            None => Some(Instant::now()),
            Some(since) if since.elapsed() >= limit => return,
            still => still,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_guest_without_an_excuse_is_given_up() {
        let work = std::future::pending::<()>();
        assert_eq!(within(LIMIT, work, || async { false }).await, None);
        assert_eq!(
            within(LIMIT, async { 7 }, || async { false }).await,
            Some(7)
        );
    }

    #[tokio::test]
    async fn what_is_interrupted_does_not_last() {
        let asked = AtomicU32::new(0);
        let pace = Duration::from_millis(1);
        // So, but for the third and the sixth time.
        let so = || async { ![2, 5].contains(&asked.fetch_add(1, Relaxed)) };
        lasts(Duration::ZERO, pace, so).await;
        assert_eq!(asked.load(Relaxed), 2);
        let asked_long = AtomicU32::new(0);
        let so = || async { asked_long.fetch_add(1, Relaxed).is_multiple_of(2) };
        let waited = lasts(Duration::ZERO, pace, so);
        assert!(tokio::time::timeout(LIMIT, waited).await.is_err());
    }

    #[tokio::test]
    async fn a_guest_is_waited_for_while_its_machine_waits() {
        let asked = AtomicU32::new(0);
        let full = || async { asked.fetch_add(1, Relaxed) < 5 };
        let work = async {
            tokio::time::sleep(LIMIT * 4).await;
            7
        };
        assert_eq!(within(LIMIT, work, full).await, Some(7));
        assert!(asked.load(Relaxed) > 0);
        // Once there is room again, the limit holds.
        let asked = AtomicU32::new(0);
        let full = || async { asked.fetch_add(1, Relaxed) < 5 };
        assert_eq!(
            within(LIMIT, std::future::pending::<()>(), full).await,
            None
        );
        assert_eq!(asked.load(Relaxed), 6);
    }
}
