//! One connection of the guest, ended here, and the host's own that stands for it.
//!
//! ```text
//!   guest ──segments──► to_host ring ──write──► socket
//!   guest ◄─segments─── to_guest ring ◄─read─── socket      (kept until the guest has acknowledged it)
//! ```
//!
//! Called by the table beside it, on one thread. What comes from the guest is believed for its own connection
//! only: numbers out of order are answered, never followed. The link loses nothing by itself; what the guest drops is
//! sent again frame by frame as its acknowledgements tell (RFC 6582, without a congestion window), and all from the
//! first missing byte on where it tells nothing. A host that resets its connection is read to the end all the same, as
//! the kernel would let the guest: the reset is passed on after the last byte.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::super::ring::{LARGEST, Ring};
use super::asked::{self, Asked, Step};
use super::budget::Budget;
use super::failure::{Failure, is_reset};
use super::output::AHEAD;
use super::segment::{Ends, Segment};
use super::sequence::{before, distance};
use super::silence::Silence;
use super::turns::Place;

/// By how many bits our windows are shifted: the largest ring fits.
pub const SHIFT: u8 = 7;
/// How long an answer of the guest may take at first.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const MOST_PATIENCE: Duration = Duration::from_secs(60);
/// Tries before a silent guest's connection is given up.
const TRIES: u8 = 12;
/// From so many on the wait is the longest.
const SLOWEST: u8 = 6;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The host's connection is being made.
    Connecting,
    /// It is made; the guest is told.
    Answering,
    /// The guest knows.
    Open,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Goes,
    /// The guest gave it up, or nobody needs it any more.
    Gone,
    /// The guest is to be told that it is over.
    Broken,
    /// There is no connection of the host, for this reason.
    NotMade(Failure),
}

/// What is missing at the guest is being sent again.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// Over when the guest has everything before this; until then what it says again tells nothing new.
    until: u32,
    /// An acknowledgement of less than that asks for the next frame that is missing.
    by_frames: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Flow {
    pub(super) ends: Ends,
    pub(super) socket: TcpStream,
    pub(super) state: State,
    pub(super) deadline: Option<Instant>,
    pub(super) silence: Silence,
    /// It is one for names.
    pub(super) asked: Option<Box<Asked>>,
    pub(super) place: Place,
    /// Bytes that it may have under way, each way.
    pub(super) share: usize,
    readable: bool,
    writable: bool,

    pub(super) to_host: Ring,
    /// Up to here everything of the guest was taken.
    pub(super) taken: u32,
    /// Up to here the guest may send.
    edge: u32,
    /// The guest said all it has to say, and that was taken.
    guest_ended: bool,
    /// So was the host told.
    host_told: bool,
    pub(super) moved_out: usize,

    pub(super) to_guest: Ring,
    /// Up to here the guest has everything; the ring begins here.
    pub(super) oldest: u32,
    /// What is sent next.
    pub(super) next: u32,
    /// The furthest that was ever sent.
    furthest: u32,
    pub(super) window: usize,
    guest_shift: Option<u8>,
    pub(super) mss: u16,
    /// The host said all it has to say.
    pub(super) host_ended: bool,
    /// The number of the end, once it was sent.
    pub(super) end_at: Option<u32>,
    pub(super) moved_in: usize,
    /// The host's connection broke: what it said goes to the guest yet, and then the reset.
    pub(super) host_broken: bool,

    pub(super) owes_answer: bool,
    pub(super) probe: bool,
    /// The first frame that the guest lacks is to be sent again.
    pub(super) lacks_first: bool,
    recovery: Option<Recovery>,
    /// The guest took something since the deadline was set, which is set anew then and only then (RFC 6298, section 5).
    progressed: bool,
    duplicates: u8,
    tries: u8,
}

impl Flow {
    /// A connection that the guest begins with `syn`.
    pub fn new(socket: TcpStream, syn: &Segment<'_>, first: u32, now: Instant) -> Self {
        let smallest: u16 = 536;
        let largest = match syn.ends.guest.is_ipv4() {
            true => 1460,
            false => 1440,
        };
        let taken = syn.sequence.wrapping_add(1);
        Self {
            ends: syn.ends,
            socket,
            state: State::Connecting,
            deadline: None,
            silence: Silence::new(now),
            asked: None,
            place: Place::default(),
            share: LARGEST,
            readable: false,
            writable: false,
            to_host: Ring::new(),
            taken,
            edge: taken,
            guest_ended: false,
            host_told: false,
            moved_out: 0,
            to_guest: Ring::new(),
            oldest: first,
            next: first,
            furthest: first,
            window: usize::from(syn.window),
            guest_shift: syn.window_shift,
            mss: syn.mss.unwrap_or(smallest).clamp(smallest, largest),
            host_ended: false,
            end_at: None,
            moved_in: 0,
            host_broken: false,
            owes_answer: false,
            probe: false,
            lacks_first: false,
            recovery: None,
            progressed: false,
            duplicates: 0,
            tries: 0,
        }
    }

    /// Its rings, which count as memory.
    pub fn rings(&self) -> [&Ring; 2] {
        [&self.to_host, &self.to_guest]
    }

    /// What our windows are shifted by: nothing where the guest does not shift its own.
    pub fn shift(&self) -> Option<u8> {
        self.guest_shift.map(|_| SHIFT)
    }

    /// The window to tell, scaled down, which is kept as told. In the first segment it is not scaled.
    pub fn tell_window(&mut self, first: bool) -> u16 {
        let shift = self.shift().filter(|_| !first).unwrap_or(0);
        let room = self.to_host.room_within(self.share).max(self.told());
        let window = u16::try_from(room >> shift).unwrap_or(u16::MAX);
        let edge = self.taken.wrapping_add(u32::from(window) << shift);
        if before(self.edge, edge) {
            self.edge = edge;
        }
        window
    }

    /// Bytes that the guest was told it may send yet. It counts on them, and there is room, also where the share is less now.
    pub fn told(&self) -> usize {
        match self.guest_ended {
            true => 0,
            false => distance(self.edge, self.taken),
        }
    }

    /// Takes a segment of the guest.
    pub fn take(&mut self, segment: &Segment<'_>, budget: &mut Budget) -> Verdict {
        if segment.rst {
            // Out of its place it is somebody's guess (RFC 5961, section 3).
            let exact = segment.sequence == self.taken || self.state == State::Connecting;
            self.owes_answer |= !exact;
            return if exact { Verdict::Gone } else { Verdict::Goes };
        }
        if self.state == State::Connecting {
            // Asked again: the answer comes when there is one.
            return Verdict::Goes;
        }
        if segment.syn {
            match self.state {
                State::Answering => self.next = self.oldest,
                _ => self.owes_answer = true,
            }
            return Verdict::Goes;
        }
        let Some(acknowledged) = segment.acknowledged else {
            return Verdict::Goes;
        };
        if before(self.furthest, acknowledged) {
            if self.state == State::Answering {
                return Verdict::Broken;
            }
            self.owes_answer = true;
            return Verdict::Goes;
        }
        self.take_acknowledgement(acknowledged, segment);
        if self.state == State::Answering {
            return Verdict::Goes;
        }
        self.take_content(segment, budget);
        self.pull(budget);
        Verdict::Goes
    }

    fn take_acknowledgement(&mut self, acknowledged: u32, segment: &Segment<'_>) {
        let window = usize::from(segment.window) << self.guest_shift.unwrap_or(0);
        if before(self.oldest, acknowledged) {
            let mut gained = distance(acknowledged, self.oldest);
            if self.state == State::Answering {
                self.state = State::Open;
                gained -= 1;
            }
            if self.end_at.is_some_and(|end| before(end, acknowledged)) {
                gained -= 1;
            }
            self.to_guest.consume(gained);
            self.oldest = acknowledged;
            if before(self.next, acknowledged) {
                self.next = acknowledged;
            }
            (self.duplicates, self.tries) = (0, 0);
            self.window = window;
            self.progressed = true;
            self.recover(acknowledged);
        } else if acknowledged == self.oldest && self.window == 0 {
            self.take_answer_to_probe(window);
        } else if acknowledged == self.oldest {
            let repeated = segment.length() == 0
                && window == self.window
                && self.next != self.oldest
                && self.state == State::Open;
            self.duplicates = if repeated {
                self.duplicates.saturating_add(1)
            } else {
                0
            };
            if self.duplicates == 3 && self.recovery.is_none() {
                self.lacks_first = true;
                self.recovery = Some(Recovery {
                    until: self.furthest,
                    by_frames: true,
                });
            }
            self.window = window;
        }
    }

    /// The guest that had no room says whether it has: what was tried meanwhile it did not take.
    fn take_answer_to_probe(&mut self, window: usize) {
        if !self.host_broken {
            // Whoever answers is there, for as long as it does not read. What is left of a host that is gone is kept for so
            // long as for a guest that is silent.
            self.tries = self.tries.min(SLOWEST);
        }
        if window > 0 {
            self.next = self.oldest;
            (self.probe, self.progressed, self.tries) = (false, true, 0);
            (self.recovery, self.lacks_first, self.duplicates) = (None, false, 0);
        }
        self.window = window;
    }

    /// The guest has more of what is being sent again.
    fn recover(&mut self, acknowledged: u32) {
        let Some(recovery) = self.recovery else {
            return;
        };
        if before(acknowledged, recovery.until) {
            self.lacks_first |= recovery.by_frames;
        } else {
            (self.recovery, self.lacks_first) = (None, false);
        }
    }

    fn take_content(&mut self, segment: &Segment<'_>, budget: &mut Budget) {
        if segment.length() == 0 {
            // One out of place asks whether we are still there.
            self.owes_answer |= segment.sequence != self.taken;
            return;
        }
        self.owes_answer = true;
        if before(self.taken, segment.sequence) || self.guest_ended {
            return;
        }
        let known = distance(self.taken, segment.sequence);
        let Some(mut content) = segment.content.get(known..) else {
            return;
        };
        let mut ends = segment.fin;
        let room = distance(self.edge, self.taken);
        if content.len() > room {
            content = &content[..room];
            ends = false;
        }
        let count = match self.asked.take() {
            Some(asked) => self.deliver_questions(asked, content),
            None => self.deliver(content),
        };
        self.taken = self.taken.wrapping_add(count as u32);
        self.moved_out += count;
        if self.moved_out >= self.to_host.limit() {
            budget.raise(self.ends.guest.ip(), &mut self.to_host);
            self.moved_out = 0;
        }
        if ends && count == content.len() {
            self.taken = self.taken.wrapping_add(1);
            self.guest_ended = true;
            self.tell_host();
        }
    }

    /// Gives content to the host, or keeps it; how much. A host that is gone takes all: the guest is to come to reading.
    fn deliver(&mut self, content: &[u8]) -> usize {
        let mut done = 0;
        while self.to_host.is_empty() && self.writable && !self.host_broken && done < content.len()
        {
            match self.socket.write(&content[done..]) {
                Ok(count) => done += count,
                Err(error) => self.not_written(&error),
            }
        }
        if self.host_broken {
            return content.len();
        }
        done + self.to_host.push(&content[done..])
    }

    /// The same of questions for names: those that the gateway itself knows do not go on.
    fn deliver_questions(&mut self, mut asked: Box<Asked>, content: &[u8]) -> usize {
        let mut done = 0;
        while done < content.len() && (self.host_broken || self.to_host.room() >= asked::ROOM) {
            match asked.step(&content[done..]) {
                Step::Pass(count) => {
                    let count = self.deliver(&content[done..done + count]);
                    asked.passed(count);
                    done += count;
                }
                Step::Kept(count) => done += count,
                Step::Release(count) => {
                    let kept = asked.take_kept();
                    self.deliver(&kept);
                    done += count;
                }
                Step::Wait => break,
            }
        }
        self.asked = Some(asked);
        done
    }

    /// Gives the guest what the gateway itself answers, where the server is not in the middle of something.
    fn answer(&mut self) {
        if let Some(asked) = &mut self.asked
            && self.end_at.is_none()
            && asked.answers().len() <= self.to_guest.room()
        {
            let answers = asked.answers();
            if !answers.is_empty() {
                self.to_guest.push(answers);
                asked.given();
            }
        }
    }

    /// Tells the host that nothing more comes, once it has everything: never one that lacks something.
    fn tell_host(&mut self) {
        let has_all = self.to_host.is_empty() && !self.host_broken;
        if self.guest_ended && !self.host_told && has_all {
            self.host_told = true;
            match self.socket.shutdown(Shutdown::Write) {
                Ok(()) => {}
                // It has gone itself meanwhile: what is read says how.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Err(error) => self.not_written(&error),
            }
        }
    }

    /// The host's socket has something new.
    pub fn stirred(&mut self, readable: bool, writable: bool, budget: &mut Budget) -> Verdict {
        self.readable |= readable;
        self.writable |= writable;
        if self.state == State::Connecting {
            return self.connected();
        }
        self.push();
        self.pull(budget);
        Verdict::Goes
    }

    fn connected(&mut self) -> Verdict {
        match self.socket.take_error() {
            Ok(None) => {}
            // Only a connection that was made is reset; one that is not made is refused.
            Ok(Some(error)) if is_reset(&error) => {
                self.state = State::Answering;
                self.host_breaks();
                return Verdict::Goes;
            }
            Ok(Some(error)) => return Verdict::NotMade(Failure::of(&error)),
            Err(_) => return Verdict::Broken,
        }
        match self.socket.peer_addr() {
            // Nobody listens: the system gave us the very port.
            Ok(peer) if self.socket.local_addr().is_ok_and(|local| local == peer) => {
                Verdict::NotMade(Failure::Refused)
            }
            Ok(_) => {
                self.state = State::Answering;
                // Content is small and goes both ways: nobody waits to fill a segment.
                let _ = self.socket.set_nodelay(true);
                Verdict::Goes
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Verdict::Goes,
            Err(_) => Verdict::Broken,
        }
    }

    /// Writes what is kept for the host.
    fn push(&mut self) {
        let before_now = self.to_host.len();
        while self.writable && !self.to_host.is_empty() {
            match self.socket.write_vectored(&self.to_host.to_write()) {
                Ok(count) => self.to_host.consume(count),
                Err(error) => self.not_written(&error),
            }
        }
        if self.to_host.len() < before_now {
            // A guest that waits for room hears of it while it is worth a segment or two.
            let told = distance(self.edge, self.taken);
            let most = self.to_host.limit().min(self.share);
            let worth = (most / 4).max(2 * usize::from(self.mss)).min(most / 2);
            self.owes_answer |= self.to_host.room_within(self.share) >= told + worth;
            self.to_host.shrink();
        }
        self.tell_host();
    }

    /// Reads what the host has, as much as may be kept for the guest.
    pub fn pull(&mut self, budget: &mut Budget) {
        self.answer();
        let most = self.share.min(distance(self.next, self.oldest) + AHEAD);
        while self.readable && !self.host_ended && self.to_guest.room_within(most) > 0 {
            let socket = &mut self.socket;
            match self
                .to_guest
                .fill_within(most, |room| socket.read_vectored(room))
            {
                Ok(0) => self.host_ended = true,
                Ok(count) => {
                    if let Some(asked) = &mut self.asked {
                        let from = self.to_guest.len() - count;
                        for bytes in self.to_guest.slices(from, count) {
                            asked.hear(bytes);
                        }
                        // Before what comes next is begun.
                        self.answer();
                    }
                    self.moved_in += count;
                    if self.moved_in >= self.to_guest.limit() {
                        budget.raise(self.ends.guest.ip(), &mut self.to_guest);
                        self.moved_in = 0;
                    }
                }
                Err(error) => self.not_read(&error),
            }
        }
    }

    /// Takes note that the socket has to be waited for; any other error is the end of what the host says.
    fn not_read(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock if !self.host_broken => self.readable = false,
            // Of a connection that broke there is nothing more to come.
            _ => {
                self.host_ended = true;
                self.host_breaks();
            }
        }
    }

    /// The same of writing, where any other error is the end of what the host hears.
    fn not_written(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => self.writable = false,
            _ => self.host_breaks(),
        }
    }

    /// Nothing more is written; what the host said before is there to be read.
    fn host_breaks(&mut self) {
        (self.host_broken, self.readable) = (true, true);
        self.to_host.consume(self.to_host.len());
        self.to_host.shrink();
    }

    /// The guest did not answer in time, or was silent for long.
    pub fn waited(&mut self, now: Instant) -> Verdict {
        self.deadline = None;
        if self.silence.is_watched() {
            return match self.silence.waited(now) {
                true => Verdict::Goes,
                false => Verdict::Broken,
            };
        }
        if self.progressed {
            // It did, while there was no room to send more.
            return Verdict::Goes;
        }
        self.tries += 1;
        if self.tries > TRIES {
            return Verdict::Broken;
        }
        self.next = self.oldest;
        self.lacks_first = false;
        self.probe = self.window == 0;
        self.recovery = (!self.probe).then_some(Recovery {
            until: self.furthest,
            by_frames: false,
        });
        Verdict::Goes
    }

    /// Notes that everything before `next` was sent.
    pub fn sent_to(&mut self, next: u32) {
        self.next = next;
        if before(self.furthest, next) {
            self.furthest = next;
        }
    }

    /// When the guest's answer is overdue, if one is due: to what was sent, or to a window without room. Else when it has
    /// been silent for so long that it is asked whether it is there.
    pub fn overdue(&mut self, now: Instant) -> Option<Instant> {
        let waits = self.next != self.oldest || (self.window == 0 && !self.to_guest.is_empty());
        let progressed = std::mem::take(&mut self.progressed);
        if !waits {
            let is_open = self.state == State::Open;
            return is_open.then(|| self.silence.deadline(self.deadline, now));
        }
        if !self.silence.unwatch() && self.deadline.is_some() && !progressed {
            return self.deadline;
        }
        let patience = PATIENCE * 2_u32.pow(u32::from(self.tries.min(SLOWEST)));
        Some(now + patience.min(MOST_PATIENCE))
    }

    /// Whether both sides have said and heard everything.
    pub fn is_over(&self) -> bool {
        let heard = self.end_at.is_some_and(|end| before(end, self.oldest));
        self.guest_ended && self.host_told && heard && !self.owes_answer
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::{Domain, Type};

    use super::super::super::ring::SMALLEST;
    use super::super::reclaim::give_back;
    use super::*;

    /// A connection as the guest has just begun it.
    fn begun(socket: TcpStream, remote: SocketAddr) -> Flow {
        let syn = Segment {
            ends: Ends {
                guest: remote,
                remote,
            },
            sequence: 7,
            acknowledged: None,
            window: 1_000,
            syn: true,
            fin: false,
            rst: false,
            mss: None,
            window_shift: Some(7),
            content: &[],
        };
        Flow::new(socket, &syn, 1, Instant::now())
    }

    /// Where nobody listens on a port that the system gives away as well, it may give it to who connects there, and both
    /// ends are one (RFC 9293, section 3.5).
    #[test]
    fn a_connection_to_itself_is_refused() {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        let itself = socket.local_addr().unwrap();
        socket.connect(&itself).unwrap();
        socket.set_nonblocking(true).unwrap();
        let remote = itself.as_socket().unwrap();
        let mut flow = begun(TcpStream::from_std(socket.into()), remote);
        let verdict = flow.stirred(true, true, &mut Budget::new(LARGEST, LARGEST));
        assert_eq!(verdict, Verdict::NotMade(Failure::Refused));
    }

    #[test]
    fn a_host_is_read_no_further_than_a_little_ahead_of_what_the_guest_has() {
        let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = host.local_addr().unwrap();
        let mut flow = begun(TcpStream::connect(remote).unwrap(), remote);
        let (mut peer, _) = host.accept().unwrap();
        // Until the other end is gone.
        let talks = std::thread::spawn(move || while peer.write_all(&[0; 64 << 10]).is_ok() {});
        let mut budget = Budget::new(LARGEST, LARGEST);
        budget.add(remote.ip());
        for _ in 0..8 {
            budget.raise(remote.ip(), &mut flow.to_guest);
        }
        flow.state = State::Open;
        let mut read = |flow: &mut Flow, until: usize| {
            while flow.to_guest.len() < until {
                flow.stirred(true, true, &mut budget);
            }
        };
        read(&mut flow, AHEAD);
        assert_eq!(flow.to_guest.len(), AHEAD);
        flow.sent_to(flow.next.wrapping_add(1000));
        read(&mut flow, AHEAD + 1000);
        assert_eq!(flow.to_guest.len(), AHEAD + 1000);
        drop(flow);
        talks.join().unwrap();
    }

    #[test]
    fn memory_is_given_back_as_far_as_it_is_not_promised() {
        let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = host.local_addr().unwrap();
        let source = remote.ip();
        let mut flow = begun(TcpStream::connect(remote).unwrap(), remote);
        let now = flow.silence.heard();
        let later = now + Duration::from_secs(2);
        let mut budget = Budget::new(64 * SMALLEST, LARGEST);
        budget.add(source);
        for _ in 0..4 {
            budget.raise(source, &mut flow.to_host);
        }
        // Half of it is told of.
        flow.share = 8 * SMALLEST;
        flow.tell_window(false);
        for _ in 0..8 {
            budget.raise(source, &mut flow.to_guest);
        }
        let limits = |flow: &Flow| flow.rings().map(|ring| ring.limit() / SMALLEST);
        assert_eq!(limits(&flow), [16, 16]);
        assert!(budget.is_short_of(source));
        give_back(&mut flow, &mut budget, now);
        assert_eq!(limits(&flow), [16, 16], "it has what it may have");
        flow.to_guest.push(&[0; 3 * SMALLEST]);
        give_back(&mut flow, &mut budget, later);
        assert_eq!(limits(&flow), [16, 16], "it is not quiet");
        flow.to_guest.consume(3 * SMALLEST);
        give_back(&mut flow, &mut budget, later);
        assert_eq!(limits(&flow), [8, 1], "what was told stays");
    }

    /// A guest that was told of no room at all asks only when its patience ends.
    #[test]
    fn a_window_that_was_told_is_not_taken_back() {
        let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = host.local_addr().unwrap();
        let mut flow = begun(TcpStream::connect(remote).unwrap(), remote);
        let mut budget = Budget::new(LARGEST, LARGEST);
        budget.add(remote.ip());
        for _ in 0..4 {
            budget.raise(remote.ip(), &mut flow.to_host);
        }
        let wide = flow.tell_window(false);
        assert_eq!(usize::from(wide) << SHIFT, 16 * SMALLEST);
        flow.share = SMALLEST;
        assert_eq!(flow.tell_window(false), wide);
        // What came is no longer in it, and more than the share is not added.
        flow.taken = flow.taken.wrapping_add(15 * SMALLEST as u32);
        assert_eq!(usize::from(flow.tell_window(false)) << SHIFT, SMALLEST);
        flow.taken = flow.edge.wrapping_add(1);
        flow.guest_ended = true;
        assert_eq!(usize::from(flow.tell_window(false)) << SHIFT, SMALLEST);
    }
}
