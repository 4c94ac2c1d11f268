//! Memory that some connections have and others lack: it is given back by those that are quiet, and by those that have more
//! than all of their container could have.
//!
//! Called by the table of connections at each round. A window that the guest was told of is never taken back: a ring for the
//! host gets smaller only as the guest uses its window up, and one that ended with a wide window keeps it.

use std::time::{Duration, Instant};

use super::Tcp;
use super::budget::Budget;
use super::flow::Flow;

/// Silence of the guest after which a connection that has nothing for it is quiet.
const QUIET: Duration = Duration::from_secs(1);
/// From one look at all connections to the next.
const INTERVAL: Duration = Duration::from_secs(1);

impl Tcp {
    /// Looks for memory where a ring could not grow.
    pub(super) fn reclaim(&mut self, now: Instant) {
        if now < self.reclaimed + INTERVAL || !self.budget.was_short() {
            return;
        }
        self.reclaimed = now;
        for flow in self.flows.values_mut() {
            give_back(flow, &mut self.budget, now);
        }
    }
}

/// Has rings of a connection hold no more than they need, or where those of its container lack memory than these have.
pub(super) fn give_back(flow: &mut Flow, budget: &mut Budget, now: Instant) {
    let source = flow.ends.guest.ip();
    let is_quiet = flow.to_guest.is_empty() && now >= flow.silence.heard() + QUIET;
    if !is_quiet && !budget.is_short_of(source) {
        return;
    }
    let most = match is_quiet {
        true => 0,
        false => budget.largest(source),
    };
    if flow.to_guest.limit() > most {
        budget.lower(source, &mut flow.to_guest, most);
        flow.moved_in = 0;
    }
    let most = most.max(flow.told() + flow.to_host.len());
    if flow.to_host.limit() > most {
        budget.lower(source, &mut flow.to_host, most);
        flow.moved_out = 0;
    }
}
