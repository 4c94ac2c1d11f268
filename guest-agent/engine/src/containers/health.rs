//! Health checks: probes that run beside a container's program, and what follows from them.
//!
//! The task that owns a run ([`super::run`]) also drives its probes, one after the other: no
//! thread, and nothing at all for a container without a check. A probe is an exec like any other.
//! What the probes found is part of the run's state and in the database, so that the next engine
//! goes on with the same streak and the same pace.

use std::sync::Arc;
use std::time::Duration;

use super::record::{Health, Probe, RunState, Status};
use super::{Container, State};
use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::exec::ExecConfig;
use crate::io::Output;
use crate::model::{Config, StrSlice};

const STARTING: &str = "starting";
const HEALTHY: &str = "healthy";
const UNHEALTHY: &str = "unhealthy";

/// Probes kept.
const KEPT: usize = 5;
/// Bytes kept of a probe's output.
const OUTPUT: usize = 4096;
/// How long it may take until a probe runs; its own time begins then.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A container's check, with what its settings leave open filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    words: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Check {
    /// The check that a configuration asks for.
    fn of(config: &Config) -> Option<Self> {
        let settings = config.healthcheck.as_ref()?;
        let (kind, words) = settings.test.as_deref()?.split_first()?;
        let words = match kind.as_str() {
            "CMD" => words.to_vec(),
            "CMD-SHELL" => {
                let own = config.shell.clone().filter(|shell| !shell.is_empty());
                let shell = own.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
                shell.into_iter().chain(words.iter().cloned()).collect()
            }
            // `NONE`, and what nobody knows.
            _ => return None,
        };
        let time = |nanoseconds: i64, seconds| match u64::try_from(nanoseconds) {
            Ok(0) | Err(_) => Duration::from_secs(seconds),
            Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
        };
        Some(Self {
            words,
            interval: time(settings.interval, 30),
            timeout: time(settings.timeout, 30),
            start_period: time(settings.start_period, 0),
            start_interval: time(settings.start_interval, 5),
            retries: match settings.retries {
                0 => 3,
                retries => u32::try_from(retries).unwrap_or(u32::MAX),
            },
        })
    }

    /// The pause before the next probe.
    fn pause(&self, run: &RunState, now: Timestamp) -> Duration {
        let status = run.health.as_ref().map(|health| health.status.as_str());
        let young = now.since(run.started) < self.start_period;
        if young && status == Some(STARTING) {
            self.start_interval
        } else {
            self.interval
        }
    }

    /// Takes a probe into the state.
    fn take(&self, run: &mut RunState, probe: Probe) {
        let started = run.started;
        let health = run.health.get_or_insert_with(starting);
        if probe.exit_code == 0 {
            health.failing_streak = 0;
            health.status = HEALTHY.into();
        } else if health.status != STARTING || probe.start.since(started) >= self.start_period {
            health.failing_streak += 1;
            if health.failing_streak >= self.retries {
                health.status = UNHEALTHY.into();
            }
        }
        health.log.push(probe);
        let excess = health.log.len().saturating_sub(KEPT);
        health.log.drain(..excess);
    }
}

fn starting() -> Health {
    Health {
        status: STARTING.into(),
        ..Health::default()
    }
}

/// Health at the begin of a run: that of the run before is forgotten, its probes are not.
pub(super) fn begin(config: &Config, run: &mut RunState) {
    run.health = Check::of(config).map(|_| Health {
        log: run
            .health
            .take()
            .map(|before| before.log)
            .unwrap_or_default(),
        ..starting()
    });
}

/// Health of a run that is over, as dockerd has it.
pub(super) fn end(run: &mut RunState) {
    if let Some(health) = &mut run.health {
        health.status = UNHEALTHY.into();
    }
}

impl Engine {
    /// Probes a container while it runs; for ever, or not at all if it has no check.
    pub(super) async fn watch_health(self: &Arc<Self>, container: &Arc<Container>) {
        let Some(check) = Check::of(&container.record().config) else {
            return;
        };
        let check = Arc::new(check);
        // What an earlier engine found tells when the next one is due.
        let run = container.state().run;
        let last = run.health.as_ref().and_then(|health| health.log.last());
        let last = last.map_or(run.started, |probe| probe.end.max(run.started));
        let now = Timestamp::now();
        let mut pause = check.pause(&run, now).saturating_sub(now.since(last));
        loop {
            if stands_still(container, pause).await {
                pause = check.pause(&container.state().run, Timestamp::now());
                continue;
            }
            // A task of its own: its exec is looked after to its end, whatever ends this.
            let task = {
                let (engine, container) = (Arc::clone(self), Arc::clone(container));
                let check = Arc::clone(&check);
                tokio::spawn(async move { engine.probe(&container, &check).await })
            };
            // A panic in there was reported already.
            let Ok(probe) = task.await else { return };
            let state = container.state();
            let of_this_run = state.run.started <= probe.start && !self.is_stopping();
            if state.run.status == Status::Running && of_this_run {
                self.take_probe(container, &check, probe).await;
            }
            pause = check.pause(&container.state().run, Timestamp::now());
        }
    }

    async fn take_probe(&self, container: &Arc<Container>, check: &Check, probe: Probe) {
        let status = |state: &State| state.run.health.as_ref().map(|h| h.status.clone());
        let (before, now) = container.change(|state| {
            let before = status(state);
            check.take(&mut state.run, probe);
            (before, status(state))
        });
        if let Err(error) = self.save_state(container, Sync::Lazy).await {
            tracing::error!(error = error.text(), "a container's health is not recorded");
        }
        if let Some(now) = now
            && before.as_ref() != Some(&now)
        {
            self.container_event(container, &format!("health_status: {now}"), &[]);
        }
    }

    /// Probes once. What keeps it from running is a failure like any other.
    async fn probe(self: &Arc<Self>, container: &Arc<Container>, check: &Check) -> Probe {
        let start = Timestamp::now();
        let (exit_code, output) = self
            .run_probe(container, check)
            .await
            .unwrap_or_else(|error| (-1, error.text()));
        Probe {
            start,
            end: Timestamp::now(),
            exit_code,
            output,
        }
    }

    async fn run_probe(
        self: &Arc<Self>,
        container: &Arc<Container>,
        check: &Check,
    ) -> Result<(i32, String)> {
        let config = ExecConfig {
            attach_stdout: true,
            attach_stderr: true,
            cmd: Some(StrSlice(check.words.clone())),
            ..ExecConfig::default()
        };
        let id = self.exec_create(container.id(), config).await?;
        let mut streams = self.exec_attach(&id)?;
        let started = {
            let (engine, id) = (Arc::clone(self), id.clone());
            tokio::spawn(async move { engine.exec_start(&id, None).await })
        };
        let late = || {
            let text = "timed out starting health check for container";
            Error::new(Kind::Internal, format!("{text} {}", container.id()))
        };
        let started = tokio::time::timeout(START_LIMIT, started).await;
        started
            .map_err(|_| late())?
            .map_err(|error| Error::internal("the probe was cut short", error))??;
        let mut said = Said::default();
        let ended = async {
            said.read(&mut streams.output).await;
            streams.exec.ended().await
        };
        let in_time = tokio::time::timeout(check.timeout, ended).await;
        if in_time.is_err() {
            // Waited for, so that those that take too long do not pile up.
            streams.exec.kill();
            streams.exec.ended().await;
        }
        self.forget_exec(&streams.exec);
        match in_time {
            Ok(code) => Ok((code.unwrap_or(-1), said.text())),
            Err(_) => {
                let mut text = format!("Health check exceeded timeout ({})", go(check.timeout));
                if !said.bytes.is_empty() {
                    text = format!("{text}: {}", said.text());
                }
                Ok((-1, text))
            }
        }
    }
}

/// Waits for `pause`; true if the container stood still meanwhile, and goes on now.
async fn stands_still(container: &Container, pause: Duration) -> bool {
    let mut watch = container.watch();
    let paused = watch.wait_for(|state| state.run.status == Status::Paused);
    // What is waited for is locked while it is held.
    if tokio::time::timeout(pause, paused).await.is_err() {
        return false;
    }
    let moves = watch.wait_for(|state| state.run.status != Status::Paused);
    let _ = moves.await.is_ok();
    true
}

/// The beginning of what a probe said.
#[derive(Debug, Default)]
struct Said {
    bytes: Vec<u8>,
    cut: bool,
}

impl Said {
    async fn read(&mut self, output: &mut Output) {
        while let Some(chunk) = output.next().await {
            self.add(&chunk.bytes);
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = OUTPUT - self.bytes.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend_from_slice(taken);
        self.cut |= taken.len() < bytes.len();
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if self.cut {
            format!("{text}...")
        } else {
            text.into_owned()
        }
    }
}

/// A span as Go writes it.
fn go(span: Duration) -> String {
    let decimal = |whole: u64, part: u64, digits: usize| {
        let text = format!("{whole}.{part:0digits$}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        text.to_owned()
    };
    let nanoseconds = span.subsec_nanos().into();
    if span < Duration::from_secs(1) {
        return format!(
            "{}ms",
            decimal(nanoseconds / 1_000_000, nanoseconds % 1_000_000, 6)
        );
    }
    let (hours, minutes) = (span.as_secs() / 3600, span.as_secs() / 60 % 60);
    let seconds = decimal(span.as_secs() % 60, nanoseconds, 9);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        serde_json::from_str(&format!("{{\"Healthcheck\":{text}}}")).unwrap()
    }

    fn check(text: &str) -> Check {
        Check::of(&config(text)).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_ns(seconds * 1_000_000_000)
    }

    fn probe(exit_code: i32, seconds: i64) -> Probe {
        Probe {
            start: at(seconds),
            end: at(seconds),
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn what_is_left_open_is_dockers() {
        let check = check(r#"{"Test":["CMD-SHELL","true"],"Interval":500000000}"#);
        assert_eq!(check.words, ["/bin/sh", "-c", "true"]);
        assert_eq!(
            (check.interval, check.timeout, check.retries),
            (Duration::from_millis(500), Duration::from_secs(30), 3)
        );
        for none in [
            r#"{"Test":["NONE"]}"#,
            r#"{"Test":[]}"#,
            r#"{"Interval":1}"#,
            r#"{"Test":["ODD","x"]}"#,
        ] {
            assert_eq!(Check::of(&config(none)), None, "{none}");
        }
    }

    #[test]
    fn failures_count_from_the_end_of_the_start_period_on() {
        let check = check(r#"{"Test":["CMD","x"],"StartPeriod":10000000000,"Retries":2}"#);
        let mut run = RunState {
            started: at(100),
            health: Some(starting()),
            ..RunState::default()
        };
        assert_eq!(check.pause(&run, at(105)), Duration::from_secs(5));
        assert_eq!(check.pause(&run, at(110)), Duration::from_secs(30));
        let steps = [
            (1, 105, STARTING, 0),
            (1, 111, STARTING, 1),
            (-1, 112, UNHEALTHY, 2),
            (0, 113, HEALTHY, 0),
            (7, 114, HEALTHY, 1),
            (7, 115, UNHEALTHY, 2),
        ];
        for (code, seconds, status, streak) in steps {
            check.take(&mut run, probe(code, seconds));
            let health = run.health.as_ref().unwrap();
            assert_eq!(
                (health.status.as_str(), health.failing_streak),
                (status, streak)
            );
        }
        let health = run.health.as_ref().unwrap();
        let codes: Vec<i32> = health.log.iter().map(|probe| probe.exit_code).collect();
        assert_eq!(codes, [1, -1, 0, 7, 7]);
        // Once it was healthy, the start period is over.
        run.health = Some(starting());
        check.take(&mut run, probe(0, 101));
        check.take(&mut run, probe(1, 102));
        assert_eq!(run.health.as_ref().unwrap().failing_streak, 1);
        assert_eq!(check.pause(&run, at(102)), Duration::from_secs(30));
    }

    #[test]
    fn a_run_begins_and_ends_as_dockerd_has_it() {
        let mut run = RunState::default();
        let checked = config(r#"{"Test":["CMD","x"]}"#);
        begin(&checked, &mut run);
        run.health.as_mut().unwrap().log.push(probe(0, 1));
        end(&mut run);
        assert_eq!(run.health.as_ref().unwrap().status, UNHEALTHY);
        begin(&checked, &mut run);
        let health = run.health.as_ref().unwrap();
        assert_eq!((health.status.as_str(), health.log.len()), (STARTING, 1));
        begin(&Config::default(), &mut run);
        assert_eq!(run.health, None);
    }

    #[test]
    fn output_is_cut_and_times_are_written_as_go_writes_them() {
        let mut said = Said::default();
        said.add(&[b'x'; 4090]);
        said.add(b"123456");
        assert!(said.text().ends_with("x123456"));
        said.add(b"7");
        assert_eq!(said.text().len(), 4099);
        for (milliseconds, text) in [
            (500, "500ms"),
            (1500, "1.5s"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go(Duration::from_millis(milliseconds)), text);
        }
    }
}
