//! Threads for what waits: reads that are not in the page cache, flushes, holes, and writes without room.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lighter_platform::sys::threads;

use super::Full;
use super::file::{Disk, Done, NoRoom};
use super::request::Request;
use crate::ring::Memory;
use crate::roles;
use crate::service::Waker;

/// As many requests as these wait at a time.
const THREADS: usize = 3;
/// How often a request without room is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// A request, and whether there was no room for it before.
struct Job {
    request: Request,
    memory: Arc<Memory>,
    tried: bool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// What the host had no room for, and when that is tried again. No thread waits with it: a discard may make room.
    later: VecDeque<Job>,
    again: Option<Instant>,
    /// Requests for which there was no room yet, also those that are tried at the moment.
    short: usize,
    working: usize,
    done: VecDeque<(Request, Done)>,
    /// Nothing is to be finished any more: the guest has gone or was reset.
    abandoned: bool,
    over: bool,
}

struct Shared {
    disk: Arc<Disk>,
    state: Mutex<State>,
    changed: Condvar,
    waker: Waker,
    full: Full,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until something changes, or until then.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        let Some(until) = until else {
            let woken = self.changed.wait(state);
            return woken.unwrap_or_else(PoisonError::into_inner);
        };
        let left = until.saturating_duration_since(Instant::now());
        let woken = self.changed.wait_timeout(state, left);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    /// What is to be done now.
    fn next<'a>(&self, mut state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, Option<Job>) {
        while !state.over {
            if let Some(job) = state.waiting.pop_front() {
                return (state, Some(job));
            }
            if state.again.is_some_and(|again| again <= Instant::now())
                && let Some(job) = state.later.pop_front()
            {
                return (state, Some(job));
            }
            let again = state.again.filter(|_| !state.later.is_empty());
            state = self.wait(state, again);
        }
        (state, None)
    }

    /// Does this one, without the lock, and keeps what came of it.
    fn do_one<'a>(&'a self, mut state: MutexGuard<'a, State>, job: Job) -> MutexGuard<'a, State> {
        state.working += 1;
        drop(state);
        let outcome = self.disk.do_it(&job.request, &job.memory);
        let mut state = self.lock();
        state.working -= 1;
        if state.abandoned {
            drop(job);
            self.changed.notify_all();
            return state;
        }
        match outcome {
            Ok(done) => {
                let short = state.short - usize::from(job.tried);
                self.set_short(&mut state, short);
                state.done.push_back((job.request, done));
                // There may be room for others now.
                state.again = Some(Instant::now());
                self.changed.notify_one();
                self.waker.wake();
            }
            Err(NoRoom) => {
                let short = state.short + usize::from(!job.tried);
                self.set_short(&mut state, short);
                state.later.push_back(Job { tried: true, ..job });
                state.again = Instant::now().checked_add(AGAIN);
            }
        }
        state
    }

    /// So many requests are without room from now on.
    fn set_short(&self, state: &mut State, short: usize) {
        match (state.short > 0, short > 0) {
            (false, true) => self.full.enter(),
            (true, false) => self.full.leave(),
            _ => {}
        }
        state.short = short;
    }
}

/// The threads. Dropping it ends them.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts the threads; each finished request wakes.
    pub fn spawn(disk: Arc<Disk>, waker: Waker, full: Full) -> io::Result<Self> {
        let mut pool = Self::idle(disk, waker, full);
        for _ in 0..THREADS {
            let shared = Arc::clone(&pool.shared);
            let work = move || work(&shared);
            let thread = threads::spawn("disk-wait", roles::DISK_WORK, work)?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// One without threads.
    pub fn idle(disk: Arc<Disk>, waker: Waker, full: Full) -> Self {
        Self {
            shared: Arc::new(Shared {
                disk,
                state: Mutex::default(),
                changed: Condvar::new(),
                waker,
                full,
            }),
            threads: Vec::new(),
        }
    }

    /// Does on this thread what waits for those that are not there.
    #[cfg(all(feature = "fuzz", not(test)))]
    pub fn work_here(&self) {
        let mut state = self.shared.lock();
        while let Some(job) = state.waiting.pop_front() {
            state = self.shared.do_one(state, job);
        }
    }

    /// Gives a request to the threads.
    pub fn give(&self, request: Request, memory: Arc<Memory>) {
        let job = Job {
            request,
            memory,
            tried: false,
        };
        self.shared.lock().waiting.push_back(job);
        self.shared.changed.notify_all();
    }

    /// Takes one that is finished.
    pub fn take(&self) -> Option<(Request, Done)> {
        self.shared.lock().done.pop_front()
    }

    /// Lets go of all requests: when this returns, no thread touches the guest's memory.
    pub fn abandon(&self) {
        let mut state = self.shared.lock();
        state.abandoned = true;
        state.waiting.clear();
        state.later.clear();
        self.shared.set_short(&mut state, 0);
        self.shared.changed.notify_all();
        while state.working > 0 {
            state = self.shared.wait(state, None);
        }
        state.done.clear();
        state.abandoned = false;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.abandon();
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic there has been printed; there is nothing to add to it.
            drop(thread.join());
        }
    }
}

fn work(shared: &Shared) {
    let mut state = shared.lock();
    loop {
        let (held, job) = shared.next(state);
        let Some(job) = job else {
            return;
        };
        state = shared.do_one(held, job);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use vm_memory::GuestAddress;

    use super::super::request::{Part, What};
    use super::*;

    /// Room never comes here; when the guest is gone, nobody waits for it any more.
    #[test]
    fn a_write_without_room_waits_and_is_said_and_ends_with_its_guest() {
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/full")
            .unwrap();
        let disk = Arc::new(Disk::new(file, 1 << 20, false));
        let full = Full::default();
        let pool = Pool::spawn(disk, Waker::new().unwrap(), full.clone()).unwrap();
        let memory = Arc::new(Memory::from_ranges(&[(GuestAddress(0), 4096)]).unwrap());
        let request = Request {
            head: 0,
            what: What::Write,
            offset: Some(0),
            data: vec![Part {
                address: GuestAddress(0),
                length: 512,
            }],
            length: 512,
            status: GuestAddress(1024),
        };
        // More of them than there are threads, and a read is done all the same.
        for _ in 0..2 * THREADS {
            pool.give(request.clone(), Arc::clone(&memory));
        }
        while !full.now() {
            std::thread::yield_now();
        }
        let read = Request {
            what: What::Read,
            ..request
        };
        pool.give(read.clone(), Arc::clone(&memory));
        let done = loop {
            if let Some((done, _)) = pool.take() {
                break done;
            }
            std::thread::yield_now();
        };
        assert_eq!(done, read);
        assert!(full.now());
        pool.abandon();
        assert!(!full.now() && pool.take().is_none());
        assert_eq!(Arc::strong_count(&memory), 1);
    }
}
