//! How many connections and conversations there may be, and how many of them one container may have: as many as are
//! free, so that there is always room for another, whoever is flooded.
//!
//! Of one that is flooded that is half of all, of two a third each, and so on; nobody has to be told how many there are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections and conversations of all containers at once.
pub const CONNECTIONS: usize = 32_768;

/// The room that there is.
#[derive(Debug)]
pub(super) struct Room {
    free: Mutex<usize>,
}

impl Room {
    pub(super) const fn new(places: usize) -> Self {
        Self {
            free: Mutex::new(places),
        }
    }

    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static ROOM: Room = Room::new(CONNECTIONS);

/// What one container has of it.
#[derive(Debug)]
pub struct Share {
    room: &'static Room,
    held: AtomicUsize,
    /// Whether it was said that this has too many; said again after it had room.
    told: AtomicBool,
}

/// Room for one connection or conversation, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Place(Arc<Share>);

impl Default for Share {
    fn default() -> Self {
        Self::of(&ROOM)
    }
}

impl Share {
    pub(super) const fn of(room: &'static Room) -> Self {
        Self {
            room,
            held: AtomicUsize::new(0),
            told: AtomicBool::new(false),
        }
    }

    /// Room for one more; nothing where it has as many as are left for others.
    pub fn place(self: &Arc<Self>) -> Option<Place> {
        let mut free = self.room.free();
        // Changed with the lock alone.
        let held = self.held.load(Ordering::Relaxed);
        if held >= *free {
            // Not with the lock of all: a log may be slow.
            drop(free);
            if !self.told.swap(true, Ordering::Relaxed) {
                tracing::warn!(held, "a container has too many connections");
            }
            return None;
        }
        self.told.store(false, Ordering::Relaxed);
        *free -= 1;
        self.held.store(held + 1, Ordering::Relaxed);
        Some(Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut free = self.0.room.free();
        *free += 1;
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(places: usize) -> impl Fn() -> Arc<Share> {
        let room: &'static Room = Box::leak(Box::new(Room::new(places)));
        move || Arc::new(Share::of(room))
    }

    fn fill(share: &Arc<Share>) -> Vec<Place> {
        std::iter::from_fn(|| share.place()).collect()
    }

    #[test]
    fn whoever_is_flooded_leaves_room_for_others() {
        let share = room(12);
        let (first, second, third) = (share(), share(), share());
        let flood = fill(&first);
        assert_eq!(flood.len(), 6);
        assert_eq!(fill(&second).len(), 3);
        let _few = [second.place().unwrap(), second.place().unwrap()];
        let mut others = fill(&third);
        assert_eq!(others.len(), 2);
        // What is given back is there for everybody again.
        drop(flood);
        others.extend(fill(&third));
        assert_eq!(others.len(), 5);
        drop(others);
        assert_eq!(fill(&share()).len(), 5);
    }

    #[test]
    fn however_many_are_flooded_another_has_a_place() {
        let share = room(64);
        let all: Vec<_> = (0..5).map(|_| share()).collect();
        let _held: Vec<_> = all.iter().map(fill).collect();
        assert!(share().place().is_some());
    }
}
