//! When the host gets back the room of what was removed: a while after removals, in one go, and once a day.
//!
//! Started once the engine is open. Not with each removal: the host's file would be punched for every file of a
//! container, and what is removed is often written again at once. Once a day for what containers remove in their
//! own folders, which nobody tells.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::places::Places;

/// Without a removal for so long, it is time.
const QUIET: Duration = Duration::from_secs(5);
/// With removals all the time, it is time all the same.
const AT_LATEST: Duration = Duration::from_secs(300);
/// Without any removal.
const DAILY: Duration = Duration::from_secs(24 * 60 * 60);

/// Trims for as long as the engine lives, which counts in `removals`.
pub async fn serve(places: Arc<Places>, mut removals: watch::Receiver<u64>) {
    loop {
        let first = timeout(DAILY, removals.changed()).await;
        if let Ok(Err(_)) = first {
            return;
        }
        let latest = Instant::now() + AT_LATEST;
        let until_quiet =
            async { while let Ok(Ok(())) = timeout(QUIET, removals.changed()).await {} };
        // Late is as good.
        let _ = timeout_at(latest, until_quiet).await;
        let places = Arc::clone(&places);
        let trimmed = tokio::task::spawn_blocking(move || {
            lighter_init::disk::trim(&places.data_root, places.device())
        });
        match trimmed.await.map_err(std::io::Error::other).flatten() {
            Ok(trimmed) => {
                tracing::debug!(groups = trimmed.groups, bytes = trimmed.bytes, "trimmed");
            }
            // The next time it may be otherwise, and there is nothing that anybody waits for.
            Err(error) => {
                tracing::warn!(%error, "the host does not get back the room of what was removed");
            }
        }
    }
}
