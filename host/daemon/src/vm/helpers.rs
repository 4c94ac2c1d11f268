//! The ends of the processes beside a machine: that of its shared folders and that of its network.
//!
//! Each follows its machine, and a machine without one of them has to end.

use tokio::sync::watch;

use super::AFTER_BYE;

/// What each process serves, and whether it has ended.
#[derive(Debug, Clone)]
pub struct Helpers([(&'static str, watch::Receiver<bool>); 2]);

impl Helpers {
    /// Of the two processes; a flag that nobody will raise is of one that is not there.
    #[must_use]
    pub fn new(folders: watch::Receiver<bool>, network: watch::Receiver<bool>) -> Self {
        Self([("shared folders", folders), ("the network", network)])
    }

    /// Waits until one has ended: what it served.
    pub(super) async fn one_ended(&self) -> &'static str {
        let [(first, one), (second, other)] = self.0.clone();
        tokio::select! {
            () = ended(one) => first,
            () = ended(other) => second,
        }
    }

    /// Waits a little for the end of all that there are.
    pub(super) async fn all_gone(&self) {
        for (what, mut flag) in self.0.clone() {
            let gone = flag.wait_for(|ended| *ended);
            if tokio::time::timeout(AFTER_BYE, gone).await.is_err() {
                tracing::warn!("the process that serves {what} does not end");
            }
        }
    }
}

async fn ended(mut flag: watch::Receiver<bool>) {
    if flag.wait_for(|ended| *ended).await.is_err() {
        // There is no such process.
        std::future::pending::<()>().await;
    }
}
