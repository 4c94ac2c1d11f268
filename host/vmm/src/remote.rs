//! A device that another process serves: the monitor's end of vhost-user, for host folders and the network card.
//!
//! The other process is given the guest's memory and its rings, and both ring each other through the kernel; nothing
//! of a request passes through here. It is a process of ours, but it may be slow to answer or gone: that is an error
//! when the device is made, and a device that needs a reset when the guest starts it.

use std::io;
use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use vhost::vhost_user::message::{
    VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend as _};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_net::VIRTIO_NET_F_MAC;
use virtio_queue::QueueT as _;
use vm_memory::{GuestAddress, GuestMemoryBackend as _};
use vmm_sys_util::eventfd::EventFd;

use crate::device::{Activation, Device, Identity, Start};
use crate::patience::{ANSWER, Patience};
use crate::ring::{BadRing, Memory};
use crate::said::Said;

const KIND_NET: u32 = 1;
const KIND_FS: u32 = 26;
const RING_NET: u16 = 1024;
const RING_FS: u16 = 1024;
/// Bytes of a share's tag in the configuration space (virtio 1.2, 5.11.4).
const TAG: usize = 36;

/// The other process does not do its part.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It did not answer as the protocol asks.
    #[error("the process behind a device does not answer")]
    Protocol(#[source] vhost::Error),
    /// Its socket could not be used.
    #[error("the socket of the process behind a device")]
    Socket(#[source] io::Error),
}

/// The device.
pub struct Remote {
    identity: Identity,
    front: Frontend,
    patience: Patience,
    /// What the other process offered.
    offered: u64,
    running: usize,
    /// Whether it can be told to let go of what is under way, and says when it has.
    resets: bool,
    said: Said,
}

impl Remote {
    /// A share of the host's folders with this tag.
    ///
    /// # Errors
    /// When the other process does not answer.
    pub fn share(socket: UnixStream, tag: &str) -> Result<Self, RemoteError> {
        let mut config = vec![0; TAG];
        let n = tag.len().min(TAG);
        config[..n].copy_from_slice(&tag.as_bytes()[..n]);
        config.extend(1u32.to_le_bytes());
        Self::new(socket, KIND_FS, vec![RING_FS; 2], 0, config)
    }

    /// A network card with this hardware address.
    ///
    /// # Errors
    /// When the other process does not answer.
    pub fn card(socket: UnixStream, mac: [u8; 6]) -> Result<Self, RemoteError> {
        let own = 1 << VIRTIO_NET_F_MAC;
        Self::new(socket, KIND_NET, vec![RING_NET; 2], own, mac.to_vec())
    }

    fn new(
        socket: UnixStream,
        kind: u32,
        rings: Vec<u16>,
        own: u64,
        config: Vec<u8>,
    ) -> Result<Self, RemoteError> {
        let watched = socket.try_clone().map_err(RemoteError::Socket)?;
        let patience = Patience::spawn(watched, ANSWER).map_err(RemoteError::Socket)?;
        let limit = patience.limit();
        let mut front = Frontend::from_stream(socket, rings.len() as u64);
        let protocol = RemoteError::Protocol;
        front.set_owner().map_err(protocol)?;
        let offered = front.get_features().map_err(protocol)?;
        let by_message = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let mut both = VhostUserProtocolFeatures::empty();
        if offered & by_message != 0 {
            let known = VhostUserProtocolFeatures::REPLY_ACK
                | VhostUserProtocolFeatures::MQ
                | VhostUserProtocolFeatures::RESET_DEVICE;
            both = front.get_protocol_features().map_err(protocol)? & known;
            front.set_protocol_features(both).map_err(protocol)?;
        }
        let answers = VhostUserProtocolFeatures::REPLY_ACK;
        if both.contains(answers) {
            // From here on each message is answered: what the other process refuses is known.
            front.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        let identity = Identity {
            kind,
            rings,
            features: offered & !by_message | own,
            config,
        };
        drop(limit);
        Ok(Self {
            identity,
            front,
            patience,
            offered,
            running: 0,
            resets: both.contains(answers | VhostUserProtocolFeatures::RESET_DEVICE),
            said: Said::default(),
        })
    }

    fn start(&mut self, activation: Activation) -> Result<(), vhost::Error> {
        let by_message = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let features = (activation.features | by_message) & self.offered;
        self.front.set_features(features)?;
        let regions = regions(&activation.memory)?;
        self.front.set_mem_table(&regions)?;
        self.running = activation.rings.len();
        for (index, start) in activation.rings.into_iter().enumerate() {
            if let Some(start) = start {
                let max = self.identity.rings[index];
                self.start_ring(index, max, start, &activation.memory)?;
                if self.offered & by_message != 0 {
                    self.front.set_vring_enable(index, true)?;
                }
            }
        }
        Ok(())
    }

    fn start_ring(
        &self,
        index: usize,
        max: u16,
        start: Start,
        memory: &Memory,
    ) -> Result<(), vhost::Error> {
        let queue = &start.queue;
        let here = |address| {
            let here = memory.get_host_address(GuestAddress(address));
            here.map(|pointer| pointer as u64)
                .map_err(|_| vhost::Error::InvalidQueue)
        };
        self.front.set_vring_num(index, queue.size())?;
        self.front.set_vring_addr(
            index,
            &VringConfigData {
                queue_max_size: max,
                queue_size: queue.size(),
                flags: 0,
                desc_table_addr: here(queue.desc_table())?,
                used_ring_addr: here(queue.used_ring())?,
                avail_ring_addr: here(queue.avail_ring())?,
                log_addr: None,
            },
        )?;
        self.front.set_vring_base(index, 0)?;
        self.front.set_vring_call(index, &event(start.call))?;
        self.front.set_vring_kick(index, &event(start.kick))
    }
}

impl Device for Remote {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn activate(&mut self, activation: Activation) -> Result<(), BadRing> {
        let _limit = self.patience.limit();
        self.start(activation).map_err(|error| {
            if self.said.first() {
                tracing::error!(%error, "the process behind a device does not take its rings");
            }
            // An answer that comes late would be taken for another's.
            self.patience.give_up();
            BadRing
        })
    }

    fn reset(&mut self) {
        let _limit = self.patience.limit();
        let running = std::mem::take(&mut self.running);
        let mut stopped = true;
        for index in 0..running {
            stopped &= self.front.get_vring_base(index).is_ok();
        }
        // What it had begun may still be answered in the guest's memory: the guest may use that for something else once
        // the reset is done.
        if running > 0 && self.resets {
            stopped &= self.front.reset_device().is_ok();
        }
        if !stopped {
            // A process that is gone has stopped, too.
            self.patience.give_up();
        }
    }

    /// The other process sees by the end of its socket that the guest has ended.
    fn end(&mut self) {
        self.patience.give_up();
    }
}

fn regions(memory: &Memory) -> Result<Vec<VhostUserMemoryRegionInfo>, vhost::Error> {
    memory
        .iter()
        .map(VhostUserMemoryRegionInfo::from_guest_region)
        .collect()
}

fn event(descriptor: OwnedFd) -> EventFd {
    // SAFETY: the descriptor is an event's, and was just taken out of its owner, which closes it no more.
    unsafe { EventFd::from_raw_fd(descriptor.into_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::{Arc, Mutex};
    use std::thread::JoinHandle;

    use super::*;
    use crate::played::{Guest, NEEDS_RESET};

    const NEED_REPLY: u32 = 8;
    const GET_FEATURES: u32 = 1;
    const SET_MEM_TABLE: u32 = 5;
    const GET_VRING_BASE: u32 = 11;
    const SET_VRING_KICK: u32 = 12;
    const GET_PROTOCOL_FEATURES: u32 = 15;
    const RESET_DEVICE: u32 = 34;

    /// The other process, as far as messages go: it notes what it is asked, and refuses one kind.
    struct Other {
        asked: Arc<Mutex<Vec<(u32, bool)>>>,
        thread: JoinHandle<()>,
    }

    impl Other {
        fn beside(refused: Option<u32>) -> (UnixStream, Self) {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let asked = Arc::new(Mutex::new(Vec::new()));
            let noted = Arc::clone(&asked);
            let thread = std::thread::spawn(move || {
                let mut header = [0; 12];
                while theirs.read_exact(&mut header).is_ok() {
                    let word =
                        |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
                    let (request, needs_reply) = (word(0), word(4) & NEED_REPLY != 0);
                    let mut body = vec![0; word(8) as usize];
                    theirs.read_exact(&mut body).unwrap();
                    noted.lock().unwrap().push((request, needs_reply));
                    let reply: u64 = match request {
                        // The protocol's features; several queues, answers to all, and a reset.
                        GET_FEATURES => 1 << 32 | 1 << 30,
                        GET_PROTOCOL_FEATURES => 1 | 1 << 3 | 1 << 13,
                        GET_VRING_BASE => u64::from(body[0]),
                        _ if needs_reply => u64::from(refused == Some(request)),
                        _ => continue,
                    };
                    let flags: u32 = 1 | 4;
                    let words = [request, flags, 8].map(u32::to_le_bytes).concat();
                    theirs
                        .write_all(&[&words[..], &reply.to_le_bytes()].concat())
                        .unwrap();
                }
            });
            (ours, Self { asked, thread })
        }

        fn asked(&self) -> Vec<(u32, bool)> {
            std::mem::take(&mut self.asked.lock().unwrap())
        }
    }

    #[test]
    fn what_the_other_process_refuses_is_known() {
        for refused in [SET_MEM_TABLE, SET_VRING_KICK] {
            let (socket, other) = Other::beside(Some(refused));
            let guest = Guest::up(Remote::share(socket, "tag").unwrap());
            assert_eq!(guest.status() & NEEDS_RESET, NEEDS_RESET, "{refused}");
            drop(guest);
            other.thread.join().unwrap();
        }
        let (socket, other) = Other::beside(None);
        let guest = Guest::up(Remote::share(socket, "tag").unwrap());
        assert_eq!(guest.status() & NEEDS_RESET, 0);
        let asked = other.asked();
        assert!(asked.contains(&(SET_VRING_KICK, true)), "{asked:?}");
    }

    /// Requests that are under way are still answered behind the end of the rings; a reset waits for that.
    #[test]
    fn a_reset_waits_until_nothing_is_under_way_any_more() {
        let (socket, other) = Other::beside(None);
        let mut guest = Guest::up(Remote::share(socket, "tag").unwrap());
        other.asked();
        guest.reset();
        assert_eq!(guest.status(), 0);
        let asked = other.asked();
        let asked: Vec<u32> = asked.iter().map(|(request, _)| *request).collect();
        assert_eq!(asked, [GET_VRING_BASE, GET_VRING_BASE, RESET_DEVICE]);
        guest.come_up();
        assert_eq!(guest.status() & NEEDS_RESET, 0);
        let (socket, _other) = Other::beside(Some(RESET_DEVICE));
        let mut guest = Guest::up(Remote::share(socket, "tag").unwrap());
        guest.reset();
        guest.come_up();
        assert_eq!(guest.status() & NEEDS_RESET, NEEDS_RESET);
    }

    /// Over the library at both ends.
    #[test]
    fn a_device_of_ours_answers_each_message() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let device = crate::vsock::Vsock::spawn(3).unwrap();
        let served = crate::vhost_user::serve(theirs, device.transport()).unwrap();
        let mut guest = Guest::up(Remote::card(ours, [2; 6]).unwrap());
        for _ in 0..3 {
            assert_eq!(guest.status() & NEEDS_RESET, 0);
            guest.reset();
            guest.come_up();
        }
        drop(guest);
        served.join().unwrap();
    }
}
