//! The two names that the gateway itself knows: that of the host and its own.
//!
//! Called for questions that containers ask the gateway, by datagram or connection, before they go on to where the
//! host asks. Only the address of IPv4 is told: containers mostly have no other, and a program that tries one address
//! alone would try the other family's.
//! Must never: answer anything else, or trust a length in a question.

use super::plan::Plan;

/// The header of every message (RFC 1035, section 4.1.1).
const HEADER: usize = 12;
/// The longest name, with its length bytes and its end.
const LONGEST_NAME: usize = 255;
/// For how long an answer holds, in seconds.
const TIME_TO_LIVE: u32 = 600;

const TYPE_A: u16 = 1;
const TYPE_ANY: u16 = 255;
const CLASS_INTERNET: u16 = 1;

/// Of the flags: an answer, by one who is the authority, who also asks others.
const ANSWER: u16 = 0x8480;
/// Of the flags of a question: its kind, and whether others are to be asked.
const ASKED: u16 = 0x7900;

/// The answer to a question for a name of ours; nothing for every other message.
pub fn answer(message: &[u8], plan: &Plan) -> Option<Vec<u8>> {
    let number = |at: usize| {
        let bytes = message.get(at..at + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let flags = number(2)?;
    let is_question = flags & 0xf800 == 0;
    if !is_question || number(4)? != 1 {
        return None;
    }
    let (name, end) = name(message)?;
    let (kind, class) = (number(end)?, number(end + 2)?);
    let [gateway, _] = plan.gateway;
    let [host, _] = plan.host;
    let address = match &*name {
        b"host.docker.internal" => host,
        b"gateway.docker.internal" => gateway,
        _ => return None,
    };
    if class != CLASS_INTERNET {
        return None;
    }
    let wants_address = [TYPE_A, TYPE_ANY].contains(&kind);
    let mut out = Vec::with_capacity(end + 20);
    out.extend(&message[..2]);
    out.extend((ANSWER | flags & ASKED).to_be_bytes());
    for count in [1, u16::from(wants_address), 0, 0] {
        out.extend(count.to_be_bytes());
    }
    out.extend(&message[HEADER..end + 4]);
    if let (true, std::net::IpAddr::V4(address)) = (wants_address, address) {
        // The name is where the question has it.
        out.extend([0xc0, HEADER as u8]);
        out.extend(TYPE_A.to_be_bytes());
        out.extend(CLASS_INTERNET.to_be_bytes());
        out.extend(TIME_TO_LIVE.to_be_bytes());
        out.extend(4_u16.to_be_bytes());
        out.extend(address.octets());
    }
    Some(out)
}

/// The first question's name in lower case with points between its parts, and where it ends.
fn name(message: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut name = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        // Longer ones point elsewhere, which a question has no need of.
        if length > 63 || at + length - HEADER > LONGEST_NAME {
            return None;
        }
        if !name.is_empty() {
            name.push(b'.');
        }
        name.extend(message.get(at..at + length)?.to_ascii_lowercase());
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        for part in name.split('.') {
            message.push(part.len() as u8);
            message.extend(part.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend(CLASS_INTERNET.to_be_bytes());
        // What clients add of extensions (RFC 6891) is no part of the answer.
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        message
    }

    #[test]
    fn the_host_and_the_gateway_have_names() {
        let plan = Plan::default();
        for (name, address) in [
            ("host.docker.internal", [198, 19, 79, 254]),
            ("HOST.Docker.internal", [198, 19, 79, 254]),
            ("gateway.docker.internal", [198, 19, 79, 1]),
        ] {
            let asked = question(name, TYPE_A);
            let answer = answer(&asked, &plan).unwrap();
            let end = asked.len() - 11;
            assert_eq!(
                answer[..HEADER],
                [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]
            );
            assert_eq!(answer[HEADER..end], asked[HEADER..end]);
            assert_eq!(
                answer[end..end + 12],
                [0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4]
            );
            assert_eq!(answer[end + 12..], address);
        }
    }

    #[test]
    fn other_kinds_of_address_they_have_not() {
        let asked = question("host.docker.internal", 28);
        let answer = answer(&asked, &Plan::default()).unwrap();
        assert_eq!(answer[3] & 0xf, 0, "it is no error");
        assert_eq!(answer[4..HEADER], [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(answer.len(), asked.len() - 11);
    }

    #[test]
    fn nothing_else_is_answered() {
        let plan = Plan::default();
        for name in [
            "docker.internal",
            "xhost.docker.internal",
            "host.docker.internal.x",
            "a",
        ] {
            assert_eq!(answer(&question(name, TYPE_A), &plan), None, "{name}");
        }
        let good = question("host.docker.internal", TYPE_A);
        for length in 0..good.len() - 11 {
            assert_eq!(answer(&good[..length], &plan), None, "{length}");
        }
        let with = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            message
        };
        // An answer, another operation, no question, two, a pointer, a part beyond the end.
        for bad in [
            with(2, 0x80),
            with(2, 0x28),
            with(5, 0),
            with(5, 2),
            with(12, 0xc0),
            with(12, 63),
        ] {
            assert_eq!(answer(&bad, &plan), None);
        }
        let long = question(&["a".repeat(60).as_str(); 5].join("."), TYPE_A);
        assert_eq!(answer(&long, &plan), None);
    }
}
