//! Whether a guest that answered once is still there: a machine that died a moment ago counts as ready until its owner
//! has heard of it.
//!
//! Called by `lighter up`, which promises a machine that can be used. Clients of the engine need it not: one that cannot
//! be handed over is tried again.

use std::time::Duration;

use super::patience::waits_for_room;
use super::{Failure, Guest, Phase, Vm};

/// Pause between two questions to a guest whose agent is being started again.
const RETRY: Duration = Duration::from_millis(20);

impl Vm {
    /// As [`Vm::ready`], and the guest has answered since this was asked.
    ///
    /// # Errors
    /// As [`Vm::ready`].
    pub async fn answering(&self) -> Result<Guest, Failure> {
        loop {
            let guest = self.ready().await?;
            if answers(&guest).await {
                return Ok(guest);
            }
            let is_this =
                |phase: &Phase| matches!(phase, Phase::Ready(now) if now.since == guest.since);
            let mut phase = self.phase.clone();
            if phase.wait_for(|phase| !is_this(phase)).await.is_err() {
                return Err(Failure::plain("the daemon is ending"));
            }
        }
    }
}

/// Waits for a word of the guest; false if it ends instead. One whose machine waits for room on the host's disk cannot
/// answer, and is there.
async fn answers(guest: &Guest) -> bool {
    let answered = async {
        while guest.link.status().await.is_none() && !waits_for_room(&guest.machine).await {
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        biased;
        _ = guest.machine.exited() => false,
        _ = guest.link.ended() => false,
        () = answered => true,
    }
}
