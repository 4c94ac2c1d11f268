//! The end of the machine as the agent sees it: engine, disk, bye, init.

use std::sync::Arc;
use std::time::Duration;

use lighter_init::{End, Supervisor};
use lighter_protocol::{ByeReason, Shutdown};
use tokio::sync::{Notify, watch};

use crate::kept;
use crate::service::Service;

/// How long the host may take to note a bye; without its note the machine ends all the same.
const BYE_PATIENCE: Duration = Duration::from_secs(5);

/// One shutdown, whoever asks and however often.
#[derive(Debug)]
pub struct Ending {
    /// Set when everything is stopped and synced: every session says bye.
    bye: watch::Sender<Option<ByeReason>>,
    noted: Notify,
}

impl Default for Ending {
    fn default() -> Self {
        Self {
            bye: watch::Sender::new(None),
            noted: Notify::new(),
        }
    }
}

impl Ending {
    /// Tells a session when to say bye, and why.
    pub fn watch(&self) -> watch::Receiver<Option<ByeReason>> {
        self.bye.subscribe()
    }

    /// A host has noted the bye.
    pub fn noted(&self) {
        self.noted.notify_one();
    }

    /// Takes everything down in the background. Later calls do nothing.
    pub fn begin(
        self: &Arc<Self>,
        service: &Arc<Service>,
        supervisor: &Arc<Supervisor>,
        shutdown: Shutdown,
    ) {
        let (this, service) = (Arc::clone(self), Arc::clone(service));
        let supervisor = Arc::clone(supervisor);
        if let Err(error) = kept::put(&supervisor, kept::SHUTDOWN, &shutdown) {
            tracing::warn!(%error, "a successor would not go on with the shutdown");
        }
        tokio::spawn(async move {
            let limit = Duration::from_millis(shutdown.timeout_ms);
            // An engine that is being opened has containers to stop once it is.
            if tokio::time::timeout(limit, service.settled())
                .await
                .is_err()
            {
                tracing::warn!("the engine is still being opened");
            }
            if !service.stop(limit).await {
                return;
            }
            tracing::info!(reason = ?shutdown.reason, "the machine ends");
            // A long one belongs before the bye: after it the host expects the end at once.
            let synced = tokio::task::spawn_blocking(rustix::fs::sync).await;
            if let Err(error) = synced {
                tracing::error!(%error, "sync failed");
            }
            this.bye.send_replace(Some(ByeReason::Shutdown));
            if tokio::time::timeout(BYE_PATIENCE, this.noted.notified())
                .await
                .is_err()
            {
                tracing::warn!("no host has noted the bye");
            }
            if let Err(error) = supervisor.reboot(End::Restart) {
                tracing::error!(%error, "init does not end the machine");
            }
        });
    }
}
