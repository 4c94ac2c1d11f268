//! The packets between init and agent: fixed binary, no parser worth the name.
//!
//! A packet is one byte saying what it is, then fields of fixed size in the machine's own byte
//! order, then at most one run of text. Both ends come from the same build of the same image.

/// The longest name in the store.
pub const MAX_NAME: usize = 255;
/// The largest packet either side sends.
pub const MAX_PACKET: usize = 32 * 1024;
/// How many names (and descriptors) one answer carries at most; Linux allows 253.
pub const NAMES_PER_PACKET: usize = 64;
/// How many exits one answer carries at most.
pub const EXITS_PER_PACKET: usize = 1024;

const EXIT_SIZE: usize = 24;

/// The end of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Counts exits since boot, from 1: tells two ends under one process id apart.
    pub seq: u64,
    /// The process id, in init's namespace.
    pub pid: i32,
    /// As `waitpid` gave it.
    pub status: i32,
    /// When it was reaped, nanoseconds since 1970.
    pub at_unix_ns: i64,
}

impl Exit {
    /// The exit code a shell would show: 128 + signal for a process that was killed.
    pub fn code(&self) -> i32 {
        match self.signal() {
            Some(signal) => 128 + signal,
            None => (self.status >> 8) & 0xff,
        }
    }

    /// The signal that ended the process, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.status & 0x7f {
            0 => None,
            signal => Some(signal),
        }
    }
}

/// How the machine is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Through the reset port: the virtual machine monitor sees its guest leave.
    Restart,
    /// Power off where the platform has a way to.
    PowerOff,
}

/// Facts about the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Info {
    /// How often the agent was started since boot, this time included.
    pub agent_starts: u32,
    /// How many starts in a row the agent ended by itself soon after; 0 once one has lasted.
    pub failed_starts: u32,
    /// Descriptors held.
    pub descriptors: u32,
    /// Exits not forgotten yet.
    pub exits: u32,
    /// Exits dropped because nobody asked for far too many.
    pub exits_lost: u32,
}

/// What the agent asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Names after this one, in order, with their descriptors.
    List {
        /// The last name of the answer before; empty to begin.
        after: String,
    },
    /// Hold the descriptor that comes along under a name, instead of what was there.
    Put {
        /// The name.
        name: String,
    },
    /// Let go of one name.
    Remove {
        /// The name.
        name: String,
    },
    /// Let go of every name that begins so.
    RemovePrefix {
        /// The beginning.
        prefix: String,
    },
    /// Exits after this sequence number.
    Exits {
        /// The last number of the answer before; 0 to begin.
        after: u64,
    },
    /// Forget exits of a process id.
    Forget {
        /// Whose.
        pid: i32,
        /// Only this one; 0 for all.
        seq: u64,
    },
    /// End the machine.
    End(End),
    /// Facts.
    Info,
}

/// What init answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done, so many times.
    Done(u32),
    /// Not done, with the system's error number.
    Refused(i32),
    /// Some names; the packet carries as many descriptors.
    Names {
        /// True when there is nothing after these.
        last: bool,
        /// The names.
        names: Vec<String>,
    },
    /// Some exits.
    Exits {
        /// True when there is nothing after these.
        last: bool,
        /// The exits.
        exits: Vec<Exit>,
    },
    /// Facts.
    Info(Info),
}

const LIST: u8 = 1;
const PUT: u8 = 2;
const REMOVE: u8 = 3;
const REMOVE_PREFIX: u8 = 4;
const EXITS: u8 = 5;
const FORGET: u8 = 6;
const END: u8 = 7;
const INFO: u8 = 8;

const DONE: u8 = 1;
const REFUSED: u8 = 2;
const NAMES: u8 = 3;
const EXIT_LIST: u8 = 4;
const INFO_REPLY: u8 = 5;

/// Takes fields off the front of a packet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_ne_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.bytes().map(i32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_ne_bytes)
    }

    fn text(&mut self, length: usize) -> Option<String> {
        if length > MAX_NAME {
            return None;
        }
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn rest(&mut self) -> Option<String> {
        self.text(self.0.len())
    }

    fn exit(&mut self) -> Option<Exit> {
        Some(Exit {
            seq: self.u64()?,
            pid: self.i32()?,
            status: self.i32()?,
            at_unix_ns: self.bytes().map(i64::from_ne_bytes)?,
        })
    }
}

impl Exit {
    fn put(&self, packet: &mut Vec<u8>) {
        packet.extend_from_slice(&self.seq.to_ne_bytes());
        packet.extend_from_slice(&self.pid.to_ne_bytes());
        packet.extend_from_slice(&self.status.to_ne_bytes());
        packet.extend_from_slice(&self.at_unix_ns.to_ne_bytes());
    }

    /// The packet of one event.
    pub fn encode(&self) -> Vec<u8> {
        let mut packet = Vec::with_capacity(EXIT_SIZE);
        self.put(&mut packet);
        packet
    }

    /// Reads the packet of one event.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut fields = Fields(packet);
        let exit = fields.exit()?;
        fields.0.is_empty().then_some(exit)
    }
}

impl Request {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        let text = |kind, text: &str| [&[kind], text.as_bytes()].concat();
        match self {
            Self::List { after } => text(LIST, after),
            Self::Put { name } => text(PUT, name),
            Self::Remove { name } => text(REMOVE, name),
            Self::RemovePrefix { prefix } => text(REMOVE_PREFIX, prefix),
            Self::Exits { after } => [&[EXITS][..], &after.to_ne_bytes()].concat(),
            Self::Forget { pid, seq } => {
                [&[FORGET][..], &pid.to_ne_bytes(), &seq.to_ne_bytes()].concat()
            }
            Self::End(End::Restart) => vec![END, 0],
            Self::End(End::PowerOff) => vec![END, 1],
            Self::Info => vec![INFO],
        }
    }

    /// Reads a packet; none where it is not one of ours.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut fields = Fields(packet);
        let request = match fields.byte()? {
            LIST => Self::List {
                after: fields.rest()?,
            },
            PUT => Self::Put {
                name: fields.rest()?,
            },
            REMOVE => Self::Remove {
                name: fields.rest()?,
            },
            REMOVE_PREFIX => Self::RemovePrefix {
                prefix: fields.rest()?,
            },
            EXITS => Self::Exits {
                after: fields.u64()?,
            },
            FORGET => Self::Forget {
                pid: fields.i32()?,
                seq: fields.u64()?,
            },
            END => match fields.byte()? {
                0 => Self::End(End::Restart),
                1 => Self::End(End::PowerOff),
                _ => return None,
            },
            INFO => Self::Info,
            _ => return None,
        };
        fields.0.is_empty().then_some(request)
    }
}

impl Reply {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Done(count) => [&[DONE][..], &count.to_ne_bytes()].concat(),
            Self::Refused(errno) => [&[REFUSED][..], &errno.to_ne_bytes()].concat(),
            Self::Names { last, names } => {
                let mut packet = vec![NAMES, u8::from(*last)];
                for name in names {
                    // Names are checked when they are put: none is longer.
                    packet.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
                    packet.extend_from_slice(name.as_bytes());
                }
                packet
            }
            Self::Exits { last, exits } => {
                let mut packet = vec![EXIT_LIST, u8::from(*last)];
                exits.iter().for_each(|exit| exit.put(&mut packet));
                packet
            }
            Self::Info(info) => {
                let mut packet = vec![INFO_REPLY];
                for value in [
                    info.agent_starts,
                    info.failed_starts,
                    info.descriptors,
                    info.exits,
                    info.exits_lost,
                ] {
                    packet.extend_from_slice(&value.to_ne_bytes());
                }
                packet
            }
        }
    }

    /// Reads a packet; none where it is not one of ours.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut fields = Fields(packet);
        let reply = match fields.byte()? {
            DONE => Self::Done(fields.u32()?),
            REFUSED => Self::Refused(fields.i32()?),
            NAMES => {
                let last = fields.byte()? != 0;
                let mut names = Vec::new();
                while let Some(length) = fields.byte() {
                    names.push(fields.text(length.into())?);
                }
                Self::Names { last, names }
            }
            EXIT_LIST => {
                let last = fields.byte()? != 0;
                let mut exits = Vec::new();
                while !fields.0.is_empty() {
                    exits.push(fields.exit()?);
                }
                Self::Exits { last, exits }
            }
            INFO_REPLY => Self::Info(Info {
                agent_starts: fields.u32()?,
                failed_starts: fields.u32()?,
                descriptors: fields.u32()?,
                exits: fields.u32()?,
                exits_lost: fields.u32()?,
            }),
            _ => return None,
        };
        fields.0.is_empty().then_some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_their_bytes() {
        let name = || "c/0123/stdout".to_owned();
        for request in [
            Request::List {
                after: String::new(),
            },
            Request::Put { name: name() },
            Request::Remove { name: name() },
            Request::RemovePrefix { prefix: name() },
            Request::Exits { after: u64::MAX },
            Request::Forget { pid: 7, seq: 9 },
            Request::End(End::Restart),
            Request::End(End::PowerOff),
            Request::Info,
        ] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
    }

    #[test]
    fn replies_survive_their_bytes() {
        let exit = Exit {
            seq: 1,
            pid: 2,
            status: 3,
            at_unix_ns: -4,
        };
        for reply in [
            Reply::Done(3),
            Reply::Refused(-1),
            Reply::Names {
                last: true,
                names: vec!["a".into(), "b".repeat(MAX_NAME)],
            },
            Reply::Exits {
                last: false,
                exits: vec![exit; 2],
            },
            Reply::Info(Info {
                agent_starts: 1,
                failed_starts: 2,
                descriptors: 3,
                exits: 4,
                exits_lost: 5,
            }),
        ] {
            assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
    }

    #[test]
    fn fullest_answers_fit_a_packet() {
        let names = vec!["n".repeat(MAX_NAME); NAMES_PER_PACKET];
        assert!(Reply::Names { last: false, names }.encode().len() <= MAX_PACKET);
        let exits = vec![
            Exit {
                seq: 1,
                pid: 2,
                status: 3,
                at_unix_ns: 4
            };
            EXITS_PER_PACKET
        ];
        assert!(Reply::Exits { last: false, exits }.encode().len() <= MAX_PACKET);
    }

    #[test]
    fn other_bytes_are_no_packet() {
        for bytes in [
            &b""[..],
            b"\0",
            b"\x09",
            b"\x05\0",
            b"\x07\x02",
            b"\x08x",
            b"\x02\xff",
        ] {
            assert_eq!(Request::decode(bytes), None, "{bytes:?}");
        }
        let too_long = [&[PUT][..], "n".repeat(MAX_NAME + 1).as_bytes()].concat();
        assert_eq!(Request::decode(&too_long), None);
        assert_eq!(Reply::decode(b"\x03\x01\x05abc"), None);
        assert_eq!(Exit::decode(&[0; EXIT_SIZE + 1]), None);
    }

    #[test]
    fn exit_codes_are_a_shells() {
        let exit = |status| Exit {
            seq: 1,
            pid: 2,
            status,
            at_unix_ns: 0,
        };
        assert_eq!((exit(42 << 8).code(), exit(42 << 8).signal()), (42, None));
        assert_eq!((exit(9).code(), exit(9).signal()), (137, Some(9)));
        assert_eq!(
            exit(11 | 0x80).code(),
            139,
            "the core dump flag is no part of the signal"
        );
    }
}
