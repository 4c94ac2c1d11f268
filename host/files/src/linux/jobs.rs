//! Requests on their way from the guest's queues to the workers, and the end of all of them.
//!
//! Called by the device: one thread pushes, workers take, and the thread that speaks with the front end lets go.
//! Must never: give out what was pushed before it was let go, however late it was.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long one that is being worked on is waited for: longer than a front end waits for the reset, which has given this
/// process up by then, so that it ends. A file system of the host may hang for ever.
const LONGEST: Duration = Duration::from_secs(15);

/// A bounded queue, and how many of what was in it are being worked on.
pub struct Jobs<J> {
    state: Mutex<State<J>>,
    most: usize,
    more: Condvar,
    room: Condvar,
    idle: Condvar,
}

struct State<J> {
    waiting: VecDeque<J>,
    working: usize,
    /// How often all was let go.
    era: u64,
}

impl<J> Jobs<J> {
    /// An empty one, in which so many may wait.
    pub fn new(most: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            working: 0,
            era: 0,
        };
        Self {
            state: Mutex::new(state),
            most,
            more: Condvar::new(),
            room: Condvar::new(),
            idle: Condvar::new(),
        }
    }

    /// What a job is pushed under that is taken off a queue from now on.
    pub fn era(&self) -> u64 {
        self.lock().era
    }

    /// Puts one behind the others, as soon as there is room; one of an earlier era is dropped.
    pub fn push(&self, era: u64, job: J) {
        let full = |state: &mut State<J>| state.era == era && state.waiting.len() >= self.most;
        let waited = self.room.wait_while(self.lock(), full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.era == era {
            state.waiting.push_back(job);
            self.more.notify_one();
        }
    }

    /// The next one, as soon as there is one; [`Jobs::done`] has to follow.
    pub fn next(&self) -> J {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                state.working += 1;
                if state.waiting.len() + 1 == self.most {
                    self.room.notify_one();
                }
                return job;
            }
            let woken = self.more.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One that was taken is worked on no more.
    pub fn done(&self) {
        let mut state = self.lock();
        state.working -= 1;
        if state.working == 0 {
            self.idle.notify_all();
        }
    }

    /// Lets go of all that wait; when this returns, nothing that was pushed before is worked on any more, or whoever
    /// asked for it has gone ([`LONGEST`]).
    pub fn let_go(&self) {
        let mut state = self.lock();
        state.era += 1;
        state.waiting.clear();
        self.room.notify_all();
        let working = |state: &mut State<J>| state.working > 0;
        let waited = self.idle.wait_timeout_while(state, LONGEST, working);
        let (state, over) = waited.unwrap_or_else(PoisonError::into_inner);
        if over.timed_out() {
            tracing::error!(requests = state.working, "a file system of the host hangs");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_let_go_is_waited_for_or_never_begun() {
        let jobs = Arc::new(Jobs::new(8));
        let era = jobs.era();
        for job in 0..3 {
            jobs.push(era, job);
        }
        assert_eq!(jobs.next(), 0);
        let other = Arc::clone(&jobs);
        let end = std::thread::spawn(move || other.let_go());
        while jobs.era() == era {
            std::thread::yield_now();
        }
        // One that was taken off its queue before comes late.
        jobs.push(era, 3);
        for _ in 0..10_000 {
            std::thread::yield_now();
            assert!(!end.is_finished(), "one is being worked on");
        }
        jobs.done();
        end.join().unwrap();
        jobs.push(jobs.era(), 4);
        assert_eq!(jobs.next(), 4);
    }

    #[test]
    fn whoever_waits_for_room_is_let_go_too() {
        let jobs = Arc::new(Jobs::new(1));
        let era = jobs.era();
        jobs.push(era, 0);
        let other = Arc::clone(&jobs);
        let waits = std::thread::spawn(move || other.push(era, 1));
        jobs.let_go();
        waits.join().unwrap();
        jobs.push(jobs.era(), 2);
        assert_eq!(jobs.next(), 2);
    }
}
