//! What the log has once: a guest may cause a line as often as it likes, and others read the log, too.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a line was written already; one for each kind of line of a device.
#[derive(Debug, Default)]
pub struct Said(AtomicBool);

impl Said {
    /// `true` for the first who asks, and never again.
    pub fn first(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}
