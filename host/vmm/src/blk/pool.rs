//! Threads for what waits: reads that are not in the page cache, flushes, holes, and writes without room.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Full;
use super::file::{Disk, Done};
use super::request::Request;
use crate::ring::Memory;
use crate::service::Waker;

/// As many requests as these wait at a time.
const THREADS: usize = 3;
/// How often a write without room is tried again.
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Default)]
struct State {
    waiting: VecDeque<(Request, Arc<Memory>)>,
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

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(PoisonError::into_inner)
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
        let shared = Arc::new(Shared {
            disk,
            state: Mutex::default(),
            changed: Condvar::new(),
            waker,
            full,
        });
        let mut pool = Self {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        for _ in 0..THREADS {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("disk-wait".into());
            pool.threads.push(thread.spawn(move || work(&shared))?);
        }
        Ok(pool)
    }

    /// Gives a request to the threads.
    pub fn give(&self, request: Request, memory: Arc<Memory>) {
        self.shared.lock().waiting.push_back((request, memory));
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
        self.shared.changed.notify_all();
        while state.working > 0 {
            state = self.shared.wait(state);
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
    while !state.over {
        let Some((request, memory)) = state.waiting.pop_front() else {
            state = shared.wait(state);
            continue;
        };
        state.working += 1;
        drop(state);
        let done = patiently(shared, &request, &memory);
        drop(memory);
        state = shared.lock();
        state.working -= 1;
        match done {
            Some(done) if !state.abandoned => {
                state.done.push_back((request, done));
                shared.waker.wake();
            }
            _ => shared.changed.notify_all(),
        }
    }
}

/// Does it, and waits for room where there is none; nothing when it was abandoned meanwhile.
fn patiently(shared: &Shared, request: &Request, memory: &Memory) -> Option<Done> {
    if let Ok(done) = shared.disk.do_it(request, memory) {
        return Some(done);
    }
    shared.full.enter();
    let done = loop {
        let state = shared.lock();
        let waited = shared
            .changed
            .wait_timeout_while(state, AGAIN, |state| !state.abandoned);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.abandoned {
            break None;
        }
        drop(state);
        if let Ok(done) = shared.disk.do_it(request, memory) {
            break Some(done);
        }
    };
    shared.full.leave();
    done
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
        let file = File::options().write(true).open("/dev/full").unwrap();
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
        pool.give(request, Arc::clone(&memory));
        while !full.now() {
            std::thread::yield_now();
        }
        assert!(pool.take().is_none());
        pool.abandon();
        assert!(!full.now() && pool.take().is_none());
        assert_eq!(Arc::strong_count(&memory), 1);
    }
}
