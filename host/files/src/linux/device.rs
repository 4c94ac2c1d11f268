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
//! of what was asked before is written to the guest's memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fuse_backend_rs::transport::{Reader, VirtioFsWriter};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringRwLock, VringT};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use virtio_queue::{DescriptorChain, QueueOwnedT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryLoadGuard, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::jobs::Jobs;
use super::requests::Service;

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
    vring: VringRwLock,
}

/// The device, shared between the library's threads.
pub struct Device {
    memory: Memory,
    event_idx: AtomicBool,
    jobs: Arc<Jobs<Job>>,
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
        Ok(Self {
            memory,
            event_idx: AtomicBool::new(false),
            jobs,
        })
    }

    /// Takes every waiting chain of a queue.
    fn take(&self, vring: &VringRwLock) -> io::Result<()> {
        let era = self.jobs.era();
        let memory = self.memory.memory();
        // A ring whose index ran ahead of its size is a broken driver's: the iterator refuses it.
        let chains = vring
            .get_mut()
            .get_queue_mut()
            .iter(memory.clone())
            .map_err(|e| io::Error::other(format!("a queue of the guest is broken: {e}")))?
            .collect::<Vec<_>>();
        for chain in chains {
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
        Ok(())
    }
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
    type Vring = VringRwLock;

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
        vrings: &[VringRwLock],
        _: usize,
    ) -> io::Result<()> {
        if events != EventSet::IN {
            return Err(io::Error::other("a queue's event descriptor failed"));
        }
        let Some(vring) = vrings.get(usize::from(queue)) else {
            return Ok(());
        };
        if !self.event_idx.load(Ordering::Relaxed) {
            return self.take(vring);
        }
        // With event indices the guest is silent while we look; look again until it has been told when to call.
        loop {
            vring.disable_notification().map_err(io::Error::other)?;
            self.take(vring)?;
            if !vring.enable_notification().map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }
}
