//! The way back to the launcher, and the gate.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, IoSlice};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, send, sendmsg,
};

use crate::StartError;
use crate::wire;

/// Our end of the pair.
pub struct Gate {
    socket: OwnedFd,
}

impl Gate {
    pub const fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Says that all is set up, hands over the terminal's master, and waits to be let go.
    ///
    /// `false` when the engine is dead: this process is to exit.
    pub fn pass(&self, master: Option<OwnedFd>) -> bool {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let passed = master.as_ref().map(|fd| [fd.as_fd()]);
        if let Some(fds) = &passed {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let text = [IoSlice::new(&[wire::READY])];
        if sendmsg(&self.socket, &text, &mut control, SendFlags::NOSIGNAL).is_err() {
            return false;
        }
        drop(master);
        let mut answer = [0];
        loop {
            match recv(&self.socket, &mut answer, RecvFlags::empty()) {
                Ok((_, length)) => return length == 1 && answer[0] == wire::GO,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Says that the exec is next. A launcher that is gone by now changes nothing.
    pub fn executing(&self) {
        let _ = send(&self.socket, &[wire::EXECUTING], SendFlags::NOSIGNAL);
    }

    /// Says what failed.
    pub fn failed(&self, error: &StartError) {
        let mut message = vec![wire::FAILED];
        let mut error = error.clone();
        // A message must fit: names in texts come from the request and may be long.
        if error.text.len() > wire::MESSAGE_LIMIT / 4 {
            let cut = (0..=wire::MESSAGE_LIMIT / 4)
                .rev()
                .find(|at| error.text.is_char_boundary(*at));
            error.text.truncate(cut.unwrap_or(0));
        }
        if serde_json::to_writer(&mut message, &error).is_ok() {
            let _ = send(&self.socket, &message, SendFlags::NOSIGNAL);
        }
    }
}
