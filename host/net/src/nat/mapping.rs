//! Sockets of the host for those of the guest that send without a connection: one for each pair of ends,
//! kept as long as it is used.
//!
//! Called for datagrams and for echo requests. Where there are as many as there may be, a new one takes the place of one
//! that was not used for long, of whoever has most.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::net::UdpSocket;

use super::holders::Holders;
use super::tcp::Around;
use super::timers::Token;

/// Two ends.
pub trait Pair: Copy + Eq + Hash {
    /// The guest's.
    fn source(&self) -> IpAddr;
}

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
    holders: Holders,
    most: usize,
}

impl<E: Pair> Mappings<E> {
    /// None yet, and `most` at a time.
    pub fn new(most: usize) -> Self {
        Self {
            all: HashMap::new(),
            by_ends: HashMap::new(),
            holders: Holders::default(),
            most,
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

    /// Begins one that these ends do not have yet.
    ///
    /// # Errors
    ///
    /// When its socket cannot be waited for.
    pub fn begin(
        &mut self,
        ends: E,
        mut socket: UdpSocket,
        idle: Duration,
        around: &mut Around<'_>,
        token: Token,
    ) -> io::Result<()> {
        if self.all.len() >= self.most {
            self.make_room(ends.source(), around);
        }
        around
            .registry
            .register(&mut socket, mio::Token(token), Interest::READABLE)?;
        self.by_ends.insert(ends, token);
        self.holders.add(ends.source(), token, around.now);
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
        Ok(())
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

    fn make_room(&mut self, source: IpAddr, around: &mut Around<'_>) {
        let all = &self.all;
        let used = |token: Token| all.get(&token).map(|mapping| mapping.used);
        let holders = &mut self.holders;
        let victim = holders
            .yields_to(source)
            .and_then(|richest| holders.idlest(richest, used));
        if let Some(token) = victim {
            self.remove(token, around);
        }
    }

    fn remove(&mut self, token: Token, around: &mut Around<'_>) {
        if let Some(mut mapping) = self.all.remove(&token) {
            self.by_ends.remove(&mapping.ends);
            self.holders.remove(token);
            around.timers.set(token, &mut mapping.deadline, None);
            let _ = around.registry.deregister(&mut mapping.socket);
        }
    }
}
