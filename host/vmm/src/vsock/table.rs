//! All streams of a device, by slot and by name.

use std::collections::HashMap;

use super::stream::{Key, Stream};

/// The most streams at a time. Each costs the host a descriptor and under 400 bytes while idle.
pub const MAX_STREAMS: usize = 32_768;
/// Host-initiated streams take their ports from here on; below are names.
const FIRST_EPHEMERAL: u32 = 1 << 20;

/// A slot and the number of its use, so that a late event cannot meet its next user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    slot: u32,
    generation: u32,
}

impl Id {
    /// Packs it for epoll.
    pub fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// Unpacks it.
    pub fn from_token(token: u64) -> Self {
        Self {
            slot: token as u32,
            generation: (token >> 32) as u32,
        }
    }
}

#[derive(Default)]
struct Slot {
    generation: u32,
    stream: Option<Box<Stream>>,
}

/// The table.
#[derive(Default)]
pub struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    names: HashMap<Key, Id>,
    next_port: u32,
    len: usize,
}

impl Table {
    /// Streams in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether another one finds room.
    pub fn has_room(&self) -> bool {
        self.len < MAX_STREAMS
    }

    /// A host port that no stream to that guest port uses.
    pub fn free_port(&mut self, guest: u32) -> u32 {
        loop {
            let host = FIRST_EPHEMERAL + self.next_port % (1 << 30);
            self.next_port = self.next_port.wrapping_add(1);
            if !self.names.contains_key(&Key { host, guest }) {
                return host;
            }
        }
    }

    /// Puts a stream in. There must be room, and the name must be free.
    pub fn insert(&mut self, stream: Stream) -> Id {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            // At most MAX_STREAMS slots are ever made.
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        let id = Id {
            slot,
            generation: entry.generation,
        };
        self.names.insert(stream.key, id);
        entry.stream = Some(Box::new(stream));
        self.len += 1;
        id
    }

    /// The stream of that slot and use.
    pub fn get(&mut self, id: Id) -> Option<&mut Stream> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation == id.generation {
            slot.stream.as_deref_mut()
        } else {
            None
        }
    }

    /// The stream of that name.
    pub fn find(&self, key: Key) -> Option<Id> {
        self.names.get(&key).copied()
    }

    /// Makes the name free while the stream stays.
    pub fn forget_name(&mut self, id: Id) {
        if let Some(key) = self.get(id).map(|stream| stream.key)
            && self.names.get(&key) == Some(&id)
        {
            self.names.remove(&key);
        }
    }

    /// Takes a stream out.
    pub fn remove(&mut self, id: Id) -> Option<Box<Stream>> {
        self.forget_name(id);
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let stream = slot.stream.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.len -= 1;
        if self.len == 0 {
            // The memory of a busy hour is not kept for the quiet day after; generations go on.
            self.names.shrink_to_fit();
        }
        Some(stream)
    }

    /// Every stream in it.
    pub fn ids(&self) -> Vec<Id> {
        let used = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.stream.is_some());
        used.map(|(at, slot)| Id {
            slot: at as u32,
            generation: slot.generation,
        })
        .collect()
    }
}
