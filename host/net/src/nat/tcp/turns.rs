//! In which order connections send to a guest that has not room for all they have.
//!
//! ```text
//!   something new ──► changed ──answers, little content──► guest
//!                        └──content──► waiting ──in turn──► guest
//! ```
//!
//! Content waits in one line: whoever has sent goes behind all others, and where there is no room the first waits for it.
//! Answers (of a connection that is made, of what was taken, of an end) do not wait behind the content of others, nor does the
//! little that one has who has had no turn, if ever, since the first began to wait: a guest whose answers are late sends
//! again, and a request is not behind a thousand transfers. Called by the table of connections.

use std::collections::{HashMap, VecDeque};

use super::flow::Flow;
use super::output::{self, Sent};
use super::{Around, Tcp, Token};

/// Content that may go before that of others.
const LITTLE: usize = 16 << 10;
/// Tokens of connections that are over may stay in a line, so many beside as many as there are connections.
const LEFT_OVER: usize = 64;

/// The lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// Those of which something is new.
    changed: VecDeque<Token>,
    /// Those that have content, in the order of their turns.
    waiting: VecDeque<Token>,
    /// Turns that there were.
    turns: u64,
}

/// Where a connection is in them.
#[derive(Debug, Default)]
pub struct Place {
    is_changed: bool,
    is_waiting: bool,
    /// The turns there had been when it began to wait.
    since: u64,
    /// And at its last turn.
    served: u64,
    /// Bytes of content that it sent in this turn.
    pub(super) sent: usize,
}

impl Tcp {
    /// Has one looked at that may have to send something.
    pub(super) fn line_up(&mut self, token: Token) {
        if let Some(flow) = self.flows.get_mut(&token)
            && !flow.place.is_changed
        {
            flow.place.is_changed = true;
            push(&mut self.lines.changed, token, &self.flows);
        }
    }

    /// Sends what everybody owes, as far as the guest has room for frames.
    pub fn flush(&mut self, around: &mut Around<'_>) {
        self.reclaim(around.now);
        // Else what is owed goes with what follows.
        let is_full = !self.lines.waiting.is_empty();
        while let Some(token) = self.lines.changed.pop_front() {
            if self.look_at(token, is_full, around) == Sent::Starved {
                if let Some(flow) = self.flows.get_mut(&token) {
                    flow.place.is_changed = true;
                }
                self.lines.changed.push_front(token);
                return;
            }
        }
        while let Some(token) = self.lines.waiting.pop_front() {
            if self.serve(token, around) == Sent::Starved {
                if let Some(flow) = self.flows.get_mut(&token) {
                    // It goes on with its turn.
                    flow.place.is_waiting = true;
                }
                self.lines.waiting.push_front(token);
                if !is_full {
                    self.line_up_answers();
                }
                return;
            }
        }
    }

    /// Has those looked at again that wait with an answer, since there was no room for all.
    fn line_up_answers(&mut self) {
        for token in &self.lines.waiting {
            if let Some(flow) = self.flows.get_mut(token)
                && flow.owes_answer
                && !flow.place.is_changed
            {
                flow.place.is_changed = true;
                self.lines.changed.push_back(*token);
            }
        }
    }

    /// Sends the answers of one that changed, and puts it in line with its content.
    fn look_at(&mut self, token: Token, is_full: bool, around: &mut Around<'_>) -> Sent {
        let since = self.first_waits_since();
        let Some(flow) = self.flows.get_mut(&token) else {
            return Sent::All;
        };
        flow.place.is_changed = false;
        flow.share = self.budget.share(flow.ends.guest.ip());
        let unsent = output::unsent(flow);
        if unsent == 0 {
            return self.send(token, around);
        }
        if flow.place.is_waiting {
            return output::answers(flow, is_full, around);
        }
        if is_full && unsent <= LITTLE && flow.place.served < since {
            return self.serve(token, around);
        }
        let sent = output::answers(flow, is_full, around);
        if sent == Sent::All {
            self.wait(token);
        }
        sent
    }

    fn wait(&mut self, token: Token) {
        if let Some(flow) = self.flows.get_mut(&token) {
            flow.place.is_waiting = true;
            flow.place.since = self.lines.turns;
            push(&mut self.lines.waiting, token, &self.flows);
        }
    }

    /// Since which turn the first waits.
    fn first_waits_since(&self) -> u64 {
        let mut waiting = self.lines.waiting.iter();
        let first = waiting.find_map(|token| self.flows.get(token));
        first.map_or(0, |flow| flow.place.since)
    }

    /// Has one send that has its turn.
    fn serve(&mut self, token: Token, around: &mut Around<'_>) -> Sent {
        if let Some(flow) = self.flows.get_mut(&token) {
            flow.place.is_waiting = false;
        }
        self.lines.turns += 1;
        let sent = self.send(token, around);
        if sent == Sent::Starved {
            self.lines.turns -= 1;
        } else if let Some(flow) = self.flows.get_mut(&token) {
            flow.place.served = self.lines.turns;
        }
        sent
    }

    fn send(&mut self, token: Token, around: &mut Around<'_>) -> Sent {
        let Some(flow) = self.flows.get_mut(&token) else {
            return Sent::All;
        };
        flow.share = self.budget.share(flow.ends.guest.ip());
        let sent = output::output(flow, around.wire, around.plan);
        if sent == Sent::Starved {
            return sent;
        }
        flow.place.sent = 0;
        if sent == Sent::Reset || flow.is_over() {
            self.remove(token, sent == Sent::Reset, around);
            return sent;
        }
        let overdue = flow.overdue(around.now);
        let mut old = flow.deadline;
        around.timers.set(token, &mut old, overdue);
        flow.deadline = old;
        if sent == Sent::Turn {
            self.wait(token);
        }
        sent
    }

    /// How many tokens are in the lines.
    #[cfg(test)]
    pub fn lined_up(&self) -> usize {
        self.lines.changed.len() + self.lines.waiting.len()
    }
}

/// Puts one at the end. Those of connections that are over stay until it is their turn, but not for ever where it never is.
fn push(line: &mut VecDeque<Token>, token: Token, flows: &HashMap<Token, Flow>) {
    if line.len() > flows.len() + LEFT_OVER {
        line.retain(|token| flows.contains_key(token));
    }
    line.push_back(token);
}
