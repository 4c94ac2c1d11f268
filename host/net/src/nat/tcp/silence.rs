//! A guest that says nothing for long, asked whether it still knows the connection (RFC 9293, section 3.8.4): a container
//! that was removed says no word of its end, and its server may never speak. Whoever is there answers by itself, also for
//! a program that does nothing.
//!
//! Called by the connection it belongs to. Nothing is moved with every segment: a deadline that comes too early is set anew.

use std::time::{Duration, Instant};

/// Silence after which it is asked.
const QUIET: Duration = Duration::from_secs(10 * 60);
/// From one question to the next.
const INTERVAL: Duration = Duration::from_secs(60);
/// Questions without an answer.
const QUESTIONS: u8 = 8;

/// How long a guest has been silent.
#[derive(Debug)]
pub struct Silence {
    heard: Instant,
    asked: u8,
    /// It is to be asked as soon as it has room.
    pub(super) owes_question: bool,
    /// The connection's deadline is of this.
    watched: bool,
}

impl Silence {
    /// It has just spoken.
    pub fn new(now: Instant) -> Self {
        Self {
            heard: now,
            asked: 0,
            owes_question: false,
            watched: false,
        }
    }

    /// It says something.
    pub fn hear(&mut self, now: Instant) {
        (self.heard, self.asked, self.owes_question) = (now, 0, false);
    }

    /// When it spoke last.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// The deadline is not of this from now on; whether it was.
    pub fn unwatch(&mut self) -> bool {
        std::mem::take(&mut self.watched)
    }

    /// Whether the deadline is of this.
    pub fn is_watched(&self) -> bool {
        self.watched
    }

    /// When there is something to do, where the connection's deadline was `old` so far.
    pub fn deadline(&mut self, old: Option<Instant>, now: Instant) -> Instant {
        let was = std::mem::replace(&mut self.watched, true);
        match (old, self.asked) {
            (Some(old), _) if was => old,
            (_, 0) => self.heard + QUIET,
            _ => now + INTERVAL,
        }
    }

    /// The deadline has passed; false if nobody is there any more.
    pub fn waited(&mut self, now: Instant) -> bool {
        if now < self.heard + QUIET {
            return true;
        }
        if self.asked >= QUESTIONS {
            return false;
        }
        self.asked += 1;
        self.owes_question = true;
        true
    }
}
