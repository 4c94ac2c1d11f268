//! Ports that are out of service already and wait for their end: taking an interface apart takes the kernel ten
//! milliseconds and more, however many there are, and nobody has to wait for it.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rustix::io::Errno;

use crate::NetworkError;
use crate::links::DISCARDED;
use crate::netlink::Netlink;
use crate::place;

/// The thread that ends them; it ends when this is dropped.
pub(crate) struct Discarded(Sender<()>);

impl Discarded {
    /// In the namespace `home`.
    pub fn start(home: OwnedFd) -> Result<Self, NetworkError> {
        let (more, wanted) = channel();
        std::thread::Builder::new()
            .name("network-discard".into())
            .stack_size(128 << 10)
            .spawn(move || {
                let done = place::go(&home).and_then(|()| Netlink::open());
                match done {
                    Ok(netlink) => end(netlink, &wanted),
                    Err(error) => tracing::error!(%error, "ports of ended containers stay"),
                }
            })
            .map_err(NetworkError::of("starting a thread"))?;
        Ok(Self(more))
    }

    /// There is one more.
    pub fn more(&self) {
        // The thread is gone only if it could not start, which it said.
        let _ = self.0.send(());
    }
}

fn end(mut netlink: Netlink, wanted: &Receiver<()>) {
    while wanted.recv().is_ok() {
        while wanted.try_recv().is_ok() {}
        let mut all = LinkMessage::default();
        all.attributes.push(LinkAttribute::Group(DISCARDED));
        match netlink.remove(RouteNetlinkMessage::DelLink(all)) {
            Ok(()) | Err(Errno::NODEV) => {}
            Err(error) => tracing::warn!(%error, "ending ports"),
        }
    }
}
