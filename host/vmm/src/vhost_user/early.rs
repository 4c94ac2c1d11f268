//! Rings that the monitor enables before it has set features, as QEMU does for network cards when the card is
//! made. The library refuses that without an answer, for which QEMU waits for ever: so this takes such requests
//! from the socket before the library sees them.
//!
//! Called by the front's thread. The message is that of the vhost-user protocol, `VHOST_USER_SET_VRING_ENABLE`.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use rustix::net::{RecvFlags, recv};

/// Numbers of 32 bits: request, flags, length of what follows.
const HEADER: usize = 12;
const SET_VRING_ENABLE: u32 = 18;
/// Version 1 of the protocol, and that this is an answer.
const ANSWER: u32 = 0x5;
const WANTS_ANSWER: u32 = 0x8;

/// A ring and whether it is to be enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enable {
    pub index: u32,
    pub enable: bool,
}

/// Waits for the next request and takes it if it is of this kind; else it stays where it is.
///
/// # Errors
/// When the socket fails, or has ended within such a request.
pub fn take(
    socket: &mut UnixStream,
    act: impl FnOnce(Enable) -> Result<(), ()>,
) -> io::Result<bool> {
    let mut header = [0; HEADER];
    recv(
        &*socket,
        &mut header[..],
        RecvFlags::PEEK | RecvFlags::WAITALL,
    )?;
    let number = |at: usize| header.get(at..at + 4).map_or(0, little);
    if number(0) != SET_VRING_ENABLE {
        return Ok(false);
    }
    let mut message = [0; HEADER + 8];
    socket.read_exact(&mut message)?;
    let done = act(Enable {
        index: little(&message[HEADER..HEADER + 4]),
        enable: little(&message[HEADER + 4..]) != 0,
    });
    if number(4) & WANTS_ANSWER != 0 {
        let [a, b, c] = [SET_VRING_ENABLE, ANSWER, 8].map(u32::to_le_bytes);
        let failed = u64::from(done.is_err()).to_le_bytes();
        socket.write_all(&[&a[..], &b, &c, &failed].concat())?;
    }
    Ok(true)
}

fn little(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u32, flags: u32, body: &[u32]) -> Vec<u8> {
        let length = body.len() as u32 * 4;
        let numbers = [kind, flags, length].into_iter().chain(body.to_vec());
        numbers.flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn only_such_requests_are_taken_and_answered_if_they_ask_for_it() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let mut seen = Vec::new();
        for (flags, index, enable) in [(1, 0, 1), (9, 1, 0), (9, 7, 1)] {
            theirs
                .write_all(&request(SET_VRING_ENABLE, flags, &[index, enable]))
                .unwrap();
            let taken = take(&mut ours, |enable| {
                seen.push((enable.index, enable.enable));
                (enable.index < 2).then_some(()).ok_or(())
            });
            assert!(taken.unwrap());
        }
        assert_eq!(seen, [(0, true), (1, false), (7, true)]);
        let other = request(1, 1, &[]);
        theirs.write_all(&other).unwrap();
        assert!(!take(&mut ours, |_| Ok(())).unwrap());
        let mut left = vec![0; other.len()];
        ours.read_exact(&mut left).unwrap();
        assert_eq!(left, other);
        drop(ours);
        let mut answers = Vec::new();
        theirs.read_to_end(&mut answers).unwrap();
        let answer = |failed| request(SET_VRING_ENABLE, ANSWER, &[failed, 0]);
        assert_eq!(answers, [answer(0), answer(1)].concat());
    }
}
