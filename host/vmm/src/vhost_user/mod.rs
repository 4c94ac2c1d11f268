//! The vhost-user front of a device: what QEMU's `vhost-user-vsock-pci` and `-netdev vhost-user` talk to.
//!
//! One thread reads QEMU's messages from a connected socket and turns them into commands for the
//! device ([`Rings`]); it ends when QEMU closes the socket. QEMU is trusted to describe the guest's memory; what
//! it passes on from the guest (ring addresses and sizes) is checked again.

mod early;
#[cfg(all(feature = "fuzz", not(test)))]
pub(crate) mod fuzz;

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use lighter_platform::sys::threads;
use vhost::vhost_user::{
    BackendReqHandler, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut,
    message::{
        VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags,
        VhostUserInflight, VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures,
        VhostUserShMemConfig, VhostUserSharedMsg, VhostUserSingleMemoryRegion,
        VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
    },
};
use virtio_bindings::{
    virtio_config::VIRTIO_F_VERSION_1,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestRegionMmap};

use crate::device::Trouble;
use crate::ring::{BadRing, Memory};
use crate::roles;
use crate::said::Said;

/// The longest ring accepted; QEMU makes 128 entries.
const MAX_RING: u16 = 1024;
/// The most pieces of guest memory; QEMU sends at most 8 without the slots extension.
const MAX_REGIONS: usize = 8;

/// A device as its front sees it. Every call returns when the device has acted on it.
pub trait Rings: Clone + Send + 'static {
    /// How many rings it serves.
    const COUNT: usize;
    /// Features of its own that it offers.
    const FEATURES: u64;

    /// Its configuration space, as the guest reads it.
    fn config(&self) -> Vec<u8>;
    /// Takes note of what the guest's driver accepted of what was offered.
    fn set_features(&self, features: u64);
    /// Gives the device the guest's memory, now or anew. No ring may run.
    fn set_memory(&self, memory: Arc<Memory>);
    /// Starts a ring; its settings cannot change while it runs.
    ///
    /// # Errors
    /// When it is not wholly in the guest's memory, or the index is none of the device's.
    fn start_ring(
        &self,
        index: usize,
        queue: Queue,
        kick: OwnedFd,
        call: Option<OwnedFd>,
    ) -> std::result::Result<(), BadRing>;
    /// Stops a ring, and says where in it the device stopped. It may be a pause.
    fn stop_ring(&self, index: usize) -> Option<u16>;
    /// Changes where a ring's interrupts go.
    fn set_call(&self, index: usize, call: Option<OwnedFd>);
    /// Gives the device a way to tell the guest that it broke the rules, which no monitor that speaks vhost-user has.
    fn set_trouble(&self, _trouble: Trouble) {}
    /// The guest was reset, or has gone.
    fn forget_guest(&self);
}

/// Serves one monitor on a connected socket until it hangs up.
///
/// # Errors
/// When no thread can be started.
pub fn serve<R: Rings>(socket: UnixStream, rings: R) -> io::Result<JoinHandle<()>> {
    let front = Arc::new(Mutex::new(Front::new(rings.clone())));
    let mut early = socket.try_clone()?;
    let mut handler = BackendReqHandler::from_stream(socket, Arc::clone(&front));
    let work = move || {
        // What the monitor passes on may be the guest's word.
        let said = Said::default();
        loop {
            if take_early(&mut early, &front) {
                continue;
            }
            match handler.handle_request() {
                Ok(()) => {}
                // A socket that fails once fails for ever: going on would spin.
                Err(
                    Error::Disconnected
                    | Error::SocketBroken(_)
                    | Error::SocketError(_)
                    | Error::PartialMessage,
                ) => break,
                // A request that could not be honoured was answered so where the protocol can.
                Err(error) if said.first() => {
                    tracing::warn!(%error, "a vhost-user request failed");
                }
                Err(_) => {}
            }
        }
        for index in 0..R::COUNT {
            _ = rings.stop_ring(index);
        }
        rings.forget_guest();
    };
    threads::spawn("vhost-user", roles::FRONT, work)
}

/// Whether the next request was one that the library would not have taken.
fn take_early<R: Rings>(socket: &mut UnixStream, front: &Mutex<Front<R>>) -> bool {
    let front = || front.lock().unwrap_or_else(PoisonError::into_inner);
    if front().has_features {
        return false;
    }
    let taken = early::take(socket, |ring| {
        let done = front().set_vring_enable(ring.index, ring.enable);
        done.map_err(drop)
    });
    // The library has the same socket, and says what is wrong with it.
    taken.unwrap_or(false)
}

/// One ring while it is being configured.
struct Vring {
    queue: Queue,
    kick: Option<OwnedFd>,
    call: Option<OwnedFd>,
    enabled: bool,
    running: bool,
    /// Whether it ran before and stopped elsewhere than at the beginning.
    paused: bool,
}

/// A piece of guest memory by the monitor's own addresses.
struct Mapping {
    user: u64,
    size: u64,
    guest: u64,
}

struct Front<R> {
    device: R,
    rings: Vec<Vring>,
    mappings: Vec<Mapping>,
    event_index: bool,
    /// Whether the monitor has said which features it takes.
    has_features: bool,
    /// Rings are enabled by themselves unless the monitor knows the protocol's features.
    enable_by_message: bool,
}

impl<R: Rings> Front<R> {
    fn new(device: R) -> Self {
        let ring = || {
            // A power of two below 32,768 is what `Queue::new` asks for.
            let queue = Queue::new(MAX_RING).unwrap_or_default();
            Vring {
                queue,
                kick: None,
                call: None,
                enabled: false,
                running: false,
                paused: false,
            }
        };
        Self {
            device,
            rings: (0..R::COUNT).map(|_| ring()).collect(),
            mappings: Vec::new(),
            event_index: false,
            has_features: false,
            enable_by_message: false,
        }
    }

    fn ring(&mut self, index: u32) -> Result<&mut Vring> {
        self.rings
            .get_mut(index as usize)
            .ok_or(Error::InvalidParam)
    }

    fn guest_address(&self, user: u64) -> Result<GuestAddress> {
        let holds = |m: &&Mapping| user >= m.user && user - m.user < m.size;
        let mapping = self
            .mappings
            .iter()
            .find(holds)
            .ok_or(Error::InvalidParam)?;
        // A region's end in guest memory was checked when it was mapped.
        Ok(GuestAddress(user - mapping.user + mapping.guest))
    }

    /// Starts the ring once it has all it needs.
    fn start_if_complete(&mut self, index: u32) -> Result<()> {
        let (event_index, by_message) = (self.event_index, self.enable_by_message);
        let ring = self.ring(index)?;
        let enabled = ring.enabled || !by_message;
        if ring.running || !enabled || ring.queue.desc_table() == 0 {
            return Ok(());
        }
        let Some(kick) = &ring.kick else {
            return Ok(());
        };
        let system = |e| Error::ReqHandlerError(e);
        let kick = kick.try_clone().map_err(system)?;
        let call = ring
            .call
            .as_ref()
            .map(OwnedFd::try_clone)
            .transpose()
            .map_err(system)?;
        ring.queue.set_event_idx(event_index);
        ring.queue.set_ready(true);
        // A ring that ran and begins at zero again belongs to a guest that was reset; one that goes
        // on where it stopped belongs to a guest that was paused.
        let reset = ring.paused && ring.queue.next_avail() == 0;
        ring.paused = false;
        ring.running = true;
        let queue = copy(&ring.queue);
        if reset {
            self.device.forget_guest();
        }
        let started = self.device.start_ring(index as usize, queue, kick, call);
        if started.is_err() {
            self.ring(index)?.running = false;
        }
        started.map_err(|_| Error::InvalidParam)
    }

    fn stop(&mut self, index: u32) -> Result<u16> {
        let base = self.device.stop_ring(index as usize);
        let ring = self.ring(index)?;
        ring.running = false;
        ring.queue.set_ready(false);
        if let Some(base) = base {
            ring.queue.set_next_avail(base);
            ring.paused = base != 0;
        }
        Ok(ring.queue.next_avail())
    }
}

/// The device gets its own copy, which nobody changes while it runs.
fn copy(queue: &Queue) -> Queue {
    let mut copy = Queue::new(MAX_RING).unwrap_or_default();
    copy.set_size(queue.size());
    let halves = |address: u64| (Some(address as u32), Some((address >> 32) as u32));
    let (low, high) = halves(queue.desc_table());
    copy.set_desc_table_address(low, high);
    let (low, high) = halves(queue.avail_ring());
    copy.set_avail_ring_address(low, high);
    let (low, high) = halves(queue.used_ring());
    copy.set_used_ring_address(low, high);
    copy.set_next_avail(queue.next_avail());
    copy.set_next_used(queue.next_used());
    copy.set_event_idx(queue.event_idx_enabled());
    copy.set_ready(queue.ready());
    copy
}

fn unsupported<T>() -> Result<T> {
    Err(Error::InvalidOperation("not offered by this device"))
}

impl<R: Rings> VhostUserBackendReqHandlerMut for Front<R> {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        for index in 0..R::COUNT as u32 {
            self.stop(index)?;
        }
        self.device.forget_guest();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
            | R::FEATURES)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.get_features()? != 0 {
            return Err(Error::InvalidParam);
        }
        self.has_features = true;
        self.device.set_features(features);
        self.event_index = features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        self.enable_by_message = features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0;
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        postcopy_listening: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        if postcopy_listening.is_some()
            || regions.len() != files.len()
            || regions.len() > MAX_REGIONS
        {
            return unsupported();
        }
        let mut mapped = Vec::with_capacity(regions.len());
        let mut mappings = Vec::with_capacity(regions.len());
        for (region, file) in regions.iter().zip(files) {
            let guest = GuestAddress(region.guest_phys_addr);
            let memory = GuestRegionMmap::new(region.mmap_region(file)?, guest)
                .ok_or(Error::InvalidParam)?;
            mapped.push(memory);
            mappings.push(Mapping {
                user: region.user_addr,
                size: region.memory_size,
                guest: region.guest_phys_addr,
            });
        }
        let memory = Memory::from_regions(mapped).map_err(|_| Error::InvalidParam)?;
        self.device.set_memory(Arc::new(memory));
        self.mappings = mappings;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).map_err(|_| Error::InvalidParam)?;
        let ring = self.ring(index)?;
        if ring.running {
            return Err(Error::InvalidParam);
        }
        ring.queue
            .try_set_size(size)
            .map_err(|_| Error::InvalidParam)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let descriptor = self.guest_address(descriptor)?;
        let available = self.guest_address(available)?;
        let used = self.guest_address(used)?;
        let ring = self.ring(index)?;
        if ring.running {
            return Err(Error::InvalidParam);
        }
        ring.queue
            .try_set_desc_table_address(descriptor)
            .map_err(|_| Error::InvalidParam)?;
        ring.queue
            .try_set_avail_ring_address(available)
            .map_err(|_| Error::InvalidParam)?;
        ring.queue
            .try_set_used_ring_address(used)
            .map_err(|_| Error::InvalidParam)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        let ring = self.ring(index)?;
        if ring.running {
            return Err(Error::InvalidParam);
        }
        // Every chain is given back before the ring stops, so both positions are the same.
        ring.queue.set_next_avail(base);
        ring.queue.set_next_used(base);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let base = self.stop(index)?;
        let ring = self.ring(index)?;
        (ring.kick, ring.call) = (None, None);
        Ok(VhostUserVringState::new(index, u32::from(base)))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.ring(index.into())?.kick = file.map(OwnedFd::from);
        self.start_if_complete(index.into())
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let call = file.map(OwnedFd::from);
        let copy = call
            .as_ref()
            .map(OwnedFd::try_clone)
            .transpose()
            .map_err(Error::ReqHandlerError)?;
        let ring = self.ring(index.into())?;
        ring.call = call;
        if ring.running {
            self.device.set_call(index.into(), copy);
        }
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _file: Option<File>) -> Result<()> {
        self.ring(index.into()).map(drop)
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        // QEMU warns of an offer it has no use for.
        let config = match self.device.config().is_empty() {
            true => VhostUserProtocolFeatures::empty(),
            false => VhostUserProtocolFeatures::CONFIG,
        };
        Ok(config | VhostUserProtocolFeatures::REPLY_ACK)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(R::COUNT as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.ring(index)?.enabled = enable;
        if enable {
            return self.start_if_complete(index);
        }
        self.stop(index).map(drop)
    }

    fn get_config(
        &mut self,
        offset: u32,
        size: u32,
        _flags: VhostUserConfigFlags,
    ) -> Result<Vec<u8>> {
        let config = self.device.config();
        let end = offset.checked_add(size).ok_or(Error::InvalidParam)?;
        let bytes = config
            .get(offset as usize..end as usize)
            .ok_or(Error::InvalidParam)?;
        Ok(bytes.to_vec())
    }

    fn set_config(
        &mut self,
        _offset: u32,
        _bytes: &[u8],
        _flags: VhostUserConfigFlags,
    ) -> Result<()> {
        unsupported()
    }

    fn set_gpu_socket(&mut self, _backend: GpuBackend) -> Result<()> {
        unsupported()
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        unsupported()
    }

    fn get_inflight_fd(
        &mut self,
        _inflight: &VhostUserInflight,
    ) -> Result<(VhostUserInflight, File)> {
        unsupported()
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        unsupported()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MAX_REGIONS as u64)
    }

    fn add_mem_region(
        &mut self,
        _region: &VhostUserSingleMemoryRegion,
        _file: File,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<u64>> {
        unsupported()
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        unsupported()
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        unsupported()
    }

    fn check_device_state(&mut self) -> Result<()> {
        unsupported()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unsupported()
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        unsupported()
    }
}
