//! What nobody may collect, because somebody is making an image of it.
//!
//! Layers and configurations are stored, or found to be there already, before an image names them.
//! A [`Pin`] on their digests covers that time: taken before the store is asked, dropped after the
//! image is recorded. Called by pull and load, and by the engine for
//! a container that is being made; asked by [`Store::collect`](crate::Store::collect).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::digest::Digest;

/// How often each digest is pinned.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pins(Arc<Mutex<HashMap<Digest, u32>>>);

impl Pins {
    pub(crate) fn pin(&self, digests: impl IntoIterator<Item = Digest>) -> Pin {
        let mut pin = Pin {
            pins: self.clone(),
            digests: Vec::new(),
        };
        pin.add(digests);
        pin
    }

    /// Runs `remove` unless the digest is pinned; nobody pins it meanwhile.
    pub(crate) fn unless_pinned<T>(
        &self,
        digest: &Digest,
        remove: impl FnOnce() -> T,
    ) -> Option<T> {
        let counts = self.lock();
        (!counts.contains_key(digest)).then(remove)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Digests that are not collected while this lives.
#[derive(Debug)]
#[must_use]
pub struct Pin {
    pins: Pins,
    digests: Vec<Digest>,
}

impl Pin {
    /// Pins these as well.
    pub fn add(&mut self, digests: impl IntoIterator<Item = Digest>) {
        let mut counts = self.pins.lock();
        for digest in digests {
            *counts.entry(digest).or_default() += 1;
            self.digests.push(digest);
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut counts = self.pins.lock();
        for digest in &self.digests {
            match counts.get_mut(digest) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    counts.remove(digest);
                }
            }
        }
    }
}
