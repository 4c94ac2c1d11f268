//! A device without its thread, for who drives it step by step: unit tests and `tests/fuzz`.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use rustix::event::Timespec;

use super::{Handler, Waker, Worker};
use crate::device::{Activation, Device, Identity};
use crate::ring::BadRing;

/// The device; a clone of it is the same one.
pub(crate) struct InPlace<H> {
    identity: Identity,
    worker: Arc<Mutex<Worker<H>>>,
}

impl<H> Clone for InPlace<H> {
    fn clone(&self) -> Self {
        Self {
            identity: self.identity.clone(),
            worker: Arc::clone(&self.worker),
        }
    }
}

impl<H: Handler> InPlace<H> {
    /// A device that does nothing by itself.
    pub(crate) fn new(identity: Identity, waker: Waker, handler: H) -> Self {
        let worker = Worker {
            handler,
            // Its commands come by the calls below.
            inbox: mpsc::channel().1,
            waker,
            running: None,
        };
        Self {
            identity,
            worker: Arc::new(Mutex::new(worker)),
        }
    }

    fn worker(&self) -> MutexGuard<'_, Worker<H>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets it do what there is to do, in at most so many turns; whether it came to rest.
    ///
    /// # Errors
    /// When its descriptors cannot be waited for.
    pub(crate) fn rest(&self, turns: usize) -> io::Result<bool> {
        let mut worker = self.worker();
        for _ in 0..turns {
            let (woken, rung) = match worker.wait(Some(&Timespec::default())) {
                Err(rustix::io::Errno::INTR) => continue,
                ready => ready?,
            };
            if !woken && rung.is_empty() {
                return Ok(true);
            }
            if woken {
                worker.woken();
            }
            worker.serve(&rung);
        }
        Ok(false)
    }
}

impl<H: Handler> Device for InPlace<H> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn activate(&mut self, activation: Activation) -> Result<(), BadRing> {
        self.worker().start(activation)
    }

    fn reset(&mut self) {
        let mut worker = self.worker();
        worker.running = None;
        worker.handler.stop();
    }
}
