//! Questions for names that go on to where the host asks: to one server after the other, as the host's own resolver has
//! them, until one knows.
//!
//! Called by the table of datagrams with what containers send to the gateway's port for names. The next server is asked
//! when one says that it cannot answer, cannot be reached, or takes too long; one that was slow is heard all the same, and
//! before a later one that knows nothing of the name: names of a house or company are often known to the first alone.
//! Must never: believe an answer that is of another question's number or from somebody who was not asked, or keep a
//! question for longer than it is waited for.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::Interest;
use mio::net::UdpSocket;

use super::holders::Holders;
use super::icmp::Unreachable;
use super::tcp::Around;
use super::timers::Token;
use super::udp::{self, Ends};

/// Servers that are asked at most: the C library's number.
pub const SERVERS: usize = 3;
/// How long one may take while there is another to ask, and the others once one has refused.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long all of them may take, from the question on. The containers' name server at 127.0.0.11 waits four seconds for
/// us: what is held back until the end must arrive before that, and what comes later is heard by nobody.
const LAST_PATIENCE: Duration = Duration::from_millis(3_500);
/// The longest question that is kept to be asked again, and the longest answer that is held back.
const LONGEST: usize = 4_096;
/// The header of every message (RFC 1035, section 4.1.1).
const HEADER: usize = 12;
/// The bit for what did not fit.
const TRUNCATED: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    ends: Ends,
    id: [u8; 2],
}

#[derive(Debug)]
struct Question {
    key: Key,
    message: Vec<u8>,
    /// Of servers that may answer yet, in their order.
    sockets: Vec<(SocketAddr, UdpSocket)>,
    /// How many of the servers were asked.
    asked: usize,
    /// What a server said that cannot answer, for when all are like that.
    refusal: Option<Vec<u8>>,
    /// That a server has no answer, for when none of the earlier ones has.
    negative: Option<Vec<u8>>,
    /// When it came.
    since: Instant,
    deadline: Option<Instant>,
}

/// What a server's socket has.
enum Heard {
    Nothing,
    Answer(SocketAddr, usize),
    /// There is no such name, or nothing of the kind that was asked for.
    Negative(usize, usize),
    /// It is of no use; and what it said of that.
    Useless(usize, Option<usize>),
}

/// All that are on their way.
#[derive(Debug)]
pub struct Questions {
    all: HashMap<Token, Question>,
    by_key: HashMap<Key, Token>,
    holders: Holders,
    most: usize,
    servers: Vec<SocketAddr>,
    /// The one that knew an answer last.
    good: Option<SocketAddr>,
    /// Such as said nothing to a whole question, nor anything since: what a later one says is not held back for them.
    silent: BTreeSet<SocketAddr>,
}

impl Questions {
    /// None yet, and `most` at a time.
    pub fn new(most: usize) -> Self {
        Self {
            all: HashMap::new(),
            by_key: HashMap::new(),
            holders: Holders::default(),
            most,
            servers: Vec::new(),
            good: None,
            silent: BTreeSet::new(),
        }
    }

    /// Says where the host asks now.
    pub fn set_servers(&mut self, mut servers: Vec<SocketAddr>) {
        servers.truncate(SERVERS);
        (self.servers, self.good) = (servers, None);
        self.silent.clear();
    }

    /// Where to ask by a connection: the one that knew an answer last, else the first.
    pub fn server(&self) -> Option<SocketAddr> {
        self.good.or_else(|| self.servers.first().copied())
    }

    /// Whether this is a question's.
    pub fn has(&self, token: Token) -> bool {
        self.all.contains_key(&token)
    }

    /// How many are on their way.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// A question of the guest; false where there is nobody to ask.
    pub fn receive(
        &mut self,
        ends: Ends,
        message: &[u8],
        around: &mut Around<'_>,
        token: Token,
    ) -> bool {
        if self.servers.is_empty() {
            return false;
        }
        let (Some(id), true) = (message.first_chunk(), message.len() <= LONGEST) else {
            return true;
        };
        let key = Key { ends, id: *id };
        if let Some(token) = self.by_key.get(&key).copied() {
            if let Some(question) = self.all.get_mut(&token)
                && question.message == message
            {
                // The answer comes, or the next server is asked: what was lost is asked again of the last.
                if let Some((_, socket)) = question.sockets.last() {
                    let _ = socket.send(message);
                }
                return true;
            }
            self.remove(token, around);
        }
        if self.all.len() >= self.most {
            self.make_room(ends.guest.ip(), around);
        }
        self.holders.add(ends.guest.ip(), token, around.now);
        self.by_key.insert(key, token);
        let question = Question {
            key,
            message: message.to_vec(),
            sockets: Vec::new(),
            asked: 0,
            refusal: None,
            negative: None,
            since: around.now,
            deadline: None,
        };
        self.all.insert(token, question);
        self.ask_next(token, around);
        true
    }

    /// A server's socket has something.
    pub fn stirred(&mut self, token: Token, around: &mut Around<'_>, buffer: &mut [u8]) {
        loop {
            let Some(question) = self.all.get_mut(&token) else {
                return;
            };
            match question.hear(buffer) {
                Heard::Nothing => return,
                Heard::Answer(server, length) => {
                    self.good = Some(server);
                    self.silent.remove(&server);
                    return self.finish(token, Some(&buffer[..length]), around);
                }
                Heard::Negative(at, length) => {
                    self.silent.remove(&question.sockets[at].0);
                    let mut earlier = question.sockets[..at].iter();
                    if earlier.all(|(server, _)| self.silent.contains(server)) || length > LONGEST {
                        return self.finish(token, Some(&buffer[..length]), around);
                    }
                    question.negative = Some(buffer[..length].to_vec());
                    // Those after it count for less than it does.
                    for (_, mut socket) in question.sockets.drain(at..) {
                        let _ = around.registry.deregister(&mut socket);
                    }
                    self.ask_next(token, around);
                }
                Heard::Useless(at, said) => {
                    let (server, mut socket) = question.sockets.remove(at);
                    let _ = around.registry.deregister(&mut socket);
                    if let Some(length) = said {
                        self.silent.remove(&server);
                        if length <= LONGEST {
                            question.refusal = Some(buffer[..length].to_vec());
                        }
                    }
                    self.ask_next(token, around);
                }
            }
        }
    }

    /// A deadline has passed.
    pub fn waited(&mut self, token: Token, around: &mut Around<'_>) {
        let Some(question) = self.all.get_mut(&token) else {
            return;
        };
        question.deadline = None;
        if question.has_next(&self.servers) {
            return self.ask_next(token, around);
        }
        let held = question.held();
        // After a refusal it was but a moment.
        if around.now >= question.since + LAST_PATIENCE {
            let silent = question.sockets.iter().map(|(server, _)| *server);
            self.silent.extend(silent);
        }
        self.finish(token, held.as_deref(), around);
    }

    /// Asks the next server, if there is one; else it is over when nobody is left who may answer.
    fn ask_next(&mut self, token: Token, around: &mut Around<'_>) {
        let Some(question) = self.all.get_mut(&token) else {
            return;
        };
        while question.has_next(&self.servers) {
            let server = self.servers[question.asked];
            question.asked += 1;
            if let Ok(socket) = question.ask(server, token, around) {
                question.sockets.push((server, socket));
                break;
            }
        }
        if question.sockets.is_empty() {
            let held = question.held();
            let ends = question.key.ends;
            if held.is_none() {
                udp::tell(&ends, Unreachable::Port, around);
            }
            return self.finish(token, held.as_deref(), around);
        }
        // Also where nobody could be asked any more: who was asked before may answer yet, but not for ever.
        let until = question.patience(&self.servers, around.now);
        around
            .timers
            .set(token, &mut question.deadline, Some(until));
    }

    /// Gives the guest its answer, if there is one, and forgets the question. A guest without room asks again.
    fn finish(&mut self, token: Token, answer: Option<&[u8]>, around: &mut Around<'_>) {
        if let (Some(question), Some(answer)) = (self.all.get(&token), answer) {
            // One datagram in pieces is told from another by this.
            let ident = token as u16;
            udp::deliver(&question.key.ends, answer, ident, around.plan, around.wire);
        }
        self.remove(token, around);
    }

    fn make_room(&mut self, source: IpAddr, around: &mut Around<'_>) {
        let holders = &mut self.holders;
        let victim = holders
            .yields_to(source)
            .and_then(|richest| holders.idlest(richest, |_| None));
        if let Some(token) = victim {
            self.remove(token, around);
        }
    }

    fn remove(&mut self, token: Token, around: &mut Around<'_>) {
        if let Some(mut question) = self.all.remove(&token) {
            self.by_key.remove(&question.key);
            self.holders.remove(token);
            around.timers.set(token, &mut question.deadline, None);
            for (_, socket) in &mut question.sockets {
                let _ = around.registry.deregister(socket);
            }
        }
    }
}

impl Question {
    fn ask(&self, server: SocketAddr, token: Token, around: &Around<'_>) -> io::Result<UdpSocket> {
        let mut socket = udp::joined(UdpSocket::bind(udp::any(server))?, server)?;
        socket.send(&self.message)?;
        let mio_token = mio::Token(token);
        around
            .registry
            .register(&mut socket, mio_token, Interest::READABLE)?;
        Ok(socket)
    }

    /// Whether one of them is to be asked yet; none after one that has no answer.
    fn has_next(&self, servers: &[SocketAddr]) -> bool {
        self.asked < servers.len() && self.negative.is_none()
    }

    /// Until when those who were asked are waited for.
    fn patience(&self, servers: &[SocketAddr], now: Instant) -> Instant {
        let last = self.since + LAST_PATIENCE;
        let only_refused = self.refusal.is_some() && self.negative.is_none();
        match only_refused || self.has_next(servers) {
            true => last.min(now + PATIENCE),
            false => last,
        }
    }

    /// What is said where nobody knows an answer.
    fn held(&mut self) -> Option<Vec<u8>> {
        self.negative.take().or(self.refusal.take())
    }

    /// What one of the servers says, in `buffer`.
    fn hear(&self, buffer: &mut [u8]) -> Heard {
        for (at, (server, socket)) in self.sockets.iter().enumerate() {
            loop {
                let length = match socket.recv(buffer) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => return Heard::Useless(at, None),
                };
                let is_answer =
                    length >= HEADER && buffer[..2] == self.key.id && buffer[2] & 0x80 != 0;
                if !is_answer {
                    continue;
                }
                // One that was cut off has its answers where it is asked for by a connection.
                let is_empty = buffer[6..8] == [0, 0] && buffer[2] & TRUNCATED == 0;
                return match buffer[3] & 0xf {
                    // The server failed, does not know how, or does not want to: others may.
                    2 | 4 | 5 => Heard::Useless(at, Some(length)),
                    0 if is_empty => Heard::Negative(at, length),
                    3 => Heard::Negative(at, length),
                    _ => Heard::Answer(*server, length),
                };
            }
        }
        Heard::Nothing
    }
}
