//! Datagrams that wait for their conversation: so many bytes of one, and so many of all. More are lost, as they are on a
//! network, and nobody waits for anybody.

use std::sync::{Arc, LazyLock};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that wait of one conversation; the host's own bound.
const OF_ONE: usize = 128 << 10;
/// Bytes that wait of all.
const OF_ALL: usize = 8 << 20;
/// What a datagram costs beside its bytes.
const EACH: usize = 128;

static ALL: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(OF_ALL)));

/// Where datagrams are left.
#[derive(Debug)]
pub(super) struct Says {
    queue: UnboundedSender<Said>,
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// Where they are taken.
pub(super) type Hears = UnboundedReceiver<Said>;

/// A datagram; its room is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Said {
    pub bytes: Vec<u8>,
    _room: [OwnedSemaphorePermit; 2],
}

/// Of one conversation.
pub(super) fn queue() -> (Says, Hears) {
    of(OF_ONE, &ALL)
}

fn of(bytes: usize, all: &Arc<Semaphore>) -> (Says, Hears) {
    let (queue, hears) = unbounded_channel();
    let says = Says {
        queue,
        own: Arc::new(Semaphore::new(bytes)),
        all: Arc::clone(all),
    };
    (says, hears)
}

impl Says {
    /// Leaves one; it is lost where there is no room, or nobody who takes it.
    pub fn leave(&self, datagram: &[u8]) {
        let cost = u32::try_from(EACH + datagram.len()).unwrap_or(u32::MAX);
        let room = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_many_owned(cost).ok();
        let (Some(own), Some(all)) = (room(&self.own), room(&self.all)) else {
            return;
        };
        let _ = self.queue.send(Said {
            bytes: datagram.to_vec(),
            _room: [own, all],
        });
    }

    /// Whether nobody takes them any more.
    pub fn is_over(&self) -> bool {
        self.queue.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(hears: &mut Hears) -> usize {
        std::iter::from_fn(|| hears.try_recv().ok()).count()
    }

    #[test]
    fn so_many_bytes_wait_of_one_and_of_all_and_more_are_lost() {
        let all = Arc::new(Semaphore::new(5_000));
        let (flood, mut hears_flood) = of(3_000, &all);
        let (other, mut hears_other) = of(3_000, &all);
        for _ in 0..100 {
            flood.leave(&[0; 1_000 - EACH]);
        }
        for _ in 0..100 {
            other.leave(&[0; 1_000 - EACH]);
        }
        assert_eq!(taken(&mut hears_flood), 3);
        assert_eq!(taken(&mut hears_other), 2);
        // What was taken makes room, and what is empty costs something too.
        for _ in 0..1_000 {
            flood.leave(b"");
        }
        assert_eq!(taken(&mut hears_flood), 3_000 / EACH);
        assert_eq!(all.available_permits(), 5_000);
        drop(hears_flood);
        flood.leave(b"x");
        assert!(flood.is_over());
        assert_eq!(all.available_permits(), 5_000);
    }
}
