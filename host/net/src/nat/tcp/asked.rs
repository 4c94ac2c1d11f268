//! A connection to the gateway's port for names: questions for the gateway's own names are answered here, as those by
//! datagram are, and everything else goes on to the host's server (RFC 7766: a length of two bytes before each message).
//!
//! Called by the connection it belongs to.
//! Must never: put an answer of ours into the middle of one of the server's, or keep more than a short question and a few
//! answers.

use super::super::names;
use super::super::plan::Plan;

/// The length before each message.
const PREFIX: usize = 2;
/// A question for one of our names is no longer, whatever is in it beside the name.
const LONGEST: usize = 1_024;
/// The most that is kept for the guest, in bytes.
const MOST_ANSWERS: usize = 4 * LONGEST;

/// Bytes that the host must be able to take before any of the guest are looked at.
pub const ROOM: usize = PREFIX + LONGEST;

/// Where in a row of messages it is.
#[derive(Debug, Default)]
struct Place {
    /// The first byte of a length.
    high: Option<u8>,
    /// Bytes of the message that are yet to come.
    left: usize,
}

impl Place {
    fn is_between(&self) -> bool {
        self.high.is_none() && self.left == 0
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let count = self.left.min(bytes.len());
                self.left -= count;
                bytes = &bytes[count..];
                continue;
            }
            match self.high.take() {
                None => self.high = Some(*first),
                Some(high) => self.left = u16::from_be_bytes([high, *first]).into(),
            }
            bytes = rest;
        }
    }
}

/// What is to be done with what the guest says.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes go on as they are.
    Pass(usize),
    /// So many were kept.
    Kept(usize),
    /// So many were kept, and what is kept goes on now: [`Asked::take_kept`].
    Release(usize),
    /// There is no room for an answer now.
    Wait,
}

/// Both ways of one connection.
#[derive(Debug)]
pub struct Asked {
    plan: Plan,
    /// The beginning of a question.
    kept: Vec<u8>,
    /// Bytes of a long message that pass as they come.
    passing: usize,
    /// In what the server says.
    server: Place,
    answers: Vec<u8>,
}

impl Asked {
    /// One on which nothing was said yet.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            kept: Vec::new(),
            passing: 0,
            server: Place::default(),
            answers: Vec::new(),
        }
    }

    /// Looks at what the guest says.
    pub fn step(&mut self, content: &[u8]) -> Step {
        if self.passing > 0 {
            return Step::Pass(self.passing.min(content.len()));
        }
        if self.answers.len() > MOST_ANSWERS - ROOM {
            return Step::Wait;
        }
        let wanted = match self.kept[..] {
            [high, low, ..] => PREFIX + usize::from(u16::from_be_bytes([high, low])),
            _ => PREFIX,
        };
        let count = (wanted - self.kept.len()).min(content.len());
        self.kept.extend_from_slice(&content[..count]);
        let [high, low, ref message @ ..] = self.kept[..] else {
            return Step::Kept(count);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > LONGEST {
            self.passing = length;
            return Step::Release(count);
        }
        if message.len() < length {
            return Step::Kept(count);
        }
        let Some(answer) = names::answer(message, &self.plan) else {
            return Step::Release(count);
        };
        // It is hardly longer than the question.
        self.answers.extend((answer.len() as u16).to_be_bytes());
        self.answers.extend(answer);
        self.kept.clear();
        Step::Kept(count)
    }

    /// So many bytes went on that were to pass.
    pub fn passed(&mut self, count: usize) {
        self.passing -= count;
    }

    /// What was kept and goes on.
    pub fn take_kept(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }

    /// The server says this.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.server.pass(bytes);
    }

    /// Answers that the guest may be given now.
    pub fn answers(&self) -> &[u8] {
        match self.server.is_between() {
            true => &self.answers,
            false => &[],
        }
    }

    /// It has all of them.
    pub fn given(&mut self) {
        self.answers.clear();
    }
}
