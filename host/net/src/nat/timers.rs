//! When which flow wants to be looked at again.

use std::collections::BTreeSet;
use std::time::Instant;

/// Names a flow; never used for another one.
pub type Token = usize;

/// Deadlines in their order; one a flow at most.
#[derive(Debug, Default)]
pub struct Timers(BTreeSet<(Instant, Token)>);

impl Timers {
    /// Moves a flow's deadline from `old` to `new`.
    pub fn set(&mut self, token: Token, old: &mut Option<Instant>, new: Option<Instant>) {
        if *old == new {
            return;
        }
        if let Some(old) = old.take() {
            self.0.remove(&(old, token));
        }
        if let Some(new) = new {
            self.0.insert((new, token));
        }
        *old = new;
    }

    /// A flow whose deadline has passed; it has none any more.
    pub fn due(&mut self, now: Instant) -> Option<Token> {
        let (at, token) = *self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some(token)
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }
}
