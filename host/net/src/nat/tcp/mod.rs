//! Connections of the guest: each is ended here, and one of the host stands for it.
//!
//! Called by the NAT with segments, events of sockets and deadlines. Nothing is answered at once: whoever
//! changed is put in line, and [`Tcp::flush`] sends at the end of a batch what each one owes then, as far as the guest has
//! room, so that many segments are acknowledged by one. Where there are as many as there may be, one that was silent for long ends for
//! a new one of whoever has fewer; nobody has one for whoever has most.

mod asked;
mod budget;
mod failure;
mod flow;
mod output;
mod reclaim;
mod segment;
mod sequence;
mod silence;
mod turns;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry};

use super::frame::{Datagram, Wire};
use super::holders::Holders;
use super::plan::{Plan, Target};
use super::timers::{Timers, Token};
use asked::Asked;
use budget::Budget;
use failure::Failure;
#[cfg(test)]
pub use flow::SHIFT;
use flow::{Flow, State, Verdict};
use segment::{Ends, Segment};
use turns::Lines;

/// Bytes that all rings together may grow by.
const MEMORY: usize = 512 << 20;
/// Bytes each way that connections may have under way together where they are many: each has the largest ring within its
/// part, and the smallest at least. Else those that came first would be ahead for ever. With less than this, a thousand
/// carry less.
pub const SHARED: usize = 256 << 20;

/// All connections.
#[derive(Debug)]
pub struct Tcp {
    flows: HashMap<Token, Flow>,
    by_ends: HashMap<Ends, Token>,
    lines: Lines,
    most: usize,
    holders: Holders,
    most_connecting: usize,
    /// Of the connections that are being made.
    connecting: Holders,
    budget: Budget,
    /// When memory was taken back last.
    reclaimed: Instant,
    random: RandomState,
    began: Instant,
}

impl Tcp {
    /// None yet, and `most` at a time, of which `most_connecting` are being made.
    pub fn new(most: usize, most_connecting: usize) -> Self {
        let now = Instant::now();
        Self {
            flows: HashMap::new(),
            by_ends: HashMap::new(),
            lines: Lines::default(),
            most,
            holders: Holders::default(),
            most_connecting,
            connecting: Holders::default(),
            budget: Budget::new(MEMORY, SHARED),
            reclaimed: now,
            random: RandomState::new(),
            began: now,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// A segment of the guest. `token` is for a connection that it begins; `names` is
    /// where the host asks for names, if it does.
    pub fn receive(
        &mut self,
        datagram: &Datagram<'_>,
        around: &mut Around<'_>,
        token: Token,
        names: Option<SocketAddr>,
    ) {
        let Some(segment) = Segment::parse(datagram) else {
            return;
        };
        if let Some(token) = self.by_ends.get(&segment.ends).copied() {
            let Some(flow) = self.flows.get_mut(&token) else {
                return;
            };
            flow.silence.hear(around.now);
            let verdict = flow.take(&segment, &mut self.budget);
            self.settle(token, verdict, around);
        } else if segment.syn && segment.acknowledged.is_none() && !segment.rst {
            let target = around.plan.destination(segment.ends.remote, names);
            let began = target
                .ok_or(Failure::Refused)
                .and_then(|target| self.begin(&segment, target, around, token));
            match began {
                Ok(()) | Err(Failure::Late) => {}
                Err(Failure::Refused) => segment::refuse(around.wire, around.plan, &segment),
                Err(Failure::Unreachable(why)) => {
                    failure::tell(segment.ends, segment.sequence, why, around);
                }
            }
        } else {
            segment::refuse(around.wire, around.plan, &segment);
        }
    }

    fn begin(
        &mut self,
        syn: &Segment<'_>,
        target: SocketAddr,
        around: &mut Around<'_>,
        token: Token,
    ) -> Result<(), Failure> {
        let source = syn.ends.guest.ip();
        if !self.make_room(source, around) {
            return Err(Failure::Refused);
        }
        let mut socket = TcpStream::connect(target).map_err(|error| Failure::of(&error))?;
        let both = Interest::READABLE | Interest::WRITABLE;
        around
            .registry
            .register(&mut socket, mio::Token(token), both)
            .map_err(|_| Failure::Refused)?;
        let mut flow = Flow::new(socket, syn, self.first_number(&syn.ends), around.now);
        if around.plan.target(syn.ends.remote) == Target::Names {
            flow.asked = Some(Box::new(Asked::new(around.plan.clone())));
        }
        self.budget.add(source);
        self.holders.add(source, token, around.now);
        self.connecting.add(source, token, around.now);
        self.by_ends.insert(syn.ends, token);
        self.flows.insert(token, flow);
        Ok(())
    }

    /// Makes room for one more of `source`, if others have more than it would have then.
    fn make_room(&mut self, source: IpAddr, around: &mut Around<'_>) -> bool {
        if self.connecting.len() >= self.most_connecting {
            let richest = self.connecting.richest_beside(source);
            // All of them wait, and the first has waited for longest.
            let victim = richest.and_then(|richest| self.connecting.idlest(richest, |_| None));
            let Some(victim) = victim else {
                return false;
            };
            self.settle(victim, Verdict::Broken, around);
        }
        if self.flows.len() >= self.most {
            let flows = &self.flows;
            let heard = |token: Token| flows.get(&token).map(|flow| flow.silence.heard());
            let holders = &mut self.holders;
            let victim = holders
                .richest_beside(source)
                .and_then(|richest| holders.idlest(richest, heard));
            let Some(victim) = victim else {
                return false;
            };
            self.settle(victim, Verdict::Broken, around);
        }
        true
    }

    /// A number nobody can guess, and that moves on with time (RFC 6528).
    fn first_number(&self, ends: &Ends) -> u32 {
        let hash = self.random.hash_one(ends) as u32;
        hash.wrapping_add((self.began.elapsed().as_micros() / 4) as u32)
    }

    /// A socket has something new.
    pub fn stirred(
        &mut self,
        token: Token,
        readable: bool,
        writable: bool,
        around: &mut Around<'_>,
    ) {
        let Some(flow) = self.flows.get_mut(&token) else {
            return;
        };
        let was = flow.state;
        let verdict = flow.stirred(readable, writable, &mut self.budget);
        if was == State::Connecting && flow.state != State::Connecting {
            self.connecting.remove(token);
        }
        self.settle(token, verdict, around);
    }

    /// A deadline has passed.
    pub fn waited(&mut self, token: Token, around: &mut Around<'_>) {
        let Some(flow) = self.flows.get_mut(&token) else {
            return;
        };
        let verdict = flow.waited(around.now);
        self.settle(token, verdict, around);
    }

    fn settle(&mut self, token: Token, verdict: Verdict, around: &mut Around<'_>) {
        match verdict {
            Verdict::Goes => self.line_up(token),
            Verdict::Gone | Verdict::NotMade(Failure::Late) => self.remove(token, true, around),
            Verdict::NotMade(Failure::Unreachable(why)) => {
                if let Some(flow) = self.flows.get(&token) {
                    failure::tell(flow.ends, flow.taken.wrapping_sub(1), why, around);
                }
                self.remove(token, true, around);
            }
            Verdict::Broken | Verdict::NotMade(Failure::Refused) => {
                if let Some(flow) = self.flows.get_mut(&token) {
                    // A guest without room hears it when it next says something.
                    output::reset(flow, around.wire, around.plan);
                }
                self.remove(token, true, around);
            }
        }
    }

    /// Has so much memory, as if no connection had been.
    #[cfg(test)]
    pub fn lend(&mut self, memory: usize) {
        self.budget = Budget::new(memory, SHARED);
    }

    /// Lets all connections that are being made fail, as if the system had said so.
    #[cfg(test)]
    pub fn break_off(&mut self, error: &std::io::Error, around: &mut Around<'_>) {
        let all: Vec<_> = self.flows.keys().copied().collect();
        for token in all {
            self.settle(token, Verdict::NotMade(Failure::of(error)), around);
        }
    }

    fn remove(&mut self, token: Token, abruptly: bool, around: &mut Around<'_>) {
        let Some(mut flow) = self.flows.remove(&token) else {
            return;
        };
        self.by_ends.remove(&flow.ends);
        self.holders.remove(token);
        self.connecting.remove(token);
        self.budget.remove(flow.ends.guest.ip(), &flow.rings());
        around.timers.set(token, &mut flow.deadline, None);
        if abruptly {
            // The other side is to see that it was given up, not that it ended.
            let _ =
                socket2::SockRef::from(&flow.socket).set_linger(Some(std::time::Duration::ZERO));
        }
        let _ = around.registry.deregister(&mut flow.socket);
    }
}

/// What everybody needs: the guest's end, the sockets' registry, the deadlines, the time.
pub struct Around<'a> {
    /// The guest's end.
    pub wire: &'a mut dyn Wire,
    /// Who is who.
    pub plan: &'a Plan,
    /// Where sockets are waited for.
    pub registry: &'a Registry,
    /// When somebody wants to be looked at.
    pub timers: &'a mut Timers,
    /// Now.
    pub now: Instant,
}
