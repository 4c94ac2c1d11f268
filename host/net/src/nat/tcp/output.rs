//! What a connection owes the guest: the answer to its beginning, content, the end, acknowledgements, and after a long
//! silence a question.

use smoltcp::wire::TcpControl;

use super::super::frame::Wire;
use super::super::plan::Plan;
use super::Around;
use super::flow::{Flow, State};
use super::segment::{self, Head};
use super::sequence::distance;

/// Content that one connection sends before the others have their turn.
const TURN: usize = 256 << 10;
/// Bytes of a host that are read before the guest lets them be sent. They are in the processor's cache when they are, and
/// a connection whose guest does not read keeps no more.
pub const AHEAD: usize = 512 << 10;
/// The longest IP packet.
const LONGEST: usize = 65_535;

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Everything that may be sent now is.
    All,
    /// There is more, but it is others' turn.
    Turn,
    /// The guest has no room for frames.
    Starved,
    /// The guest was told that the host's connection broke, after all that the host had said.
    Reset,
}

/// Sends what may be sent.
pub fn output(flow: &mut Flow, wire: &mut dyn Wire, plan: &Plan) -> Sent {
    let sent = match flow.state {
        State::Connecting => Sent::All,
        State::Answering => answer(flow, wire, plan),
        State::Open => content(flow, wire, plan),
    };
    if sent != Sent::All || flow.state != State::Open {
        return sent;
    }
    if flow.silence.owes_question {
        return ask(flow, wire, plan);
    }
    match flow.owes_answer {
        true => acknowledge(flow, wire, plan),
        false => Sent::All,
    }
}

/// Content that one has to send, in bytes, what the guest lacks of it included; none before the guest knows the connection.
pub fn unsent(flow: &Flow) -> usize {
    match flow.state {
        State::Open => {
            let sent = distance(flow.next, flow.oldest);
            let again = match flow.lacks_first {
                true => sent.min(flow.to_guest.len()).min(LONGEST),
                false => 0,
            };
            flow.to_guest.len().saturating_sub(sent) + again
        }
        State::Connecting | State::Answering => 0,
    }
}

/// Acknowledges what was taken, where the content that would say so has to wait.
pub fn answers(flow: &mut Flow, waits: bool, around: &mut Around<'_>) -> Sent {
    match waits && flow.owes_answer {
        true => acknowledge(flow, around.wire, around.plan),
        false => Sent::All,
    }
}

/// Asks a silent guest whether it is there, by a number that it has long acknowledged: it says so again, or that it knows
/// nothing of the connection.
fn ask(flow: &mut Flow, wire: &mut dyn Wire, plan: &Plan) -> Sent {
    let head = Head {
        sequence: flow.oldest.wrapping_sub(1),
        ..head(flow, TcpControl::None, false)
    };
    if !segment::send(wire, plan, &head, [&[], &[]], u16::MAX) {
        return Sent::Starved;
    }
    (flow.silence.owes_question, flow.owes_answer) = (false, false);
    Sent::All
}

fn answer(flow: &mut Flow, wire: &mut dyn Wire, plan: &Plan) -> Sent {
    if flow.next != flow.oldest {
        return Sent::All;
    }
    let largest = match flow.ends.guest.is_ipv4() {
        true => 1460,
        false => 1440,
    };
    let head = Head {
        options: Some((largest, flow.shift())),
        ..head(flow, TcpControl::Syn, true)
    };
    if !segment::send(wire, plan, &head, [&[], &[]], u16::MAX) {
        return Sent::Starved;
    }
    flow.sent_to(flow.oldest.wrapping_add(1));
    Sent::All
}

fn content(flow: &mut Flow, wire: &mut dyn Wire, plan: &Plan) -> Sent {
    let mss = usize::from(flow.mss);
    let most = (LONGEST - 80) / mss * mss;
    if flow.lacks_first && !first(flow, wire, plan, most) {
        return Sent::Starved;
    }
    loop {
        let sent = distance(flow.next, flow.oldest);
        let Some(unsent) = flow.to_guest.len().checked_sub(sent) else {
            // The end was sent and is not acknowledged yet.
            return Sent::All;
        };
        let probe = usize::from(flow.probe);
        let allowed = flow.window.max(probe).saturating_sub(sent);
        let count = unsent.min(allowed).min(most);
        if unsent == 0 {
            return end(flow, wire, plan);
        }
        // A little now and the rest in a moment costs more than all of it in a moment.
        if count == 0 || (count < mss && count < unsent && sent > 0) {
            return Sent::All;
        }
        if flow.place.sent >= TURN {
            return Sent::Turn;
        }
        let control = match count == unsent {
            true => TcpControl::Psh,
            false => TcpControl::None,
        };
        let head = head(flow, control, false);
        let pieces = flow.to_guest.slices(sent, count);
        if !segment::send(wire, plan, &head, pieces, flow.mss) {
            return Sent::Starved;
        }
        flow.probe = false;
        flow.owes_answer = false;
        flow.sent_to(flow.next.wrapping_add(count as u32));
        flow.place.sent += count;
    }
}

/// Sends the first frame again that the guest does not have; false if it has no room for it.
fn first(flow: &mut Flow, wire: &mut dyn Wire, plan: &Plan, most: usize) -> bool {
    let sent = distance(flow.next, flow.oldest);
    let content = sent.min(flow.to_guest.len());
    let count = content.min(flow.window).min(most);
    if content == 0 {
        // The end alone is missing.
        flow.next = flow.oldest;
    } else if count > 0 {
        let head = Head {
            sequence: flow.oldest,
            ..head(flow, TcpControl::None, false)
        };
        let pieces = flow.to_guest.slices(0, count);
        if !segment::send(wire, plan, &head, pieces, flow.mss) {
            return false;
        }
        flow.owes_answer = false;
        flow.place.sent += count;
    }
    flow.lacks_first = false;
    true
}

/// Tells the guest that the host has nothing more.
fn end(flow: &mut Flow, wire: &mut dyn Wire, plan: &Plan) -> Sent {
    if flow.host_broken {
        return broken(flow, wire, plan);
    }
    let again = flow.end_at.is_none_or(|end| end == flow.next);
    if !flow.host_ended || !again {
        return Sent::All;
    }
    let head = head(flow, TcpControl::Fin, false);
    if !segment::send(wire, plan, &head, [&[], &[]], u16::MAX) {
        return Sent::Starved;
    }
    flow.owes_answer = false;
    flow.end_at = Some(flow.next);
    flow.sent_to(flow.next.wrapping_add(1));
    Sent::All
}

/// Tells the guest that the host's connection broke, once it has what the host said: after it the guest asks for nothing.
fn broken(flow: &mut Flow, wire: &mut dyn Wire, plan: &Plan) -> Sent {
    if !flow.host_ended || flow.next != flow.oldest {
        return Sent::All;
    }
    match reset(flow, wire, plan) {
        true => Sent::Reset,
        false => Sent::Starved,
    }
}

fn acknowledge(flow: &mut Flow, wire: &mut dyn Wire, plan: &Plan) -> Sent {
    let head = head(flow, TcpControl::None, false);
    if !segment::send(wire, plan, &head, [&[], &[]], u16::MAX) {
        return Sent::Starved;
    }
    flow.owes_answer = false;
    Sent::All
}

/// Tells the guest that the connection is over; false if it has no room for that.
pub fn reset(flow: &mut Flow, wire: &mut dyn Wire, plan: &Plan) -> bool {
    let head = head(flow, TcpControl::Rst, false);
    segment::send(wire, plan, &head, [&[], &[]], u16::MAX)
}

fn head(flow: &mut Flow, control: TcpControl, first: bool) -> Head {
    Head {
        ends: flow.ends,
        sequence: flow.next,
        acknowledged: Some(flow.taken),
        window: flow.tell_window(first),
        control,
        options: None,
    }
}
