//! One conversation with the kernel about routes and interfaces.
//!
//! The kernel does what a message asks while it is being sent, and the answer is there when that returns: so
//! these sockets block, and a thread of our own waits on them, not the engine's.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_ECHO, NLM_F_EXCL, NLM_F_MULTIPART,
    NLM_F_REPLACE, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::NetworkError;

/// What the kernel makes of one that is there already.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// Refuses.
    New,
    /// Puts this one in its place.
    Replace,
    /// Changes it; refuses if there is none.
    Change,
}

/// Long enough for the longest message: the kernel's dumps come in at most 32 KiB.
const LONGEST: usize = 64 << 10;
/// How often a list is asked for again because it changed while it was told.
const DUMPS: usize = 32;

/// A socket, which stays in the namespace in which it was made.
pub(crate) struct Netlink {
    socket: Arc<Socket>,
    sequence: u32,
    answer: Vec<u8>,
}

impl Netlink {
    /// One in the caller's namespace.
    pub fn open() -> Result<Self, NetworkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // An error comes without the request that it is about.
            socket.set_cap_ack(true)?;
            Ok::<_, std::io::Error>(socket)
        };
        Ok(Self {
            socket: Arc::new(open().map_err(NetworkError::of("opening netlink"))?),
            sequence: 0,
            answer: Vec::with_capacity(LONGEST),
        })
    }

    /// Asks for something to be made.
    pub fn add(&mut self, message: RouteNetlinkMessage, how: How) -> Result<(), Errno> {
        let flags = match how {
            How::New => NLM_F_CREATE | NLM_F_EXCL,
            How::Replace => NLM_F_CREATE | NLM_F_REPLACE,
            How::Change => 0,
        };
        self.tell(message, flags)
    }

    /// The same; that it is there already is as good.
    pub fn ensure(&mut self, message: RouteNetlinkMessage) -> Result<(), Errno> {
        match self.add(message, How::New) {
            Err(Errno::EXIST) => Ok(()),
            done => done,
        }
    }

    /// Asks for something to be removed, or changed in a way that has no flags.
    pub fn remove(&mut self, message: RouteNetlinkMessage) -> Result<(), Errno> {
        self.tell(message, 0)
    }

    fn tell(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Errno> {
        self.send(message, NLM_F_ACK | flags)?;
        self.read(|_| {}).map(drop)
    }

    /// The link that a message names; nothing if there is none.
    pub fn link(&mut self, named: LinkMessage) -> Result<Option<LinkMessage>, Errno> {
        self.send(RouteNetlinkMessage::GetLink(named), 0)?;
        let mut found = None;
        let read = self.read(|answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                found = Some(link);
            }
        });
        match read {
            Err(Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(found),
        }
    }

    /// The route by which a packet to a message's destination goes; nothing if there is none.
    pub fn route(&mut self, to: RouteMessage) -> Result<Option<RouteMessage>, Errno> {
        self.send(RouteNetlinkMessage::GetRoute(to), 0)?;
        let mut found = None;
        let read = self.read(|answer| {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                found = Some(route);
            }
        });
        match read {
            // None, or one that refuses, in each of the ways in which routes do.
            Err(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL) => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(found),
        }
    }

    /// Everything of the kind that a message asks for.
    pub fn list(
        &mut self,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Errno> {
        for _ in 0..DUMPS {
            let mut found = Vec::new();
            self.send(message.clone(), NLM_F_DUMP)?;
            if self.read(|answer| found.push(answer))? {
                return Ok(found);
            }
        }
        Err(Errno::INTR)
    }

    /// Deletes a link by its name on a thread of its own and returns as soon as nobody sees it any more, which is
    /// well before the kernel has let go of its memory and answers; false if there was none.
    pub fn delete(mut self, named: LinkMessage) -> Result<bool, NetworkError> {
        self.sequence += 1;
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO;
        let bytes = bytes(RouteNetlinkMessage::DelLink(named), flags, self.sequence);
        let socket = Arc::clone(&self.socket);
        let (ended, ends) = pipe_with(PipeFlags::CLOEXEC).map_err(NetworkError::of("a pipe"))?;
        std::thread::Builder::new()
            .name("network-delete".into())
            .stack_size(128 << 10)
            .spawn(move || {
                let _ends = ends;
                // If it was not sent there is no answer, which is told apart below.
                socket.send(&bytes, 0)
            })
            .map_err(NetworkError::of("starting a thread"))?;
        self.wait(&ended)
            .map_err(NetworkError::of("deleting an interface"))?;
        match self.read(|_| {}) {
            Ok(_) => Ok(true),
            Err(Errno::NODEV) => Ok(false),
            Err(errno) => Err(NetworkError::of("deleting an interface")(errno)),
        }
    }

    /// Until there is something to read; refused if the other end of `ended` closes before.
    fn wait(&self, ended: &OwnedFd) -> Result<(), Errno> {
        let mut both = [
            PollFd::new(&*self.socket, PollFlags::IN),
            PollFd::new(ended, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut both, None))?;
        // An answer is there before the call that asked for it returns.
        if both[0].revents().contains(PollFlags::IN) {
            Ok(())
        } else {
            Err(Errno::IO)
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = bytes(message, NLM_F_REQUEST | flags, self.sequence);
        match self.socket.send(&bytes, 0) {
            Ok(_) => Ok(()),
            Err(error) => Err(errno(&error)),
        }
    }

    /// Reads the answer to the last message; false if it is a list that changed while it was told.
    fn read(&mut self, mut each: impl FnMut(RouteNetlinkMessage)) -> Result<bool, Errno> {
        let mut whole = true;
        loop {
            self.answer.clear();
            match self.socket.recv(&mut self.answer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(errno(&error)),
            }
            let mut rest = self.answer.as_slice();
            while !rest.is_empty() {
                let (message, after) = first(rest)?;
                rest = after;
                // One of a list that cannot be read is somebody else's: of our own we know what we say.
                let Some(message) = message else { continue };
                // What is left of an answer that nobody waited for.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                let more = message.header.flags & NLM_F_MULTIPART != 0;
                match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(whole),
                    NetlinkPayload::Error(error) => {
                        return Err(Errno::from_raw_os_error(-error.raw_code()));
                    }
                    NetlinkPayload::Done(_) => return Ok(whole),
                    NetlinkPayload::InnerMessage(answer) => {
                        each(answer);
                        if !more {
                            return Ok(whole);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The first message of these, and what comes behind it; nothing if it is one of a list that cannot be read. What the
/// kernel says of devices of others is more than is known here.
fn first(bytes: &[u8]) -> Result<(Option<NetlinkMessage<RouteNetlinkMessage>>, &[u8]), Errno> {
    let header = NetlinkBuffer::new_checked(bytes).map_err(|_| Errno::BADMSG)?;
    let length = header.length() as usize;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    match NetlinkMessage::deserialize(bytes) {
        Ok(message) => Ok((Some(message), after)),
        Err(error) if header.flags() & NLM_F_MULTIPART != 0 => {
            tracing::debug!(%error, kind = header.message_type(), "a message cannot be read");
            Ok((None, after))
        }
        Err(_) => Err(Errno::BADMSG),
    }
}

fn bytes(message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says of an interface of this name, with a hardware address that no reader expects where asked.
    fn told(name: &str, flags: u16, readable: bool) -> Vec<u8> {
        let link = crate::links::named(name).build();
        let mut told = bytes(RouteNetlinkMessage::NewLink(link), flags, 7);
        if !readable {
            // The first attribute says that it is longer than all there is.
            told[32..34].copy_from_slice(&0xfff0_u16.to_le_bytes());
        }
        told.resize(told.len().next_multiple_of(4), 0);
        told
    }

    fn name(message: Option<NetlinkMessage<RouteNetlinkMessage>>) -> Option<String> {
        match message?.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                crate::links::name(&link).map(ToOwned::to_owned)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_read_of_a_list_hides_nothing_else() {
        let list = [("a", true), ("b", false), ("c", true)];
        let list: Vec<u8> = list
            .iter()
            .flat_map(|(name, readable)| told(name, NLM_F_MULTIPART, *readable))
            .collect();
        let (mut rest, mut names) = (list.as_slice(), Vec::new());
        while !rest.is_empty() {
            let (message, after) = first(rest).unwrap();
            names.push(name(message));
            rest = after;
        }
        assert_eq!(names, [Some("a".into()), None, Some("c".into())]);
        // An answer that is the only one is none.
        assert_eq!(first(&told("b", 0, false)).err(), Some(Errno::BADMSG));
        for cut in [0, 8, 20] {
            let whole = told("a", NLM_F_MULTIPART, true);
            assert_eq!(first(&whole[..cut]).err(), Some(Errno::BADMSG), "{cut}");
        }
    }
}
