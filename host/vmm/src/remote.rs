//! A device that another process serves: the monitor's end of vhost-user, for host folders and the network card.
//!
//! The other process is given the guest's memory and its rings, and both ring each other through the kernel; nothing
//! of a request passes through here. It is a process of ours, but it may be slow to answer or gone: that is an error
//! when the device is made, and a device that needs a reset when the guest starts it.

use std::io;
use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
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
        if offered & by_message != 0 {
            let known = VhostUserProtocolFeatures::REPLY_ACK | VhostUserProtocolFeatures::MQ;
            let theirs = front.get_protocol_features().map_err(protocol)?;
            front
                .set_protocol_features(theirs & known)
                .map_err(protocol)?;
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
        for index in 0..std::mem::take(&mut self.running) {
            // A process that is gone has stopped, too.
            if self.front.get_vring_base(index).is_err() {
                self.patience.give_up();
            }
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
