//! The conversation with the guest's agent while the machine is up: health, clock, shutdown.
//!
//! One task owns the stream. The agent may die and be restarted by its init at any time: then the
//! stream ends, and the task greets the new one with the same secret. Only a guest that leaves a
//! question open for [`SILENCE`] is given up, and not for as long as its machine waits for room on
//! the host's disk; when it is asked at all, [`Pulse`] decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lighter_machine::Machine;
use lighter_protocol::{
    ByeOk, ByeReason, Clock, EngineState, Health, Hello, Message, Route, Routes, Shutdown,
    ShutdownReason, Status, StatusOk, port,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant as Moment;

use super::MessageStream;
use super::boot::{introduce, unix_now};
use super::patience::{waits_for_room, within};
use super::pulse::{LOOK, Pulse, SILENCE};
use super::stream::StreamError;

/// A clock that went this far from the host's is set again, at the next look.
const DRIFT: Duration = Duration::from_millis(50);
/// A machine that takes longer to say what it is says nothing.
const MACHINE_ANSWERS: Duration = Duration::from_secs(1);
/// What a guest gets for its own part of a shutdown, beyond the containers' time.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(30);
/// The most it gets while it says that it is still stopping containers, some of which may have been
/// given more time than the setting. It says so itself: without a bound of ours, one that was taken
/// over could hold up the end for ever.
const SHUTDOWN_MOST: Duration = Duration::from_secs(600);
/// A guest that says so said it this recently.
const STILL_STOPPING: Duration = Duration::from_secs(20);
/// A guest that does not read for this long gets no more to read: its next agent is greeted.
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// Why the conversation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEnd {
    /// The guest said bye.
    Bye,
    /// The guest was given up, for this reason.
    Silent(String),
}

enum Wish {
    ShutDown {
        limit: Duration,
        reason: ShutdownReason,
    },
    Status(oneshot::Sender<StatusOk>),
}

/// The handle on the conversation.
#[derive(Debug, Clone)]
pub struct Link {
    wishes: mpsc::Sender<Wish>,
    ended: watch::Receiver<Option<LinkEnd>>,
    /// When the guest last said that it is stopping containers.
    stopping: watch::Receiver<Option<Instant>>,
    used: Arc<Notify>,
}

impl Link {
    /// Goes on with a stream on which the guest has been greeted by `hello`.
    pub(super) fn spawn(
        stream: MessageStream,
        machine: Machine,
        hello: Hello,
        routes: watch::Receiver<Vec<Route>>,
    ) -> Self {
        let (wishes, inbox) = mpsc::channel(16);
        let (ended_in, ended) = watch::channel(None);
        let (stopping_in, stopping) = watch::channel(None);
        let used = Arc::new(Notify::new());
        let talk = Talk {
            used: Arc::clone(&used),
            pulse: Pulse::new(None, Moment::now()),
            stopping: stopping_in,
            machine,
            hello,
            inbox,
            seq: 0,
            clock: ClockWatch::new(),
            asked: HashMap::new(),
            routes,
        };
        tokio::spawn(async move {
            let end = talk.run(stream).await;
            ended_in.send_replace(Some(end));
        });
        Self {
            wishes,
            ended,
            stopping,
            used,
        }
    }

    /// Somebody turns to the guest: if it does not answer any more, that is to be found out.
    pub fn used(&self) {
        self.used.notify_one();
    }

    /// Waits for the end of the conversation.
    pub async fn ended(&self) -> LinkEnd {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(LinkEnd::Bye),
            Err(_) => LinkEnd::Silent("the conversation with it broke".to_owned()),
        }
    }

    /// Asks the guest to stop its containers within `limit` and itself; whether it said bye.
    pub async fn shut_down(&self, limit: Duration, reason: ShutdownReason) -> bool {
        if self
            .wishes
            .send(Wish::ShutDown { limit, reason })
            .await
            .is_err()
        {
            return self.ended().await == LinkEnd::Bye;
        }
        self.bye_within(limit + SHUTDOWN_MARGIN, STILL_STOPPING, SHUTDOWN_MOST)
            .await
    }

    /// Waits `first`, then as long as the guest said `recently` that it is stopping containers, up to
    /// `most` in all.
    async fn bye_within(&self, first: Duration, recently: Duration, most: Duration) -> bool {
        let began = Instant::now();
        let mut patience = first;
        loop {
            if let Ok(end) = tokio::time::timeout(patience, self.ended()).await {
                return end == LinkEnd::Bye;
            }
            let said = *self.stopping.borrow();
            let busy = said.is_some_and(|at| at.elapsed() < recently);
            let left = most.saturating_sub(began.elapsed());
            if !busy || left.is_zero() {
                return false;
            }
            patience = recently.min(left);
        }
    }

    /// The guest's own figures, if it gives them soon.
    pub async fn status(&self) -> Option<StatusOk> {
        let (reply, answer) = oneshot::channel();
        self.wishes.send(Wish::Status(reply)).await.ok()?;
        tokio::time::timeout(Duration::from_secs(2), answer)
            .await
            .ok()?
            .ok()
    }
}

struct Talk {
    machine: Machine,
    hello: Hello,
    inbox: mpsc::Receiver<Wish>,
    seq: u64,
    pulse: Pulse,
    used: Arc<Notify>,
    clock: ClockWatch,
    asked: HashMap<u64, oneshot::Sender<StatusOk>>,
    stopping: watch::Sender<Option<Instant>>,
    routes: watch::Receiver<Vec<Route>>,
}

/// Writes a message, for as long as the guest may take to read.
async fn send(stream: &mut MessageStream, message: impl Into<Message>) -> Result<(), StreamError> {
    match tokio::time::timeout(SEND_LIMIT, stream.send(message)).await {
        Ok(sent) => sent,
        Err(_) => Err(StreamError::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

impl Talk {
    async fn run(mut self, first: MessageStream) -> LinkEnd {
        let mut stream = first;
        let status = tokio::time::timeout(MACHINE_ANSWERS, self.machine.status()).await;
        let status = status.ok().and_then(Result::ok);
        self.pulse = Pulse::new(status.map(|status| status.accelerator), Moment::now());
        loop {
            match self.converse(&mut stream).await {
                Ok(end) => return end,
                Err(error) => tracing::info!(%error, "the agent is gone; greeting the next"),
            }
            self.asked.clear();
            let full = || waits_for_room(&self.machine);
            match within(SILENCE, self.greet_again(), full).await {
                Some(fresh) => stream = fresh,
                None => return silent(),
            }
        }
    }

    /// Until the stream breaks (an error) or the conversation is over.
    async fn converse(&mut self, stream: &mut MessageStream) -> Result<LinkEnd, StreamError> {
        self.pulse.heard();
        let mut full = false;
        // An agent that was started again knows those of the machine's start.
        self.tell_routes(stream).await?;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = stream.receive() => {
                    self.pulse.heard();
                    if self.heard(stream, message?).await? {
                        return Ok(LinkEnd::Bye);
                    }
                }
                wish = self.inbox.recv() => match wish {
                    Some(wish) => self.granted(stream, wish).await?,
                    // All handles are gone: the daemon ends.
                    None => return Ok(LinkEnd::Bye),
                },
                Ok(()) = self.routes.changed() => self.tell_routes(stream).await?,
                () = self.used.notified() => {
                    if self.pulse.used(Moment::now()) && !full {
                        self.ask(stream).await?;
                    }
                }
                _ = look.tick() => {
                    if full || self.pulse.is_quiet(Moment::now()) {
                        let was = full;
                        full = waits_for_room(&self.machine).await;
                        if was && !full {
                            // Its clock may have stood meanwhile.
                            self.set_clock(stream).await?;
                        }
                    }
                    if full {
                        // It is alive, and what it was sent now would only pile up.
                        self.pulse.excused(Moment::now());
                        continue;
                    }
                    if self.pulse.is_silent(Moment::now()) {
                        return Ok(silent());
                    }
                    self.look(stream).await?;
                }
            }
        }
    }

    async fn tell_routes(&mut self, stream: &mut MessageStream) -> Result<(), StreamError> {
        let routes = self.routes.borrow_and_update().clone();
        send(stream, Routes { routes }).await
    }

    async fn look(&mut self, stream: &mut MessageStream) -> Result<(), StreamError> {
        if self.pulse.is_due(Moment::now()) {
            self.ask(stream).await?;
        }
        if self.clock.jumped() || self.pulse.takes_clock(Moment::now()) {
            self.set_clock(stream).await?;
        }
        Ok(())
    }

    async fn set_clock(&mut self, stream: &mut MessageStream) -> Result<(), StreamError> {
        self.clock = ClockWatch::new();
        let unix_ns = unix_now();
        send(stream, Clock { unix_ns }).await
    }

    async fn ask(&mut self, stream: &mut MessageStream) -> Result<(), StreamError> {
        self.seq += 1;
        self.pulse.asked(Moment::now());
        send(stream, Health { seq: self.seq }).await
    }

    async fn granted(&mut self, stream: &mut MessageStream, wish: Wish) -> Result<(), StreamError> {
        match wish {
            Wish::ShutDown { limit, reason } => {
                // It says whether it is still at it.
                self.pulse.watch();
                let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                send(stream, Shutdown { timeout_ms, reason }).await
            }
            Wish::Status(reply) => {
                self.seq += 1;
                self.pulse.asked(Moment::now());
                // Those who gave up waiting leave nothing behind.
                self.asked.retain(|_, reply| !reply.is_closed());
                self.asked.insert(self.seq, reply);
                send(stream, Status { seq: self.seq }).await
            }
        }
    }

    /// Whether that was the guest's bye.
    async fn heard(
        &mut self,
        stream: &mut MessageStream,
        message: Message,
    ) -> Result<bool, StreamError> {
        match message {
            Message::StatusOk(status) => {
                if let Some(reply) = self.asked.remove(&status.seq) {
                    // Whoever asked may have given up.
                    let _ = reply.send(status);
                }
            }
            Message::Bye(bye) => {
                let reason = match &bye.reason {
                    ByeReason::Shutdown => "shutdown".to_owned(),
                    ByeReason::Failed { message } => message.clone(),
                    ByeReason::Other => "another reason".to_owned(),
                };
                tracing::info!(reason, "the guest says bye");
                // Noted by the machine process first: after the answer the guest may be gone.
                if let Err(error) = self.machine.bye_seen(&reason).await {
                    tracing::debug!(%error, "the machine is gone already");
                }
                send(stream, ByeOk {}).await?;
                return Ok(true);
            }
            Message::Health(health) => {
                let answer = lighter_protocol::HealthOk {
                    seq: health.seq,
                    engine: EngineState::default(),
                };
                send(stream, answer).await?;
            }
            Message::HealthOk(health) if health.engine == EngineState::Stopping => {
                self.stopping.send_replace(Some(Instant::now()));
            }
            _ => {}
        }
        Ok(false)
    }

    /// Greets the agent that init has started in the place of the last one.
    async fn greet_again(&self) -> MessageStream {
        loop {
            if let Ok(stream) = self.machine.connect(port::CONTROL).await {
                let mut stream = MessageStream::new(stream);
                match introduce(&mut stream, &self.hello).await {
                    Ok(Ok(_)) => return stream,
                    Ok(Err(refused)) => {
                        tracing::warn!(message = refused.message, "the new agent refuses us");
                    }
                    Err(_) => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn silent() -> LinkEnd {
    LinkEnd::Silent(format!(
        "the guest gave no sign of life for {} seconds",
        SILENCE.as_secs()
    ))
}

/// Sees when the host's clock was set since the guest's was, or stood still while the host slept.
struct ClockWatch {
    wall: SystemTime,
    steady: Instant,
}

impl ClockWatch {
    fn new() -> Self {
        Self {
            wall: SystemTime::now(),
            steady: Instant::now(),
        }
    }

    fn jumped(&self) -> bool {
        let expected = self.wall + self.steady.elapsed();
        let now = SystemTime::now();
        let off = match now.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        off > DRIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);
    const LONG: Duration = Duration::from_secs(3600);

    /// A conversation that is not over, and who can end it.
    fn open(said: Option<Instant>) -> (Link, watch::Sender<Option<LinkEnd>>) {
        let (ended_in, ended) = watch::channel(None);
        let link = Link {
            wishes: mpsc::channel(1).0,
            ended,
            stopping: watch::channel(said).1,
            used: Arc::default(),
        };
        (link, ended_in)
    }

    #[tokio::test]
    async fn a_guest_that_says_nothing_is_given_up_after_its_first_time() {
        let (link, _open) = open(None);
        assert!(!link.bye_within(SHORT, LONG, LONG).await);
    }

    #[tokio::test]
    async fn a_guest_that_only_says_that_it_is_stopping_is_given_up_in_the_end() {
        let (link, _open) = open(Some(Instant::now()));
        assert!(!link.bye_within(SHORT, LONG, SHORT * 3).await);
    }

    #[tokio::test]
    async fn a_guest_that_is_still_stopping_gets_its_time() {
        let (link, ended) = open(Some(Instant::now()));
        let late = async {
            tokio::time::sleep(SHORT * 3).await;
            ended.send_replace(Some(LinkEnd::Bye));
        };
        let (bye, ()) = tokio::join!(link.bye_within(SHORT, LONG, LONG), late);
        assert!(bye);
    }
}
