//! Sockets of the host for those of the guest that send without a connection: one for each pair of ends,
//! kept as long as it is used.
//!
//! Called for datagrams and for echo requests.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::net::UdpSocket;

use super::tcp::Around;
use super::timers::Token;

/// One of them.
#[derive(Debug)]
pub struct Mapping<E> {
    /// Whose it is.
    pub ends: E,
    /// The host's socket, which knows where it sends to.
    pub socket: UdpSocket,
    used: Instant,
    /// How long it is kept that is not used.
    idle: Duration,
    deadline: Option<Instant>,
}

/// All of one protocol.
#[derive(Debug)]
pub struct Mappings<E> {
    all: HashMap<Token, Mapping<E>>,
    by_ends: HashMap<E, Token>,
}

impl<E: Copy + Eq + Hash> Mappings<E> {
    /// None yet.
    pub fn new() -> Self {
        Self {
            all: HashMap::new(),
            by_ends: HashMap::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether these ends have one.
    pub fn has(&self, ends: &E) -> bool {
        self.by_ends.contains_key(ends)
    }

    /// Begins one, unless its socket cannot be waited for.
    pub fn begin(
        &mut self,
        ends: E,
        mut socket: UdpSocket,
        idle: Duration,
        around: &Around<'_>,
        token: Token,
    ) -> Option<()> {
        around
            .registry
            .register(&mut socket, mio::Token(token), Interest::READABLE)
            .ok()?;
        self.by_ends.insert(ends, token);
        self.all.insert(
            token,
            Mapping {
                ends,
                socket,
                used: around.now,
                idle,
                deadline: None,
            },
        );
        Some(())
    }

    /// That of these ends, which is used now.
    pub fn of(&mut self, ends: &E, around: &mut Around<'_>) -> Option<&mut Mapping<E>> {
        let token = *self.by_ends.get(ends)?;
        let mapping = self.all.get_mut(&token)?;
        mapping.used = around.now;
        if mapping.deadline.is_none() {
            let at = Some(around.now + mapping.idle);
            around.timers.set(token, &mut mapping.deadline, at);
        }
        Some(mapping)
    }

    /// The one whose socket has something new.
    pub fn stirred(&mut self, token: Token, now: Instant) -> Option<&mut Mapping<E>> {
        let mapping = self.all.get_mut(&token)?;
        mapping.used = now;
        Some(mapping)
    }

    /// A deadline has passed: one that was used meanwhile has another, else it goes.
    pub fn waited(&mut self, token: Token, around: &mut Around<'_>) {
        let Some(mapping) = self.all.get_mut(&token) else {
            return;
        };
        mapping.deadline = None;
        let until = mapping.used + mapping.idle;
        if until > around.now {
            around.timers.set(token, &mut mapping.deadline, Some(until));
        } else {
            self.remove(token, around);
        }
    }

    /// Ends the one that was not used for longest.
    pub fn make_room(&mut self, around: &mut Around<'_>) {
        let oldest = self.all.iter().min_by_key(|(_, mapping)| mapping.used);
        if let Some(token) = oldest.map(|(token, _)| *token) {
            self.remove(token, around);
        }
    }

    fn remove(&mut self, token: Token, around: &mut Around<'_>) {
        if let Some(mut mapping) = self.all.remove(&token) {
            self.by_ends.remove(&mapping.ends);
            around.timers.set(token, &mut mapping.deadline, None);
            let _ = around.registry.deregister(&mut mapping.socket);
        }
    }
}
