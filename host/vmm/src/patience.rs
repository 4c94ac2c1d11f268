//! A limit to how long another process is waited for, where a library waits on its socket for as long as it takes.
//!
//! When the time is over the socket is shut down, and whoever waits on it sees its end. That is for ever: what comes
//! late is never taken for the answer to something else.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lighter_platform::sys::threads;

use crate::roles;

/// How long an answer may take. A processor of the guest waits meanwhile.
pub const ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct State {
    deadline: Option<Instant>,
    over: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    socket: UnixStream,
    longest: Duration,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self) {
        // One that is shut down already is as good.
        _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// The watch over one socket.
#[derive(Debug)]
pub struct Patience {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Dropped when the answer is there.
#[derive(Debug)]
#[must_use]
pub struct Limit(Arc<Shared>);

impl Patience {
    /// Starts the thread that watches: an answer may take `longest`.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn spawn(socket: UnixStream, longest: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            socket,
            longest,
        });
        let watched = Arc::clone(&shared);
        let watch = move || watch(&watched);
        Ok(Self {
            thread: Some(threads::spawn("patience", roles::PATIENCE, watch)?),
            shared,
        })
    }

    /// From now on the time runs, until this is dropped.
    pub fn limit(&self) -> Limit {
        self.shared.lock().deadline = Instant::now().checked_add(self.shared.longest);
        self.shared.changed.notify_one();
        Limit(Arc::clone(&self.shared))
    }

    /// Asks nothing any more.
    pub fn give_up(&self) {
        self.shared.give_up();
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.0.lock().deadline = None;
        self.0.changed.notify_one();
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add to it.
            drop(thread.join());
        }
    }
}

fn watch(shared: &Shared) {
    let mut state = shared.lock();
    while !state.over {
        let Some(deadline) = state.deadline else {
            let woken = shared.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            state.deadline = None;
            shared.give_up();
            continue;
        }
        let woken = shared.changed.wait_timeout(state, left);
        state = woken.unwrap_or_else(PoisonError::into_inner).0;
    }
}
