//! Stop, kill, restart, pause: what makes a running container end or stand still.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use super::record::Status;
use super::signals::{self, KILL, TERM};
use super::{Container, Live};
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Seconds from the stop signal to SIGKILL where nobody says otherwise.
const STOP_TIMEOUT: i64 = 10;
/// How long who asks for a container waits for its start within a restart.
const STARTING: Duration = Duration::from_secs(10);

/// Seconds beyond a container's own time that it is waited for when everything stops.
const STOP_GRACE: i64 = 5;

/// The longest of the given time and of the containers' own; nothing where one has all the time it
/// wants.
fn longest(least: Duration, own: impl IntoIterator<Item = Option<i64>>) -> Option<Duration> {
    own.into_iter().try_fold(least, |longest, seconds| {
        let seconds = u64::try_from(seconds.unwrap_or(STOP_TIMEOUT)).ok()?;
        Some(longest.max(Duration::from_secs(
            seconds.saturating_add(STOP_GRACE.unsigned_abs()),
        )))
    })
}

impl Engine {
    /// How long stopping everything may take: `least`, or longer where a running container was
    /// given more time of its own. Nothing means without end.
    pub fn stop_limit(&self, least: Duration) -> Option<Duration> {
        let running = self.containers().all();
        let running = running
            .iter()
            .filter(|container| container.live().is_some());
        longest(least, running.map(|c| c.record().config.stop_timeout))
    }

    /// Asks a container to end, and makes it after `timeout` seconds (−1: never).
    pub async fn container_stop(
        self: &Arc<Self>,
        reference: &str,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<()> {
        let container = self.containers().find(reference)?;
        let status = container.status();
        if !status.is_running() && status != Status::Restarting {
            return Err(Error::new(
                Kind::NotModified,
                "container is already stopped",
            ));
        }
        let signal = signal.map(signals::parse).transpose()?;
        self.stop_container(&container, signal, timeout, true)
            .await?;
        self.container_event(&container, "stop", &[]);
        Ok(())
    }

    /// Stops a container and waits for its end. `by_user` also keeps its policy from starting it.
    pub(crate) async fn stop_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
        signal: Option<i32>,
        timeout: Option<i64>,
        by_user: bool,
    ) -> Result<()> {
        if by_user {
            self.mark_stopped(container).await?;
        }
        let Some((live, before)) = to_end(container).await else {
            return Ok(());
        };
        let config = container.record().config.clone();
        let own = if config.stop_signal.is_empty() {
            TERM
        } else {
            signals::parse(&config.stop_signal)?
        };
        let mut ended = container.watch();
        self.signal(container, &live, signal.unwrap_or(own))?;
        let seconds = timeout.or(config.stop_timeout).unwrap_or(STOP_TIMEOUT);
        let end = ended.wait_for(|state| state.exits > before || state.removed);
        let Ok(seconds) = u64::try_from(seconds) else {
            // A negative number waits as long as it takes.
            return end.await.map(drop).map_err(|_| gone(container));
        };
        if tokio::time::timeout(Duration::from_secs(seconds), end)
            .await
            .is_ok()
        {
            return Ok(());
        }
        self.signal(container, &live, KILL)?;
        wait_end(container, before).await
    }

    /// Sends a signal; SIGKILL waits for the end.
    pub async fn container_kill(
        self: &Arc<Self>,
        reference: &str,
        signal: Option<&str>,
    ) -> Result<()> {
        let cannot = |error: Error| {
            Error::new(
                error.kind(),
                format!("cannot kill container: {reference}: {}", error.text()),
            )
        };
        let signal = match signal {
            Some(text) if !text.is_empty() => signals::parse(text).map_err(cannot)?,
            _ => KILL,
        };
        let container = self.containers().find(reference).map_err(cannot)?;
        if signal == KILL && container.status() == Status::Restarting {
            return self.kill_container(&container).await;
        }
        let not_running = || {
            Error::conflict(format!(
                "cannot kill container: {reference}: container {} is not running",
                container.id()
            ))
        };
        let before = container.state().exits;
        let live = container.live().ok_or_else(not_running)?;
        if is_to_end(&container, signal)? {
            self.mark_stopped(&container).await?;
        }
        self.signal(&container, &live, signal)?;
        if signal == KILL {
            wait_end(&container, before).await?;
        }
        Ok(())
    }

    /// Kills a container and waits for its end.
    pub(crate) async fn kill_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        self.mark_stopped(container).await?;
        let Some((live, before)) = to_end(container).await else {
            return Ok(());
        };
        self.signal(container, &live, KILL)?;
        wait_end(container, before).await
    }

    /// Stops a container that runs and starts it again.
    pub async fn container_restart(
        self: &Arc<Self>,
        reference: &str,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<()> {
        self.require_open()?;
        let container = self.containers().find(reference)?;
        let restarted = self.restart_container(&container, signal, timeout).await;
        restarted.map_err(|error| {
            let text = format!("Cannot restart container {reference}: {}", error.text());
            Error::new(error.kind(), text)
        })
    }

    async fn restart_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<()> {
        let signal = signal.map(signals::parse).transpose()?;
        container.change(|state| state.starts_again = true);
        let restarted = self.stop_and_start(container, signal, timeout).await;
        container.change(|state| state.starts_again = false);
        restarted
    }

    async fn stop_and_start(
        self: &Arc<Self>,
        container: &Arc<Container>,
        signal: Option<i32>,
        timeout: Option<i64>,
    ) -> Result<()> {
        let status = container.status();
        if status.is_running() || status == Status::Restarting {
            container.change(|state| state.restarting = true);
            let stopped = self.stop_container(container, signal, timeout, true).await;
            container.change(|state| state.restarting = false);
            stopped?;
            self.container_event(container, "stop", &[]);
        }
        match self.start_container(container).await {
            Err(error) if error.kind() == Kind::NotModified => {}
            other => other?,
        }
        self.container_event(container, "restart", &[]);
        Ok(())
    }

    /// Waits until a container that its user restarts runs again, or does not: who hears of its end and asks is told of
    /// the next run, as by dockerd, which answers nothing about a container in between. Not for ever.
    pub async fn restarted(&self, container: &Container) {
        let mut state = container.watch();
        let over = state.wait_for(|state| !state.starts_again || state.run.status.is_running());
        // What takes longer is seen as it is.
        let _ = tokio::time::timeout(STARTING, over).await;
    }

    /// Stops every process of a container where it is.
    pub async fn container_pause(&self, reference: &str) -> Result<()> {
        let container = self.containers().find(reference)?;
        let _op = container.op.lock().await;
        let live = self.running(&container)?;
        if container.status() == Status::Paused {
            return Err(Error::conflict(format!(
                "Container {} is already paused",
                container.id()
            )));
        }
        let frozen = tokio::task::spawn_blocking(move || live.cgroup.freeze()).await;
        let frozen = frozen.map_err(|error| Error::internal("pausing was cut short", error))?;
        frozen.map_err(|error| Error::internal("the container cannot be paused", error))?;
        self.set_paused(&container, Status::Running, Status::Paused, "pause")
            .await
    }

    /// Lets them run on.
    pub async fn container_unpause(&self, reference: &str) -> Result<()> {
        let container = self.containers().find(reference)?;
        let _op = container.op.lock().await;
        if container.status() != Status::Paused {
            return Err(Error::conflict(format!(
                "Container {} is not paused",
                container.id()
            )));
        }
        let live = self.running(&container)?;
        live.cgroup
            .thaw()
            .map_err(|error| Error::internal("the container cannot be resumed", error))?;
        self.set_paused(&container, Status::Paused, Status::Running, "unpause")
            .await
    }

    async fn set_paused(
        &self,
        container: &Arc<Container>,
        from: Status,
        to: Status,
        event: &str,
    ) -> Result<()> {
        container.change(|state| {
            // It may have ended in between.
            if state.run.status == from {
                state.run.status = to;
            }
        });
        self.save_state(container, Sync::Lazy).await?;
        self.container_event(container, event, &[]);
        Ok(())
    }

    /// The container's process.
    pub(crate) fn running(&self, container: &Container) -> Result<Arc<Live>> {
        if container.status() == Status::Restarting {
            return Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                container.id()
            )));
        }
        container
            .live()
            .ok_or_else(|| Error::conflict(format!("container {} is not running", container.id())))
    }

    fn signal(&self, container: &Arc<Container>, live: &Live, signal: i32) -> Result<()> {
        match lighter_runtime::signal(live.pidfd.as_fd(), signal) {
            // It has ended; its end is on the way.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(Error::internal("the signal cannot be sent", error)),
        }
        // A process that stands still takes no signal but SIGKILL.
        let woken =
            container.status() == Status::Paused && signal != KILL && is_to_end(container, signal)?;
        if woken {
            live.cgroup
                .thaw()
                .map_err(|error| Error::internal("the container cannot be resumed", error))?;
            container.change(|state| {
                if state.run.status == Status::Paused {
                    state.run.status = Status::Running;
                }
            });
        }
        self.container_event(container, "kill", &[("signal", &signal.to_string())]);
        if woken {
            self.container_event(container, "unpause", &[]);
        }
        Ok(())
    }

    /// Records that its user wants the container to stay stopped.
    async fn mark_stopped(&self, container: &Arc<Container>) -> Result<()> {
        let changed =
            container.change(|state| !std::mem::replace(&mut state.run.manually_stopped, true));
        if changed {
            let record = container.record();
            let policy = &record.host_config.restart_policy.name;
            // The others do not run, or run all the same, when the machine comes up.
            let sync = if matches!(policy.as_str(), "unless-stopped" | "on-failure") {
                Sync::Durable
            } else {
                Sync::Lazy
            };
            self.save_state(container, sync).await?;
        }
        Ok(())
    }
}

/// Whether a signal is to end this container. Without a stop signal of its own, any is taken for one, as in dockerd.
fn is_to_end(container: &Container, signal: i32) -> Result<bool> {
    let own = &container.record().config.stop_signal;
    Ok(signal == KILL || own.is_empty() || signals::parse(own)? == signal)
}

/// The process that has to be ended, and the count of ends before its own; none if there is none
/// any more. A pause before a restart is cut short, an end that is being recorded is waited for.
async fn to_end(container: &Arc<Container>) -> Option<(Arc<Live>, u64)> {
    let mut watch = container.watch();
    loop {
        // Before the look at the process: an end in between is then seen as one.
        let before = container.state().exits;
        if let Some(live) = container.live() {
            return Some((live, before));
        }
        let status = container.status();
        match status {
            Status::Restarting => container.cancel_restart.notify_one(),
            Status::Running | Status::Paused => {}
            _ => return None,
        }
        let settled = watch
            .wait_for(|state| state.run.status != status || state.exits > before || state.removed)
            .await;
        settled.ok()?;
    }
}

async fn wait_end(container: &Arc<Container>, before: u64) -> Result<()> {
    let mut watch = container.watch();
    let end = watch
        .wait_for(|state| state.exits > before || state.removed)
        .await;
    end.map(drop).map_err(|_| gone(container))
}

fn gone(container: &Container) -> Error {
    Error::not_found(format!("No such container: {}", container.id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_stops_within_the_longest_time_that_was_promised() {
        let least = Duration::from_secs(15);
        assert_eq!(longest(least, []), Some(least));
        // Ten seconds and five of grace are the fifteen.
        assert_eq!(longest(least, [None, Some(0)]), Some(least));
        assert_eq!(
            longest(least, [Some(40), None]),
            Some(Duration::from_secs(45))
        );
        assert_eq!(longest(least, [Some(40), Some(-1)]), None);
    }
}
