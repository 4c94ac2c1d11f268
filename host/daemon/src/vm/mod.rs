//! The life of the one virtual machine that all containers share.
//!
//! ```text
//!   Off ──start──► Booting ──welcome──► Ready ──stop──► Stopping ──► Off
//!                     │                   │
//!                     └──── failed ───────┴──► Failed(reason), left by the next start
//! ```
//!
//! Called by: the sockets, through [`Vm::ready`], and whoever ends the daemon, through
//! [`Vm::stop`]. Calls: [`boot`] to make a machine, [`link`] to talk to its guest.
//!
//! One task owns the state; everyone else sends it a wish and watches. Nothing outside may hold
//! on to a [`Guest`] longer than one use: the machine it stands for may be stopping.

mod alive;
pub mod boot;
mod control_link;
mod failure;
mod helpers;
mod patience;
pub mod prepare;
mod pulse;
mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lighter_machine::{ExitReason, Machine};
use lighter_platform::sys::ProcessWatch;
use lighter_protocol::{ShutdownReason, Welcome};
use tokio::sync::{mpsc, oneshot, watch};

use crate::folders::Folders;

pub use boot::Recipe;
pub use control_link::{Link, LinkEnd};
pub use failure::{Failure, chain};
pub use helpers::Helpers;
use patience::{LOOK, lasts, waits_for_room};
pub use stream::{MessageStream, StreamError};

/// A machine that runs, and the door to the process that serves it the host's folders.
#[derive(Debug, Clone)]
pub struct Launched {
    /// The machine.
    pub machine: Machine,
    /// The door; none for a machine that was started without one.
    pub folders: Option<Arc<Folders>>,
}

/// A machine whose guest has answered.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The machine.
    pub machine: Machine,
    /// The conversation with its agent.
    pub link: Link,
    /// The door to the process that serves the host's folders; none where there is no process.
    pub folders: Option<Arc<Folders>>,
    /// Tell when it, or the network's, ends.
    pub helpers: Helpers,
    /// How the agent introduced itself.
    pub welcome: Arc<Welcome>,
    /// Since when it can be used.
    pub since: Instant,
    /// How long the boot took; nothing for a machine that was taken over.
    pub boot_time: Option<Duration>,
}

/// Where the machine is in its life.
#[derive(Debug, Clone)]
pub enum Phase {
    /// There is none.
    Off,
    /// It is being made; the text says what is being done.
    Booting(&'static str),
    /// It can be used.
    Ready(Guest),
    /// It is ending.
    Stopping,
    /// The last one ended, or did not come up, for this reason.
    Failed(Failure),
}

/// What can be asked of the owner.
enum Wish {
    Start(oneshot::Sender<Result<Guest, Failure>>),
    Stop(Stop),
}

struct Stop {
    reason: ShutdownReason,
    at_once: bool,
    done: oneshot::Sender<()>,
}

/// The handle everybody has.
#[derive(Debug, Clone)]
pub struct Vm {
    wishes: mpsc::Sender<Wish>,
    phase: watch::Receiver<Phase>,
}

impl Vm {
    /// Starts the owner: it first takes over a machine that an earlier daemon left running.
    #[must_use]
    pub fn spawn(recipe: Recipe, guests: mpsc::Sender<Launched>) -> Self {
        let (wishes, inbox) = mpsc::channel(64);
        let (phase_in, phase) = watch::channel(Phase::Off);
        let owner = Owner {
            recipe,
            inbox,
            phase: phase_in,
            guests,
            waiting: Vec::new(),
            stopping: Vec::new(),
        };
        tokio::spawn(owner.run());
        Self { wishes, phase }
    }

    /// The guest, after starting a machine if there is none. Bounded by the boot's own limit, in
    /// which the time that a found machine waits for room on the host's disk does not count.
    ///
    /// # Errors
    /// Why there is no machine. Calling again tries again.
    pub async fn ready(&self) -> Result<Guest, Failure> {
        if let Phase::Ready(guest) = &*self.phase.borrow() {
            guest.link.used();
            return Ok(guest.clone());
        }
        let (reply, answer) = oneshot::channel();
        let gone = || Failure::plain("the daemon is ending");
        self.wishes
            .send(Wish::Start(reply))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Ends the machine, containers first unless `at_once`; returns when it is gone. No other is
    /// started after it. A second call with `at_once` hurries a first one.
    pub async fn stop(&self, reason: ShutdownReason, at_once: bool) {
        let (done, over) = oneshot::channel();
        if self
            .wishes
            .send(Wish::Stop(Stop {
                reason,
                at_once,
                done,
            }))
            .await
            .is_ok()
        {
            // An owner that has gone has no machine either.
            let _ = over.await;
        }
    }

    /// Where the machine is now, and every change of it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }
}

/// The one task that moves the machine.
struct Owner {
    recipe: Recipe,
    inbox: mpsc::Receiver<Wish>,
    phase: watch::Sender<Phase>,
    /// Each machine that came up, for the service of what its guest asks.
    guests: mpsc::Sender<Launched>,
    waiting: Vec<oneshot::Sender<Result<Guest, Failure>>>,
    stopping: Vec<Stop>,
}

impl Owner {
    async fn run(mut self) {
        let mut found = self.look().await.unwrap_or_else(|failure| {
            self.settle(Err(failure));
            None
        });
        loop {
            if found.is_none() && self.waiting.is_empty() {
                match self.inbox.recv().await {
                    Some(Wish::Start(reply)) => self.waiting.push(reply),
                    Some(Wish::Stop(stop)) => self.stopping.push(stop),
                    None => return,
                }
            }
            // One that could not be spoken to may be there still.
            let machine = match found.take() {
                Some(machine) => Ok(Some(machine)),
                None => self.look().await,
            };
            match machine {
                Ok(None) if !self.stopping.is_empty() => {}
                Ok(machine) => {
                    if let Some(guest) = self.boot(machine).await {
                        self.live(guest).await;
                    }
                }
                Err(failure) => {
                    self.settle(Err(failure));
                }
            }
            if self.stopping.is_empty() {
                continue;
            }
            // The end of the machine was wanted for the end of the daemon: nothing is started any
            // more, or it would be left behind.
            for reply in self.waiting.drain(..) {
                let _ = reply.send(Err(Failure::plain("the daemon is ending")));
            }
            for stop in self.stopping.drain(..) {
                let _ = stop.done.send(());
            }
            return;
        }
    }

    /// The machine that runs already, if there is one.
    async fn look(&self) -> Result<Option<Machine>, Failure> {
        let found = Machine::take_over(&self.recipe.paths.run).await;
        found.map_err(|error| Failure::of(&error, error.hint().map(str::to_owned)))
    }

    /// From nothing, or from a machine found running, to a guest that answers.
    ///
    /// A machine that was found runs containers: whoever wants the end meanwhile waits until it can
    /// be told, unless at once is meant.
    async fn boot(&mut self, found: Option<Machine>) -> Option<Guest> {
        self.phase.send_replace(Phase::Booting("preparing"));
        let launched = Arc::new(std::sync::Mutex::new(None));
        let outcome = self.attempt(found.clone(), &launched).await;
        if outcome.is_err() {
            let launched = launched
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take();
            self.end_after_failure(found, launched).await;
        }
        self.settle(outcome)
    }

    /// Ends what a failed start leaves. One that was found is only ended if somebody wants that: that
    /// it cannot be spoken to says nothing about its containers.
    async fn end_after_failure(&self, found: Option<Machine>, launched: Option<Machine>) {
        let left = match launched.or(found.filter(|_| !self.stopping.is_empty())) {
            // A start that was given up half-way may have left one that is not known yet.
            None if !self.stopping.is_empty() => self.look().await.ok().flatten(),
            left => left,
        };
        if let Some(machine) = left {
            end_at_once(&machine).await;
        }
    }

    /// One attempt, with an ear for those who come meanwhile.
    async fn attempt(
        &mut self,
        found: Option<Machine>,
        launched: &Arc<std::sync::Mutex<Option<Machine>>>,
    ) -> Result<Guest, Failure> {
        let phase = &self.phase;
        let progress = |step| {
            phase.send_if_modified(|now| {
                let said = matches!(now, Phase::Booting(last) if *last == step);
                *now = Phase::Booting(step);
                !said
            });
        };
        let runs = found.is_some();
        // A machine that waits for room on the host's disk may take any time; an end that was asked
        // for may not.
        let mut last_call = None;
        if self.stopping.iter().any(|stop| stop.at_once) {
            return Err(stopped());
        }
        if !self.stopping.is_empty() {
            last_call = Instant::now().checked_add(self.recipe.boot_limit);
        }
        let attempt = boot::boot(&self.recipe, found, launched, &self.guests, &progress);
        tokio::pin!(attempt);
        loop {
            tokio::select! {
                outcome = &mut attempt => return outcome,
                () = reached(last_call) => return Err(stopped()),
                wish = self.inbox.recv() => match wish {
                    Some(Wish::Start(reply)) => self.waiting.push(reply),
                    Some(Wish::Stop(stop)) => {
                        let later = runs && !stop.at_once;
                        self.stopping.push(stop);
                        if !later {
                            return Err(stopped());
                        }
                        let limit = self.recipe.boot_limit;
                        last_call = last_call.or_else(|| Instant::now().checked_add(limit));
                    }
                    None => return Err(Failure::plain("the daemon is ending")),
                },
            }
        }
    }

    /// Tells everybody who waited how the start went.
    fn settle(&mut self, outcome: Result<Guest, Failure>) -> Option<Guest> {
        let stopped = !self.stopping.is_empty();
        self.phase.send_replace(match &outcome {
            Ok(guest) => Phase::Ready(guest.clone()),
            Err(_) if stopped => Phase::Off,
            Err(failure) => Phase::Failed(failure.clone()),
        });
        if let Err(failure) = &outcome {
            tracing::error!(failure = %failure.message, "no machine");
        }
        for reply in self.waiting.drain(..) {
            // A client that went away needs no answer.
            let _ = reply.send(outcome.clone());
        }
        outcome.ok()
    }

    /// As long as the machine lives.
    async fn live(&mut self, guest: Guest) {
        let ended = loop {
            if let Some(wanted) = self.stopping.first() {
                let reason = wanted.reason;
                break self.shut_down(&guest, reason).await;
            }
            tokio::select! {
                reason = guest.machine.exited() => break reason,
                what = guest.helpers.one_ended() => {
                    break self.after_helper(&guest, what).await;
                }
                end = guest.link.ended() => {
                    tracing::warn!(?end, "the conversation with the guest ended");
                    break self.after_link(&guest, end).await;
                }
                wish = self.inbox.recv() => match wish {
                    Some(Wish::Start(reply)) => {
                        let _ = reply.send(Ok(guest.clone()));
                    }
                    Some(Wish::Stop(stop)) => self.stopping.push(stop),
                    // The daemon ends without a word to the machine: it lives on.
                    None => return,
                },
            }
        };
        // Whoever comes meanwhile gets the next one.
        self.phase.send_replace(Phase::Stopping);
        guest.helpers.all_gone().await;
        self.phase.send_replace(match ended {
            ExitReason::Bye { .. } | ExitReason::Killed => Phase::Off,
            other => {
                let failure = Failure::from_exit(&other);
                tracing::error!(failure = %failure.message, "the machine ended");
                Phase::Failed(failure)
            }
        });
    }

    /// The guest said bye on its own, or is silent: either way the machine has to go.
    async fn after_link(&self, guest: &Guest, end: LinkEnd) -> ExitReason {
        self.phase.send_replace(Phase::Stopping);
        match end {
            LinkEnd::Bye => wait_for_end(&guest.machine).await,
            LinkEnd::Silent(why) => {
                let tail = prepare::console_tail(&self.recipe.paths);
                end_at_once(&guest.machine).await;
                ExitReason::Crash {
                    what: why,
                    console_tail: tail,
                }
            }
        }
    }

    /// Such a process ends with its machine, and a machine without it has to end: which of the two it
    /// was shows within moments.
    async fn after_helper(&self, guest: &Guest, what: &str) -> ExitReason {
        let moments = Duration::from_secs(2);
        if let Ok(reason) = tokio::time::timeout(moments, guest.machine.exited()).await {
            return reason;
        }
        self.phase.send_replace(Phase::Stopping);
        end_at_once(&guest.machine).await;
        ExitReason::Crash {
            what: format!("the process that serves {what} ended"),
            console_tail: prepare::console_tail(&self.recipe.paths),
        }
    }

    /// Ends the machine, containers first; at once as soon as anybody wants that. Its processes have
    /// gone then: whoever waits for this may start another, or take the disk away.
    async fn shut_down(&mut self, guest: &Guest, reason: ShutdownReason) -> ExitReason {
        self.phase.send_replace(Phase::Stopping);
        let processes = processes(&guest.machine).await;
        let ended = self.end(guest, reason).await;
        all_gone(processes, guest.machine.launched(), AFTER_BYE).await;
        ended
    }

    async fn end(&mut self, guest: &Guest, reason: ShutdownReason) -> ExitReason {
        let limit = self.recipe.shutdown_limit();
        let said_bye = tokio::select! {
            said_bye = guest.link.shut_down(limit, reason) => said_bye,
            () = impatient(&mut self.inbox, &mut self.waiting, &mut self.stopping) => {
                tracing::info!("the machine is ended without waiting for its containers");
                end_at_once(&guest.machine).await;
                return ExitReason::Killed;
            }
            () = lasts(STANDSTILL, LOOK, || waits_for_room(&guest.machine)) => {
                tracing::warn!("the host's disk is full; the machine is ended where it stands");
                end_at_once(&guest.machine).await;
                return ExitReason::Killed;
            }
        };
        if said_bye {
            return wait_for_end(&guest.machine).await;
        }
        tracing::warn!("the guest did not say bye in time; the machine is ended");
        end_at_once(&guest.machine).await;
        ExitReason::Killed
    }
}

fn stopped() -> Failure {
    Failure::plain("the machine was stopped while it started")
}

/// Waits for this moment, if there is one.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Takes wishes in until somebody wants the end at once.
async fn impatient(
    inbox: &mut mpsc::Receiver<Wish>,
    waiting: &mut Vec<oneshot::Sender<Result<Guest, Failure>>>,
    stopping: &mut Vec<Stop>,
) {
    while !stopping.iter().any(|stop| stop.at_once) {
        match inbox.recv().await {
            Some(Wish::Start(reply)) => waiting.push(reply),
            Some(Wish::Stop(stop)) => stopping.push(stop),
            // The daemon is ending: it will not ask for anything any more.
            None => std::future::pending().await,
        }
    }
}

/// The machine's processes, to see their end.
async fn processes(machine: &Machine) -> Vec<ProcessWatch> {
    match tokio::time::timeout(LOOK, machine.status()).await {
        Ok(Ok(status)) => {
            let pids = [Some(status.pid), status.vm_pid];
            pids.into_iter()
                .flatten()
                .filter_map(ProcessWatch::of)
                .collect()
        }
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// Waits a little for the end of the machine's processes. If one stays, the machine process is ended where this daemon
/// launched it, and QEMU with it: it may hold the disk, and what has been acknowledged is on that. The others are known
/// by the machine's own word alone, and a machine that a guest has taken over may name anybody.
async fn all_gone(named: Vec<ProcessWatch>, launched: Option<Arc<ProcessWatch>>, limit: Duration) {
    let waited = move || {
        let gone = || {
            named
                .iter()
                .chain(launched.as_deref())
                .all(|one| one.wait(limit))
        };
        gone() || launched.as_deref().is_some_and(end) && gone()
    };
    if !matches!(tokio::task::spawn_blocking(waited).await, Ok(true)) {
        tracing::warn!("a process of the machine does not end");
    }
}

/// Ends a process that does not end by itself; false where that is not possible.
fn end(process: &ProcessWatch) -> bool {
    match process.kill() {
        Ok(()) => tracing::warn!("the machine's process did not end by itself"),
        Err(error) => {
            tracing::warn!(%error, "the machine's process is not ended");
            return false;
        }
    }
    true
}

/// How long room on the host's disk is waited for by a machine that is to end.
const STANDSTILL: Duration = Duration::from_secs(10);

/// How long a machine may take between its bye and its end.
const AFTER_BYE: Duration = Duration::from_secs(15);

async fn wait_for_end(machine: &Machine) -> ExitReason {
    match tokio::time::timeout(AFTER_BYE, machine.exited()).await {
        Ok(reason) => reason,
        Err(_) => {
            end_at_once(machine).await;
            // It had said bye: everything was on disk.
            ExitReason::Bye {
                reason: "slow".to_owned(),
            }
        }
    }
}

async fn end_at_once(machine: &Machine) {
    if let Err(error) = machine.kill().await {
        tracing::debug!(%error, "nothing left to end");
    }
    if tokio::time::timeout(AFTER_BYE, machine.exited())
        .await
        .is_err()
    {
        tracing::error!("the machine did not end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    mod agent;
    #[cfg(target_os = "linux")]
    mod asked;
    #[cfg(target_os = "linux")]
    mod died;
    #[cfg(target_os = "linux")]
    mod played;

    #[cfg(unix)]
    #[tokio::test]
    async fn a_machine_that_does_not_end_is_ended_and_nobody_whom_it_names() {
        use std::os::unix::process::ExitStatusExt as _;

        let stays = || {
            std::process::Command::new("sleep")
                .arg("3600")
                .spawn()
                .unwrap()
        };
        let (mut machine, mut stranger) = (stays(), stays());
        let watch = |child: &std::process::Child| ProcessWatch::of(child.id()).unwrap();
        let named = vec![watch(&stranger), watch(&machine)];
        let launched = Some(Arc::new(watch(&machine)));
        all_gone(named, launched, Duration::from_millis(1)).await;
        // Without its end this takes an hour.
        assert_eq!(machine.wait().unwrap().signal(), Some(9));
        // One of an earlier daemon.
        all_gone(vec![watch(&stranger)], None, Duration::from_millis(1)).await;
        assert_eq!(stranger.try_wait().unwrap(), None, "it runs");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
