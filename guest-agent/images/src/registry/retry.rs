//! Another attempt at a transfer: when, and what is said meanwhile. Called by downloads and uploads.

use std::time::Duration;

use crate::error::Error;
use crate::progress::{Progress, ProgressEvent};

/// Attempts in a row that moved nothing.
pub(super) const ATTEMPTS: u32 = 5;
/// How often a bar moves.
pub(super) const BAR_EVERY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Whether another attempt may help.
pub(super) fn is_temporary(error: &Error) -> bool {
    matches!(error, Error::Registry(error) if error.is_temporary())
}

/// Waits before the next attempt at the layer `id`: as long as the registry wants, or longer with
/// each failure.
pub(super) async fn wait(
    progress: &dyn Progress,
    id: &str,
    delay: Duration,
    failures: u32,
    error: &Error,
) {
    let asked = match error {
        Error::Registry(error) => error.retry_after(),
        _ => None,
    };
    let mut left = asked.unwrap_or(delay * failures).min(LONGEST_DELAY);
    tracing::info!(layer = id, %error, "a transfer is retried");
    // Counted down, as dockerd does.
    while !left.is_zero() {
        let seconds = left.as_secs();
        let plural = if seconds == 1 { "" } else { "s" };
        let status = format!("Retrying in {seconds} second{plural}");
        progress.report(ProgressEvent::layer(id, status));
        let step = left.min(Duration::from_secs(1));
        tokio::time::sleep(step).await;
        left -= step;
    }
}
