//! The rules: what is said to a question, as plain data. What comes in is hostile.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::Zone;

/// How long what is said here may be remembered, in seconds; dockerd's.
const TTL: u32 = 600;

/// Bytes of a message's beginning.
pub(super) const HEADER: usize = 12;

/// The longest datagram that a client takes which does not say.
const SHORT: usize = 512;

/// The longest datagram that there is over IPv4.
const LONGEST_DATAGRAM: usize = 65_507;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Datagram,
    Connection,
}

/// What comes of it.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing: it is no question.
    Silence,
    Reply(Vec<u8>),
    /// It is for others to answer.
    Onward(Box<Asked>),
}

/// A question that is well formed.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    message: Message,
    pub(super) question: Query,
    /// How many bytes whoever asked takes.
    pub(super) limit: usize,
}

/// Who comes first of several that have one name, by family: clients ask for both in pairs.
#[derive(Debug, Default)]
pub(super) struct Turns([AtomicUsize; 2]);

impl Turns {
    fn next(&self, v6: bool) -> usize {
        let [v4_turn, v6_turn] = &self.0;
        let turn = if v6 { v6_turn } else { v4_turn };
        turn.fetch_add(1, Ordering::Relaxed)
    }
}

/// Judges a message of a container.
pub(super) fn judge(
    bytes: &[u8],
    over: Over,
    zone: &dyn Zone,
    asker: &str,
    turns: &Turns,
) -> Verdict {
    let [id0, id1, flags, _, count0, count1, ..] = *bytes else {
        return Verdict::Silence;
    };
    if bytes.len() < HEADER || flags & 0x80 != 0 {
        // Whoever answers an answer may do so for ever.
        return Verdict::Silence;
    }
    // Without a question, as nothing of it is certain.
    let refused = |code: ResponseCode| {
        let code = u8::try_from(u16::from(code)).unwrap_or_default();
        let header = [id0, id1, 0x80 | flags & 0x79, code];
        Verdict::Reply(header.into_iter().chain([0; 8]).collect())
    };
    if flags & 0x78 != 0 {
        return refused(ResponseCode::NotImp);
    }
    if [count0, count1] != [0, 1] {
        return refused(ResponseCode::FormErr);
    }
    let Ok(message) = Message::from_vec(bytes) else {
        return refused(ResponseCode::FormErr);
    };
    let Some(question) = message.queries.first().cloned() else {
        return refused(ResponseCode::FormErr);
    };
    let limit = match over {
        Over::Connection => usize::from(u16::MAX),
        Over::Datagram => LONGEST_DATAGRAM.min(SHORT.max(message.max_payload().into())),
    };
    let asked = Asked {
        message,
        question,
        limit,
    };
    match known(&asked.question, zone, asker) {
        Some(mut records) => {
            if records.len() > 1 {
                let turn = turns.next(asked.question.query_type == RecordType::AAAA);
                let count = records.len();
                records.rotate_left(turn % count);
            }
            Verdict::Reply(asked.reply(ResponseCode::NoError, records))
        }
        None => Verdict::Onward(Box::new(asked)),
    }
}

/// What the containers of the asker's networks are; nothing where that is for others to say.
fn known(question: &Query, zone: &dyn Zone, asker: &str) -> Option<Vec<Record>> {
    let name = &question.name;
    let record = |data| Record::from_rdata(name.clone(), TTL, data);
    let addresses = |v6| zone.addresses(asker, &text(name)?, v6);
    match question.query_type {
        RecordType::A | RecordType::AAAA => {
            let v6 = question.query_type == RecordType::AAAA;
            let found = addresses(v6)?.into_iter();
            let found = found.filter(|ip| ip.is_ipv6() == v6).map(|ip| match ip {
                IpAddr::V4(ip) => RData::A(A(ip)),
                IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
            });
            Some(found.map(record).collect())
        }
        // Nobody takes mail, which is said as dockerd does: a client that asks next for addresses finds them.
        RecordType::MX => addresses(false)
            .or_else(|| addresses(true))
            .map(|_| Vec::new()),
        RecordType::PTR => {
            let network = name.parse_arpa_name().ok()?;
            if network.prefix_len() != network.max_prefix_len() {
                return None;
            }
            let name = zone.name(asker, network.addr())?;
            let mut name = Name::from_labels(name.split('.').map(str::as_bytes)).ok()?;
            name.set_fqdn(true);
            Some(vec![record(RData::PTR(PTR(name)))])
        }
        _ => None,
    }
}

/// A name as people write it, without the dot at its end; nothing where it can be no container's.
fn text(name: &Name) -> Option<String> {
    let mut text = String::new();
    for label in name.iter() {
        let label = std::str::from_utf8(label).ok()?;
        if label.contains('.') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
    }
    (!text.is_empty()).then_some(text)
}

impl Asked {
    /// Whether it asks for addresses of a name without a dot.
    pub(super) fn is_plain(&self) -> bool {
        let kind = self.question.query_type;
        matches!(kind, RecordType::A | RecordType::AAAA) && self.question.name.num_labels() == 1
    }

    /// An answer without records.
    pub(super) fn nothing(&self, code: ResponseCode) -> Vec<u8> {
        self.reply(code, Vec::new())
    }

    fn reply(&self, code: ResponseCode, records: Vec<Record>) -> Vec<u8> {
        let asked = &self.message.metadata;
        let mut reply = Message::new(asked.id, MessageType::Response, OpCode::Query);
        reply.metadata.recursion_desired = asked.recursion_desired;
        // As dockerd's: a failure does not say that it would.
        reply.metadata.recursion_available = code == ResponseCode::NoError;
        reply.metadata.response_code = code;
        reply.add_query(self.question.clone());
        reply.add_answers(records);
        match reply.to_vec() {
            Ok(bytes) if bytes.len() <= self.limit => bytes,
            _ => reply.truncate().to_vec().unwrap_or_default(),
        }
    }

    /// The whole question with another number, for another server.
    pub(super) fn with_id(&self, bytes: &[u8], id: u16) -> Vec<u8> {
        let rest = bytes.get(2..).unwrap_or_default();
        id.to_be_bytes()
            .into_iter()
            .chain(rest.iter().copied())
            .collect()
    }

    /// What of another server's answer is passed on; nothing where it is none to the question that was asked under
    /// this number.
    pub(super) fn accept(&self, answer: &[u8], id: u16) -> Option<Accepted> {
        let flags = *answer.get(2)?;
        let code = answer.get(3)? & 0x0f;
        let is_answer = flags & 0x80 != 0 && flags & 0x78 == 0;
        if !is_answer || answer.get(..2)? != id.to_be_bytes() {
            return None;
        }
        let question = first_question(answer)?;
        let same = question.query_type == self.question.query_type
            && question.query_class == self.question.query_class
            && question.name.to_lowercase() == self.question.name.to_lowercase();
        if !same {
            return None;
        }
        let own = self.message.metadata.id;
        let mut passed = if answer.len() <= self.limit {
            answer.to_vec()
        } else {
            // They ask again over a connection.
            let mut short = self.nothing(ResponseCode::NoError);
            *short.get_mut(2)? |= 0x02;
            short
        };
        passed.get_mut(..2)?.copy_from_slice(&own.to_be_bytes());
        let failed = [ResponseCode::ServFail, ResponseCode::Refused];
        let failed = failed
            .into_iter()
            .any(|one| u16::from(one) == u16::from(code));
        Some(Accepted {
            answer: passed,
            failed,
        })
    }
}

/// Another server's answer, as it is passed on.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) answer: Vec<u8>,
    /// Whether the next server may know better.
    pub(super) failed: bool,
}

fn first_question(message: &[u8]) -> Option<Query> {
    use hickory_proto::serialize::binary::BinDecoder;
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut decoder = BinDecoder::new(message);
    decoder.read_slice(HEADER).ok()?;
    Message::read_queries(&mut decoder, 1).ok()?.pop()
}
