//! The end of a machine, told once to everybody who waits for it. Used by every backend.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::ExitReason;

/// Why a machine ended, once it has.
#[derive(Debug, Default)]
pub struct Ended {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    killed: bool,
    reason: Option<ExitReason>,
}

impl Ended {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the end is a kill, whatever it looks like.
    pub fn kill(&self) {
        self.lock().killed = true;
    }

    /// Whether [`Ended::kill`] was called.
    pub fn killed(&self) -> bool {
        self.lock().killed
    }

    /// Tells the end; the first one told stays.
    pub fn set(&self, reason: ExitReason) {
        let mut state = self.lock();
        let reason = if state.killed {
            ExitReason::Killed
        } else {
            reason
        };
        state.reason.get_or_insert(reason);
        self.changed.notify_all();
    }

    /// The end, if it was told.
    pub fn reason(&self) -> Option<ExitReason> {
        self.lock().reason.clone()
    }

    /// Waits for it.
    pub fn wait(&self) -> ExitReason {
        let mut state = self.lock();
        loop {
            if let Some(reason) = &state.reason {
                return reason.clone();
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
