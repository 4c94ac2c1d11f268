//! All clients of UDP: who is known, and who is forgotten for another.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::flow::Flow;
use super::limits::Limits;

/// By what a client is known: the port, its own address, and that of this host it spoke to.
pub(super) type Key = (u64, SocketAddr, IpAddr);

/// The clients.
#[derive(Debug)]
pub(super) struct Flows {
    known: Mutex<HashMap<Key, Arc<Flow>>>,
    ports: AtomicU64,
    /// Bytes that wait for the guest.
    waiting: Arc<AtomicUsize>,
    limits: Limits,
    /// Where datagrams arrive, one after the other.
    pub scratch: Mutex<Vec<u8>>,
}

impl Flows {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            known: Mutex::default(),
            ports: AtomicU64::new(0),
            waiting: Arc::default(),
            limits,
            scratch: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Arc<Flow>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for a port that no other has.
    pub fn next_port(&self) -> u64 {
        self.ports.fetch_add(1, Ordering::Relaxed)
    }

    /// How many clients are known.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known().len()
    }

    /// How many bytes wait.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The places of those clients of a port whom the guest has not taken yet.
    pub fn beginning(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.limits.beginning))
    }

    /// Leaves a datagram for the guest; false where it was lost for want of room.
    pub fn push(&self, flow: &Flow, datagram: &[u8]) -> bool {
        flow.push(datagram, self.limits.waiting_each, self.limits.waiting)
    }

    /// The client of that name, if it is known.
    pub fn get(&self, key: &Key) -> Option<Arc<Flow>> {
        self.known().get(key).cloned()
    }

    /// Takes a new client in. Where there are too many, the one that was quiet for longest is
    /// forgotten: of its port, or of all.
    pub fn enter(self: &Arc<Self>, key: Key, introduction: Vec<u8>) -> Place {
        let mut known = self.known();
        let of_port = known.keys().filter(|(port, ..)| *port == key.0).count();
        let victim = if of_port >= self.limits.flows_each {
            quietest(&known, |(port, ..)| *port == key.0)
        } else if known.len() >= self.limits.flows {
            quietest(&known, |_| true)
        } else {
            None
        };
        if let Some(flow) = victim.and_then(|key| known.remove(&key)) {
            flow.end();
        }
        let flow = Arc::new(Flow::new(introduction, Arc::clone(&self.waiting)));
        known.insert(key, Arc::clone(&flow));
        drop(known);
        Place {
            flows: Arc::clone(self),
            key,
            flow,
        }
    }
}

fn quietest(known: &HashMap<Key, Arc<Flow>>, of: impl Fn(&Key) -> bool) -> Option<Key> {
    known
        .iter()
        .filter(|(key, _)| of(key))
        .min_by_key(|(_, flow)| flow.quiet_since())
        .map(|(key, _)| *key)
}

/// A client's place among those who are known, for as long as this lives.
pub(super) struct Place {
    flows: Arc<Flows>,
    key: Key,
    /// The client.
    pub flow: Arc<Flow>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.flows.known();
        // It may have been forgotten, and have come again.
        if known
            .get(&self.key)
            .is_some_and(|flow| Arc::ptr_eq(flow, &self.flow))
        {
            known.remove(&self.key);
        }
    }
}
