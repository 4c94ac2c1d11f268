//! The one loop: reap, answer the agent, tell it of exits, start it again when it dies.

mod agent;
mod journal;
mod signals;
mod store;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use lighter_init::wire::{Reply, Request};
use lighter_init::{End, Info, packet};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::boot::{At, BootError, Booted};
use crate::console::say;
use crate::options::Mode;
use agent::{Agent, Blame, Program, Restarts};
use journal::Journal;
use signals::Signals;
use store::Store;

/// Runs until the agent (or, natively, a signal) says how the machine ends.
pub fn run(booted: Booted, mode: &Mode) -> Result<End, BootError> {
    let signals = Signals::new(mode).at("taking over signals")?;
    let program = Program::new(mode).at("the agent's command line")?;
    let mut supervisor = Supervisor {
        store: Store::new(booted),
        journal: Journal::default(),
        restarts: Restarts::default(),
        agent: None,
        program,
    };
    loop {
        if let Some(end) = supervisor.turn(&signals)? {
            return Ok(end);
        }
    }
}

struct Supervisor {
    store: Store,
    journal: Journal,
    restarts: Restarts,
    agent: Option<Agent>,
    program: Program,
}

/// What a turn of the loop woke up for.
#[derive(Debug, Default)]
struct Woken {
    signals: bool,
    requests: bool,
}

impl Supervisor {
    fn turn(&mut self, signals: &Signals) -> Result<Option<End>, BootError> {
        if self.agent.is_none() && self.restarts.due(Instant::now()) {
            self.start_agent();
        }
        self.end_the_undead();
        let woken = self.wait(signals).at("waiting")?;
        if woken.signals {
            if signals.drain() {
                return Ok(Some(End::Restart));
            }
            self.reap();
        }
        if woken.requests
            && let Some(end) = self.serve()
        {
            return Ok(Some(end));
        }
        self.tell_exits();
        Ok(None)
    }

    fn start_agent(&mut self) {
        let now = Instant::now();
        match Agent::start(&self.program, self.journal.last_seq()) {
            Ok(agent) => {
                self.restarts.started(now);
                self.agent = Some(agent);
            }
            Err(error) => {
                say(format_args!("the agent cannot be started: {error}"));
                self.restarts.started(now);
                self.restarts.died(now, Blame::Itself);
            }
        }
    }

    fn wait(&self, signals: &Signals) -> Result<Woken, Errno> {
        let mut polled = vec![PollFd::new(signals, PollFlags::IN)];
        if let Some(agent) = &self.agent {
            if agent.is_open() {
                polled.push(PollFd::new(&agent.requests, PollFlags::IN));
            }
            if self.journal.last_seq() > agent.told {
                // The event socket was full: go on when the agent has read some.
                polled.push(PollFd::new(&agent.events, PollFlags::OUT));
            }
        }
        let now = Instant::now();
        let timeout = match &self.agent {
            Some(agent) => agent.time_to_end(now),
            None => Some(self.restarts.wait(now)),
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let woken = |index: usize| {
            polled
                .get(index)
                .is_some_and(|one| !one.revents().is_empty())
        };
        Ok(Woken {
            signals: woken(0),
            requests: woken(1),
        })
    }

    /// Kills an agent that has closed what it cannot live without, and lives on.
    fn end_the_undead(&mut self) {
        if let Some(agent) = &mut self.agent
            && agent
                .time_to_end(Instant::now())
                .is_some_and(|left| left.is_zero())
        {
            say(format_args!(
                "the agent does not ask any more, and lives: killing it"
            ));
            agent.kill();
        }
    }

    /// Collects every process that ended; the agent's end is news, all others go to the journal.
    fn reap(&mut self) {
        while let Some((pid, status)) = signals::reap_one() {
            if let Some(agent) = self.agent.take_if(|agent| agent.pid == pid) {
                self.restarts.died(Instant::now(), agent.blame(status));
                say(format_args!(
                    "the agent ended ({}), starting it again{}",
                    agent::describe(status),
                    self.restarts.describe(),
                ));
            } else {
                self.journal.add(pid, status);
            }
        }
    }

    /// Answers one request. An agent that breaks the rules is killed and started afresh.
    fn serve(&mut self) -> Option<End> {
        let agent = self.agent.as_mut().filter(|agent| agent.is_open())?;
        let received = match packet::receive(agent.requests.as_fd(), RecvFlags::DONTWAIT) {
            Ok(Some(received)) => received,
            Err(Errno::AGAIN) => return None,
            // It is about to end, perhaps with an answer unread, or has closed what it cannot live
            // without.
            Ok(None) | Err(Errno::CONNRESET) => {
                agent.has_closed(Instant::now());
                return None;
            }
            Err(error) => {
                say(format_args!(
                    "the agent's request is unreadable ({error}): killing it"
                ));
                agent.kill();
                return None;
            }
        };
        let (bytes, descriptors) = received;
        let Some(request) = Request::decode(&bytes) else {
            say(format_args!("the agent's request is unknown: killing it"));
            agent.kill();
            return None;
        };
        let end = match request {
            Request::End(end) => Some(end),
            _ => None,
        };
        self.answer(request, descriptors);
        end
    }

    fn answer(&mut self, request: Request, descriptors: Vec<OwnedFd>) {
        let Some(agent) = &mut self.agent else { return };
        let mut along: Vec<BorrowedFd<'_>> = Vec::new();
        let reply = match request {
            Request::List { after } => {
                let (names, held, last) = self.store.after(&after);
                along = held;
                Reply::Names { last, names }
            }
            Request::Put { name } => self.store.put(name, descriptors),
            Request::Remove { name } => self.store.remove(&name),
            Request::RemovePrefix { prefix } => self.store.remove_prefix(&prefix),
            Request::Exits { after } => {
                let (exits, last) = self.journal.after(after);
                Reply::Exits { last, exits }
            }
            Request::Forget { pid, seq } => Reply::Done(self.journal.forget(pid, seq)),
            Request::End(_) => Reply::Done(1),
            Request::Info => Reply::Info(Info {
                agent_starts: self.restarts.starts(),
                failed_starts: self.restarts.failed(),
                descriptors: self.store.count(),
                exits: self.journal.count(),
                exits_lost: self.journal.lost(),
            }),
        };
        // One question, one answer: the socket is full only where answers were not read.
        let sent = packet::send(
            agent.requests.as_fd(),
            &reply.encode(),
            &along,
            SendFlags::DONTWAIT,
        );
        match sent {
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(error) => {
                say(format_args!(
                    "the agent does not take its answer ({error}): killing it"
                ));
                agent.kill();
            }
        }
    }

    /// Sends exits the agent has not been told of, as many as its socket takes.
    fn tell_exits(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        loop {
            let (exits, last) = self.journal.after(agent.told);
            for exit in exits {
                let sent = packet::send(
                    agent.events.as_fd(),
                    &exit.encode(),
                    &[],
                    SendFlags::DONTWAIT,
                );
                match sent {
                    Ok(()) => agent.told = exit.seq,
                    Err(Errno::AGAIN) => return,
                    Err(_) => {
                        // It is dying: its successor finds them in the journal.
                        agent.told = self.journal.last_seq();
                        return;
                    }
                }
            }
            if last {
                return;
            }
        }
    }
}
