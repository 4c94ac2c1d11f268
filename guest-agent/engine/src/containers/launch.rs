//! The part of a start that blocks: pipes, the process behind the walls, the descriptor store.
//!
//! ```text
//!   pipes ─► prepare (the process waits at its gate) ─► store ─► record ─► open the gate
//! ```
//!
//! Everything that has to survive the engine is in the store, and the process is in the database,
//! before the gate opens: an engine killed before that leaves a process that ends by itself, and
//! one killed after it leaves everything its successor needs.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use lighter_init::Exit;
use lighter_runtime::{Prepared, StartError, Stdio};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFdReadyGuard;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::exits::Exits;
use crate::io::{Bench, Capture, LogSink, Source, Stdin, Step, Watched};
use crate::keeper::{Keeper, Kept};
use crate::logs::StreamKind;

/// Which streams a process gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    pub(crate) terminal: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// The engine's ends of them.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) pty: Option<OwnedFd>,
}

impl Ends {
    /// Makes pipes; the other ends go to the process.
    pub(crate) fn pipes(streams: Streams) -> Result<(Self, Stdio)> {
        let mut ends = Self::default();
        let mut stdio = Stdio::default();
        if streams.terminal {
            return Ok((ends, stdio));
        }
        let pipe = || {
            pipe_with(PipeFlags::CLOEXEC)
                .map_err(|error| Error::internal("a pipe cannot be made", error))
        };
        if streams.stdin {
            let (read, write) = pipe()?;
            (stdio.stdin, ends.stdin) = (Some(read), Some(write));
        }
        if streams.stdout {
            let (read, write) = pipe()?;
            (ends.stdout, stdio.stdout) = (Some(read), Some(write));
        }
        if streams.stderr {
            let (read, write) = pipe()?;
            (ends.stderr, stdio.stderr) = (Some(read), Some(write));
        }
        Ok((ends, stdio))
    }

    /// Puts them into the store.
    pub(crate) fn keep(&self, keeper: &Keeper) -> Result<()> {
        let all = [
            ("stdin", &self.stdin),
            ("stdout", &self.stdout),
            ("stderr", &self.stderr),
            ("pty", &self.pty),
        ];
        all.into_iter().try_for_each(|(name, fd)| match fd {
            Some(fd) => keeper.put(name, fd),
            None => Ok(()),
        })
    }

    /// Takes them out of what an earlier engine left.
    pub(crate) fn left(kept: &mut Kept) -> Self {
        Self {
            stdin: kept.remove("stdin"),
            stdout: kept.remove("stdout"),
            stderr: kept.remove("stderr"),
            pty: kept.remove("pty"),
        }
    }
}

/// What a start gives the rest of the engine.
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) cgroup: Option<lighter_runtime::Cgroup>,
    pub(crate) exit: oneshot::Receiver<Exit>,
    pub(crate) warnings: Vec<String>,
}

/// Brings a prepared process past its gate. `record` is called once its id is known and has to
/// make it survive the engine. Blocks.
pub(crate) fn start(
    mut prepared: Prepared,
    ends: &mut Ends,
    keeper: &Keeper,
    exits: &Exits,
    record: impl FnOnce(i32) -> Result<()>,
) -> Result<Result<Started, StartError>> {
    ends.pty = prepared.take_pty_master();
    let pid = prepared.pid();
    let exit = exits.wait(pid);
    let keep = || -> Result<()> {
        let pidfd = prepared
            .pidfd()
            .try_clone_to_owned()
            .map_err(|error| Error::internal("a process descriptor cannot be copied", error))?;
        keeper.put("pidfd", &pidfd)?;
        ends.keep(keeper)?;
        record(pid)
    };
    if let Err(error) = keep() {
        keeper.clear();
        exits.give_up(pid, exit);
        return Err(error);
    }
    if let Err(error) = prepared.start() {
        keeper.clear();
        exits.give_up(pid, exit);
        return Ok(Err(error));
    }
    let warnings = prepared
        .warnings()
        .iter()
        .map(|warning| warning.0.clone())
        .collect();
    let (pid, pidfd, cgroup) = prepared.into_parts();
    Ok(Ok(Started {
        pid,
        pidfd,
        cgroup,
        exit,
        warnings,
    }))
}

/// Ends a process that was started and cannot be looked after.
pub(crate) fn abandon(started: Started, keeper: &Keeper, exits: &Exits) {
    use std::os::fd::AsFd as _;
    let ended = lighter_runtime::signal(started.pidfd.as_fd(), super::signals::KILL);
    if let Err(error) = ended {
        tracing::error!(%error, "a process without an owner cannot be ended");
    }
    keeper.clear();
    exits.give_up(started.pid, started.exit);
}

/// A process's outputs, on their way to log and clients.
pub(crate) struct Outputs {
    pub(crate) captures: Vec<Capture>,
    pub(crate) log: Option<LogSink>,
    pub(crate) hub: Arc<crate::io::Hub>,
    pub(crate) keeper: Keeper,
}

impl Outputs {
    /// Builds the captures of `ends` and the input, if there is one.
    pub(crate) fn new(
        ends: &mut Ends,
        log: Option<LogSink>,
        hub: Arc<crate::io::Hub>,
        keeper: Keeper,
    ) -> Result<(Self, Option<Arc<Stdin>>)> {
        let failed = |error| Error::internal("a stream of the container cannot be used", error);
        let mut captures = Vec::new();
        let mut stdin = ends.stdin.take();
        if let Some(pty) = &ends.pty {
            let copy = || pty.try_clone().map_err(failed);
            captures.push(Capture::new(StreamKind::Stdout, copy()?).map_err(failed)?);
            stdin = Some(copy()?);
        }
        for (kind, end) in [
            (StreamKind::Stdout, ends.stdout.take()),
            (StreamKind::Stderr, ends.stderr.take()),
        ] {
            if let Some(end) = end {
                captures.push(Capture::new(kind, end).map_err(failed)?);
            }
        }
        let stdin = stdin
            .map(Stdin::new)
            .transpose()
            .map_err(failed)?
            .map(Arc::new);
        Ok((
            Self {
                captures,
                log,
                hub,
                keeper,
            },
            stdin,
        ))
    }

    /// Passes nothing on.
    pub(crate) fn none(hub: Arc<crate::io::Hub>, keeper: Keeper) -> Self {
        Self {
            captures: Vec::new(),
            log: None,
            hub,
            keeper,
        }
    }

    /// Takes up the scratch pipes an earlier engine left, and what was on its way into the log.
    pub(crate) fn recover(&mut self, kept: &mut Kept, bench: &mut Bench) -> std::io::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        for capture in &mut self.captures {
            if let Some(scratch) = kept.remove(scratch_name(capture.kind())) {
                capture.set_scratch(scratch)?;
                capture.settle(log, bench)?;
            }
        }
        // What is written now could not be told from what the last engine had begun: that is
        // settled for every output first.
        for capture in &mut self.captures {
            capture.log_whole_lines(log, bench)?;
        }
        Ok(())
    }

    /// Waits for the next output and passes it on; returns when every output has ended.
    pub(crate) async fn run(&mut self, bench: &std::sync::Mutex<Bench>) {
        let sources: Vec<Arc<Source>> = self.captures.iter().map(Capture::source).collect();
        loop {
            if self.captures.iter().all(Capture::ended) {
                return;
            }
            self.hub.room().await;
            let (index, guard) = tokio::select! {
                guard = ready(&sources, &self.captures, 0) => (0, guard),
                guard = ready(&sources, &self.captures, 1) => (1, guard),
            };
            let step = self.step(index, bench);
            if let Ok(mut guard) = guard
                && step.is_none()
            {
                guard.clear_ready();
            }
            // A container that never pauses must not keep the others from their turn.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Passes on what is there now. The process has ended: what it wrote is in its pipes. It may
    /// have given a pipe to somebody who goes on writing; that is no output of its own any more.
    pub(crate) fn drain(&mut self, bench: &std::sync::Mutex<Bench>) {
        for index in 0..self.captures.len() {
            let mut left = self.captures[index].capacity();
            while left > 0
                && !self.captures[index].ended()
                && let Some(count) = self.step(index, bench)
            {
                left = left.saturating_sub(count.max(1));
            }
            let Some(log) = &self.log else { continue };
            let finished = self.captures[index].finish(log, &mut super::lock(bench));
            if let Err(error) = finished {
                tracing::error!(%error, "the last output of a container is not logged");
            }
        }
    }

    /// How many bytes were passed on; none if there is nothing for now or will be nothing more.
    fn step(&mut self, index: usize, bench: &std::sync::Mutex<Bench>) -> Option<usize> {
        let capture = self.captures.get_mut(index)?;
        let kind = capture.kind();
        if self.log.is_some() && capture.wants_scratch() {
            let made = Capture::new_scratch().map_err(|error| Error::internal("no pipe", error));
            let kept = made.and_then(|scratch| {
                self.keeper.put(scratch_name(kind), &scratch)?;
                capture
                    .set_scratch(scratch)
                    .map_err(|error| Error::internal("a scratch pipe cannot be used", error))
            });
            if let Err(error) = kept {
                tracing::error!(error = error.text(), "output of a container is not logged");
                self.log = None;
            }
        }
        let step = capture.step(self.log.as_ref(), &mut super::lock(bench));
        match step {
            Ok(Step::Data(bytes)) => {
                self.hub.send(kind, &bytes);
                Some(bytes.len())
            }
            Ok(Step::Blocked | Step::End) => None,
            Err(error) => {
                tracing::error!(%error, "an output of a container cannot be read");
                capture.abandon();
                None
            }
        }
    }
}

/// Waits until an output that has not ended may have something. An error shows again in the step.
async fn ready<'a>(
    sources: &'a [Arc<Source>],
    captures: &[Capture],
    index: usize,
) -> std::io::Result<AsyncFdReadyGuard<'a, Watched<OwnedFd>>> {
    let live = captures.get(index).is_some_and(|capture| !capture.ended());
    match sources.get(index).filter(|_| live) {
        Some(source) => source.readable().await,
        None => std::future::pending().await,
    }
}

fn scratch_name(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Stdout => "stdout.log",
        StreamKind::Stderr => "stderr.log",
    }
}
