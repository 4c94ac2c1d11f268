//! Memory that connections have and others lack: what grew while there was enough of it is given back by those that are
//! quiet, and by those that have more than others of their container may have.
//!
//! Called by the table of connections at each round. A window that the guest was told of is never taken back: rings for the
//! host get smaller only as the guest uses it up.

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

fn give_back(flow: &mut Flow, budget: &mut Budget, now: Instant) {
    let source = flow.ends.guest.ip();
    let is_quiet = flow.to_guest.is_empty() && now >= flow.silence.heard() + QUIET;
    let most = match is_quiet {
        true => 0,
        false => budget.largest(source),
    };
    budget.lower(source, &mut flow.to_guest, most);
    flow.moved_in = 0;
    let told = flow.told() + flow.to_host.len();
    budget.lower(source, &mut flow.to_host, most.max(told));
}
