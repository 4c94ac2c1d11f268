//! The vhost-user device: takes requests from the guest's queues, has them answered, gives them back.
//!
//! ```text
//!   guest's queues ──kick──► one thread takes chains ──► bounded queue ──► workers ──► used, call
//! ```
//!
//! Called by the process once, with the connection of the virtual machine's front end. Requests are
//! answered by several workers, so that one that waits for a disk does not hold up the others. No more
//! can be under way than the guest's queues have descriptors.
//!
//! A reset waits for those that are being answered and lets go of the others ([`jobs`](super::jobs)): after it nothing
//! of what was asked before is written to the guest's memory. A ring that is merely stopped is not waited for: what was
//! taken out of it is answered still.
//!
//! Must never: end the library's thread by what a guest did to a ring, since nothing starts it again; write to a ring that
//! was stopped when to call.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fuse_backend_rs::transport::{Reader, VirtioFsWriter};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringState, VringT};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use virtio_queue::{DescriptorChain, Error as BrokenRing, QueueOwnedT, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryLoadGuard, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::jobs::Jobs;
use super::requests::Service;
use super::ring::Ring;

/// One queue for what must not wait, and eight for requests.
const QUEUES: usize = 9;
const QUEUE_SIZE: usize = 1024;

/// Threads that answer requests: more than disks make use of, because one request to a file system of the
/// host that hangs holds one of them, and none can be started later.
const WORKERS: usize = 32;

/// What a worker needs of stack, with room to spare; only what is touched is ever there.
const STACK: usize = 512 << 10;

/// Requests that may wait for a worker. More than all queues hold at once, so an honest guest never waits
/// here; one that counts its ring on without waiting for answers does.
const MAX_WAITING: usize = 2 * QUEUES * QUEUE_SIZE;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;
type Loaded = GuestMemoryLoadGuard<GuestMemoryMmap>;

/// A request on its way to a worker.
struct Job {
    memory: Loaded,
    chain: DescriptorChain<Loaded>,
    vring: Ring,
}

/// The device, shared between the library's threads.
pub struct Device {
    memory: Memory,
    event_idx: AtomicBool,
    jobs: Arc<Jobs<Job>>,
    /// Whether it was said that a ring is broken: once, however often a guest does that.
    said: AtomicBool,
}

impl Device {
    /// A device whose workers are running.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn start(service: Service, memory: Memory) -> io::Result<Self> {
        let service = Arc::new(service);
        let jobs = Arc::new(Jobs::new(MAX_WAITING));
        for number in 0..WORKERS {
            let (service, jobs) = (Arc::clone(&service), Arc::clone(&jobs));
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .stack_size(STACK)
                .spawn(move || work(&service, &jobs))?;
        }
        Ok(Self::of(memory, jobs))
    }

    fn of(memory: Memory, jobs: Arc<Jobs<Job>>) -> Self {
        Self {
            memory,
            event_idx: AtomicBool::new(false),
            jobs,
            said: AtomicBool::new(false),
        }
    }

    /// Takes what waits in a queue, until the guest has been told when to call.
    fn serve(&self, vring: &Ring) -> Result<(), BrokenRing> {
        if !self.event_idx.load(Ordering::Relaxed) {
            return self.take(vring).map(drop);
        }
        // With event indices the guest is silent while we look; look again until it has been told when to call.
        let mut more = false;
        loop {
            running(vring, VringState::disable_notification)?;
            let taken = self.take(vring)?;
            if more && taken == Some(0) {
                // Its index is within the guest's memory, and the rest of it is not.
                return Err(BrokenRing::InvalidAvailRingIndex);
            }
            more = running(vring, VringState::enable_notification)?.unwrap_or(false);
            if !more {
                return Ok(());
            }
        }
    }

    /// Takes every waiting chain of a queue; says how many, or nothing of one that was stopped.
    fn take(&self, vring: &Ring) -> Result<Option<usize>, BrokenRing> {
        let era = self.jobs.era();
        let memory = self.memory.memory();
        // A ring whose index ran ahead of its size is a broken driver's: the iterator refuses it.
        let chains = running(vring, |ring| {
            let waiting = ring.get_queue_mut().iter(memory.clone())?;
            Ok(waiting.collect::<Vec<_>>())
        })?;
        let count = chains.as_ref().map(Vec::len);
        for chain in chains.into_iter().flatten() {
            let (memory, vring) = (memory.clone(), vring.clone());
            self.jobs.push(
                era,
                Job {
                    memory,
                    chain,
                    vring,
                },
            );
        }
        Ok(count)
    }
}

/// Does something with a ring, unless it was stopped; it cannot be stopped meanwhile.
fn running<T>(
    vring: &Ring,
    work: impl FnOnce(&mut VringState) -> Result<T, BrokenRing>,
) -> Result<Option<T>, BrokenRing> {
    let mut ring = vring.get_mut();
    if !(ring.get_queue().ready() && ring.is_enabled()) {
        return Ok(None);
    }
    work(&mut ring).map(Some)
}

fn work(service: &Service, jobs: &Jobs<Job>) {
    loop {
        let job = jobs.next();
        finish(service, job);
        jobs.done();
    }
}

fn finish(
    service: &Service,
    Job {
        memory,
        chain,
        vring,
    }: Job,
) {
    let head = chain.head_index();
    let reader = Reader::from_descriptor_chain(&*memory, chain.clone());
    let writer = VirtioFsWriter::new(&*memory, chain);
    let length = match (reader, writer) {
        (Ok(reader), Ok(writer)) => service.handle(reader, writer.into()),
        // Descriptors outside of the guest's memory: nothing can be read or answered.
        _ => 0,
    };
    let told = vring
        .add_used(head, u32::try_from(length).unwrap_or(0))
        .and_then(|()| vring.needs_notification())
        .map_err(io::Error::other)
        .and_then(|needed| {
            if needed {
                vring.signal_used_queue()
            } else {
                Ok(())
            }
        });
    if let Err(error) = told {
        tracing::debug!(%error, "a request could not be given back");
    }
}

impl VhostUserBackend for Device {
    type Bitmap = ();
    type Vring = Ring;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        // Without CONFIG: the front end keeps the tag and the number of queues, and QEMU warns of an offer.
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::RESET_DEVICE
    }

    fn reset_device(&self) {
        self.jobs.let_go();
    }

    fn set_event_idx(&self, enabled: bool) {
        self.event_idx.store(enabled, Ordering::Relaxed);
    }

    fn update_memory(&self, _: Memory) -> io::Result<()> {
        // The library changes the memory behind the handle this device was made with.
        Ok(())
    }

    fn handle_event(
        &self,
        queue: u16,
        events: EventSet,
        vrings: &[Ring],
        _: usize,
    ) -> io::Result<()> {
        if events != EventSet::IN {
            return Err(io::Error::other("a queue's event descriptor failed"));
        }
        let Some(vring) = vrings.get(usize::from(queue)) else {
            return Ok(());
        };
        if let Err(error) = self.serve(vring)
            && !self.said.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "a queue of the guest is broken");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use virtio_queue::desc::RawDescriptor;
    use virtio_queue::desc::split::Descriptor;
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;

    const END: u64 = 0x1_0000;
    const SIZE: u16 = 16;

    /// A device of which nobody answers requests, with a ring of one chain.
    struct Scene {
        device: Device,
        memory: GuestMemoryMmap,
        vrings: [Ring; 1],
        index: GuestAddress,
        event: GuestAddress,
    }

    impl Scene {
        fn new() -> Self {
            let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), END as usize)]).unwrap();
            let shared = GuestMemoryAtomic::new(memory.clone());
            let vring = Ring::new(shared.clone(), SIZE).unwrap();
            let queue = MockSplitQueue::new(&memory, SIZE);
            let chain = RawDescriptor::from(Descriptor::new(0x8000, 16, 0, 0));
            queue.add_desc_chains(&[chain], 0).unwrap();
            let [table, avail, used] = [
                queue.desc_table_addr(),
                queue.avail_addr(),
                queue.used_addr(),
            ]
            .map(|at| at.0);
            vring.set_queue_size(SIZE);
            vring.set_queue_info(table, avail, used).unwrap();
            vring.set_queue_event_idx(true);
            vring.set_queue_ready(true);
            vring.set_enabled(true);
            let device = Device {
                event_idx: AtomicBool::new(true),
                ..Device::of(shared, Arc::new(Jobs::new(8)))
            };
            let event = GuestAddress(used + 4 + 8 * u64::from(SIZE));
            memory.write_obj(0xabcd_u16, event).unwrap();
            Self {
                device,
                index: GuestAddress(avail + 2),
                event,
                memory,
                vrings: [vring],
            }
        }

        /// A kick, by which the library's thread must not end.
        fn kick(&self) {
            let served = self.device.handle_event(0, EventSet::IN, &self.vrings, 0);
            served.unwrap();
        }

        fn is_served(&self) {
            self.kick();
            assert_eq!(self.device.jobs.next().chain.head_index(), 0);
            assert_eq!(self.memory.read_obj::<u16>(self.event).unwrap(), 1);
        }
    }

    #[test]
    fn a_ring_that_was_stopped_behind_its_kick_is_left_alone_and_served_later() {
        let scene = Scene::new();
        let [vring] = &scene.vrings;
        for (ready, enabled) in [(false, true), (true, false)] {
            vring.set_queue_ready(ready);
            vring.set_enabled(enabled);
            scene.kick();
            let event = scene.memory.read_obj::<u16>(scene.event).unwrap();
            assert_eq!(event, 0xabcd, "{ready} {enabled}");
        }
        vring.set_queue_ready(true);
        vring.set_enabled(true);
        scene.is_served();
    }

    #[test]
    fn a_broken_ring_is_nothing_to_do_until_it_is_whole() {
        let scene = Scene::new();
        scene.memory.write_obj(5000_u16, scene.index).unwrap();
        scene.kick();
        scene.memory.write_obj(1_u16, scene.index).unwrap();
        scene.is_served();
    }

    #[test]
    fn a_ring_that_cannot_be_read_is_not_looked_at_for_ever() {
        let scene = Scene::new();
        let [vring] = &scene.vrings;
        // Its index is the last word of the memory.
        let used = scene.event.0 - 4 - 8 * u64::from(SIZE);
        vring.set_queue_info(0, END - 4, used).unwrap();
        let index = GuestAddress(END - 2);
        scene.memory.write_obj(1_u16, index).unwrap();
        scene.kick();
    }
}
