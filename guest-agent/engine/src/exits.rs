//! Ends of processes, from PID 1's journal and its event socket to whoever waits for them.
//!
//! A process is known to the engine only some moments after it exists, and may have ended by
//! then: while anybody is starting one ([`Exits::starting`]), ends nobody waits for are kept.
//! An end stays in the journal until its consequences are recorded ([`Exits::forget`]).

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lighter_init::Exit;
use lighter_init::{Events, Supervisor};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::sync::oneshot;

use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// All ends that are waited for, or might be.
pub(crate) struct Exits {
    supervisor: Arc<Supervisor>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<i32, oneshot::Sender<Exit>>,
    unclaimed: HashMap<i32, Exit>,
    starting: usize,
    last: u64,
}

impl State {
    /// An end that is somebody else's stays for them.
    fn claim(&mut self, pid: i32, own: impl FnOnce(&Exit) -> bool) -> Option<Exit> {
        self.unclaimed.get(&pid).filter(|exit| own(exit))?;
        self.unclaimed.remove(&pid)
    }
}

/// Keeps ends nobody waits for while it lives.
pub(crate) struct Starting(Arc<Exits>);

impl Exits {
    /// Reads the journal. Ends in it are kept until the first [`Starting`] is dropped.
    pub(crate) fn open(supervisor: Arc<Supervisor>) -> Result<Arc<Self>> {
        let journal = supervisor
            .exits()
            .map_err(|error| Error::internal("the journal of exits cannot be read", error))?;
        let last = journal.last().map_or(0, |exit| exit.seq);
        let unclaimed = journal.into_iter().map(|exit| (exit.pid, exit)).collect();
        let state = State {
            unclaimed,
            last,
            ..State::default()
        };
        Ok(Arc::new(Self {
            supervisor,
            state: Mutex::new(state),
        }))
    }

    /// Delivers ends as they come, until the socket closes.
    pub(crate) async fn listen(self: Arc<Self>, events: Events) {
        let Ok(events) = crate::io::watch(events, Interest::READABLE) else {
            tracing::error!("exits cannot be listened for");
            return;
        };
        loop {
            let Ok(mut guard) = events.readable().await else {
                return;
            };
            match guard.get_inner().0.try_next() {
                Ok(Some(exit)) => self.deliver(exit),
                Ok(None) => guard.clear_ready(),
                Err(error) => {
                    tracing::error!(%error, "no more exits are heard of");
                    return;
                }
            }
        }
    }

    /// To be held while a process is started, until it is waited for.
    pub(crate) fn starting(self: &Arc<Self>) -> Starting {
        self.lock().starting += 1;
        Starting(Arc::clone(self))
    }

    /// The end of `pid`, now or later.
    pub(crate) fn wait(&self, pid: i32) -> oneshot::Receiver<Exit> {
        self.wait_for(pid, |_| true)
    }

    /// The end of `pid`, now or later. `own` tells it from that of an earlier process with the
    /// same id.
    pub(crate) fn wait_for(
        &self,
        pid: i32,
        own: impl FnOnce(&Exit) -> bool,
    ) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        match state.claim(pid, own) {
            Some(exit) => {
                // The receiver is in hand: this cannot fail.
                let _ = sender.send(exit);
            }
            None => {
                state.waiting.insert(pid, sender);
            }
        }
        receiver
    }

    /// Nobody waits for the end of `pid` any more, and nothing follows from it.
    pub(crate) fn give_up(&self, pid: i32, mut waiting: oneshot::Receiver<Exit>) {
        self.lock().waiting.remove(&pid);
        if let Ok(exit) = waiting.try_recv() {
            self.forget(&exit);
        }
    }

    /// The end of `pid`, if it came before this engine and nobody has asked for it yet. `own` as for
    /// [`Exits::wait_for`].
    pub(crate) fn unclaimed(&self, pid: i32, own: impl FnOnce(&Exit) -> bool) -> Option<Exit> {
        self.lock().claim(pid, own)
    }

    /// Says that what follows from `exit` is recorded.
    pub(crate) fn forget(&self, exit: &Exit) {
        if let Err(error) = self.supervisor.forget(exit) {
            tracing::error!(%error, "an exit stays in the journal");
        }
    }

    fn deliver(&self, exit: Exit) {
        let mut state = self.lock();
        if exit.seq <= state.last {
            return;
        }
        state.last = exit.seq;
        if let Some(waiting) = state.waiting.remove(&exit.pid) {
            // Whoever waited may have given up; the journal still has it for the next engine.
            let _ = waiting.send(exit);
        } else if state.starting > 0 {
            state.unclaimed.insert(exit.pid, exit);
        } else {
            drop(state);
            self.forget(&exit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.starting -= 1;
        if state.starting > 0 {
            return;
        }
        let stray: Vec<Exit> = state.unclaimed.drain().map(|(_, exit)| exit).collect();
        drop(state);
        stray.iter().for_each(|exit| self.0.forget(exit));
    }
}

/// Tells the end of a process from that of an earlier one with the same id, which the journal may
/// still have. While the process lives an end from before its start is that; the clock alone, which
/// may be set back, does not say so.
pub(crate) fn own(
    pidfd: Option<BorrowedFd<'_>>,
    started: Timestamp,
) -> impl FnOnce(&Exit) -> bool + use<> {
    let lives = pidfd.is_some_and(lives);
    move |exit: &Exit| !lives || exit.at_unix_ns >= started.unix_ns()
}

/// Whether a process has not ended. What cannot be asked counts as ended.
fn lives(pidfd: BorrowedFd<'_>) -> bool {
    let mut ready = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let now = Timespec::default();
    matches!(rustix::event::poll(&mut ready, Some(&now)), Ok(0))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn an_end_before_the_start_is_not_that_of_a_process_that_lives() {
        let mut process = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&process);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let end = |at_unix_ns| Exit {
            seq: 1,
            pid: pid.as_raw_nonzero().get(),
            status: 0,
            at_unix_ns,
        };
        let started = Timestamp::from_unix_ns(100);
        let is_own = |at| own(Some(pidfd.as_fd()), started)(&end(at));
        assert!(!is_own(99));
        assert!(is_own(100));
        // Its own, by a clock that was set back.
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(is_own(99));
    }

    #[test]
    fn the_end_of_an_earlier_process_with_the_same_id_is_left_alone() {
        let exit = Exit {
            seq: 1,
            pid: 7,
            status: 0,
            at_unix_ns: 100,
        };
        let mut state = State::default();
        state.unclaimed.insert(7, exit);
        let since = |started: i64| move |exit: &Exit| exit.at_unix_ns >= started;
        assert!(state.claim(7, since(101)).is_none());
        assert!(state.claim(8, since(0)).is_none());
        assert!(state.claim(7, since(100)).is_some());
        assert!(state.unclaimed.is_empty());
    }
}
