//! Restart policies: whether a container that ended starts again, and after which pause.

use std::sync::Arc;
use std::time::Duration;

use super::Container;
use super::record::{RunState, Status};
use crate::db::Sync;
use crate::engine::Engine;
use crate::model::RestartPolicy;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A run this long starts the pauses over.
const STEADY: Duration = Duration::from_secs(10);

/// The pause before the next start, if there is to be one.
pub(super) fn decide(policy: &RestartPolicy, run: &RunState) -> Option<Duration> {
    if run.manually_stopped || !wants(policy, run) {
        return None;
    }
    let doublings = if steady(run) { 0 } else { run.backoff.min(10) };
    Some((FIRST * 2u32.pow(doublings)).min(LONGEST))
}

fn steady(run: &RunState) -> bool {
    run.finished.since(run.started) >= STEADY
}

/// Whether a container is to be started when the machine comes up.
pub(super) fn wanted_at_boot(policy: &RestartPolicy, run: &RunState) -> bool {
    if run.started.is_never() {
        return false;
    }
    match policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !run.manually_stopped,
        _ => !run.manually_stopped && wants(policy, run),
    }
}

/// Whether a start says something new about what is to run when the machine comes up: then it must not be lost with
/// the machine.
pub(super) fn intent_changes(policy: &RestartPolicy, run: &RunState, was_stopped: bool) -> bool {
    match policy.name.as_str() {
        "always" => run.started.is_never(),
        "unless-stopped" | "on-failure" => run.started.is_never() || was_stopped,
        _ => false,
    }
}

/// Whether a container that was `before` for the last engine is to be started by the next one in
/// the same run of the machine, which found that it does not run.
pub(super) fn wanted_at_take_up(policy: &RestartPolicy, before: Status, run: &RunState) -> bool {
    match before {
        Status::Restarting => !run.manually_stopped,
        before => before.is_running() && decide(policy, run).is_some(),
    }
}

fn wants(policy: &RestartPolicy, run: &RunState) -> bool {
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            let limit = policy.maximum_retry_count;
            run.exit_code != 0 && (limit == 0 || i64::from(run.restart_count) < limit)
        }
        _ => false,
    }
}

/// Counts the start that is to follow, as soon as it is decided on.
pub(super) fn count(run: &mut RunState) {
    run.restart_count += 1;
    run.backoff = if steady(run) { 1 } else { run.backoff + 1 };
}

impl Engine {
    /// Waits and starts again, unless somebody stops the container in between.
    pub(super) async fn restart_after(
        self: &Arc<Self>,
        container: &Arc<Container>,
        pause: Duration,
    ) {
        // What was told before this pause began was not meant for it.
        let unwanted = || self.is_stopping() || container.state().run.manually_stopped;
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        while !unwanted() {
            tokio::select! {
                () = &mut over => break,
                () = container.cancel_restart.notified() => {}
            }
        }
        let _op = container.op.lock().await;
        if container.status() != Status::Restarting {
            return;
        }
        if unwanted() {
            self.stay_stopped(container).await;
            return;
        }
        let before = container.state().run;
        if let Err(error) = self.start_locked(container, false).await {
            if container.state().run.manually_stopped {
                // No failure: its last run is still the one before.
                container.change(|state| {
                    state.last_exit = (before.exit_code, String::new());
                    state.run = RunState {
                        manually_stopped: true,
                        ..before
                    };
                });
            } else {
                tracing::warn!(error = error.text(), "a container cannot be started again");
            }
            self.stay_stopped(container).await;
        }
    }

    async fn stay_stopped(&self, container: &Arc<Container>) {
        container.change(|state| state.run.status = Status::Exited);
        if let Err(error) = self.save_state(container, Sync::Lazy).await {
            tracing::error!(error = error.text(), "a container's state is not recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn policy(name: &str, count: i64) -> RestartPolicy {
        RestartPolicy {
            name: name.into(),
            maximum_retry_count: count,
        }
    }

    fn run(exit_code: i32, restart_count: u32, seconds: i64) -> RunState {
        RunState {
            exit_code,
            restart_count,
            backoff: restart_count,
            started: Timestamp::from_unix_ns(0),
            finished: Timestamp::from_unix_ns(seconds * 1_000_000_000),
            ..RunState::default()
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_start_over_after_a_steady_run() {
        let pause = |count, seconds| decide(&policy("always", 0), &run(0, count, seconds));
        assert_eq!(pause(0, 1), Some(Duration::from_millis(100)));
        assert_eq!(pause(3, 1), Some(Duration::from_millis(800)));
        assert_eq!(pause(30, 1), Some(Duration::from_secs(60)));
        assert_eq!(pause(30, 10), Some(Duration::from_millis(100)));
    }

    #[test]
    fn a_first_start_and_a_start_after_a_stop_say_what_is_to_run() {
        let changes = |name, started: bool, stopped| {
            let mut run = run(0, 0, 1);
            if !started {
                run.started = Timestamp::NEVER;
            }
            intent_changes(&policy(name, 0), &run, stopped)
        };
        for name in ["always", "unless-stopped", "on-failure"] {
            assert!(changes(name, false, false), "{name}");
            assert!(!changes(name, true, false), "{name}");
            assert_eq!(changes(name, true, true), name != "always");
        }
        assert!(!changes("no", false, true));
    }

    #[test]
    fn policies() {
        for (name, count, code, restarts, again) in [
            ("no", 0, 1, 0, false),
            ("on-failure", 0, 0, 0, false),
            ("on-failure", 0, 1, 99, true),
            ("on-failure", 2, 1, 1, true),
            ("on-failure", 2, 1, 2, false),
            ("unless-stopped", 0, 0, 5, true),
        ] {
            let decided = decide(&policy(name, count), &run(code, restarts, 1)).is_some();
            assert_eq!(decided, again, "{name} {count} {code} {restarts}");
        }
    }

    #[test]
    fn what_its_user_stopped_stays_stopped() {
        let stopped = RunState {
            manually_stopped: true,
            ..run(1, 0, 1)
        };
        assert_eq!(decide(&policy("always", 0), &stopped), None);
        assert!(wanted_at_boot(&policy("always", 0), &stopped));
        assert!(!wanted_at_boot(&policy("unless-stopped", 0), &stopped));
        let taken_up =
            |before, run: &RunState| wanted_at_take_up(&policy("always", 0), before, run);
        for before in [Status::Restarting, Status::Running, Status::Paused] {
            assert!(taken_up(before, &run(1, 0, 1)));
            assert!(!taken_up(before, &stopped), "{before:?}");
        }
        assert!(!taken_up(Status::Exited, &run(1, 0, 1)));
        let never = RunState::default();
        assert!(!wanted_at_boot(&policy("always", 0), &never));
    }
}
