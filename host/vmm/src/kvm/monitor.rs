//! The machine put together: memory, interrupt controllers, devices, processors, and its end.

use std::fs::File;
use std::os::unix::thread::JoinHandleExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use kvm_bindings::{
    KVM_CAP_PMU_CAPABILITY, KVM_MEM_READONLY, KVM_PIT_SPEAKER_DUMMY, KVM_PMU_CAP_DISABLE,
    kvm_enable_cap, kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuFd, VmFd};
use lighter_platform::sys::threads;
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::error::Error;
use super::layout::{DEVICE_INTERRUPTS, DEVICES, IDENTITY_MAP, SERIAL_INTERRUPT, TSS};
use super::ports::{Console, Ports};
use super::{boot, cpuid, memory, mptable, vcpu};
use crate::device::{Device, USED_RING};
use crate::mmio::{ACKNOWLEDGE, Bus, NOTIFY, PAGE, Pages, Transport};
use crate::ring::Memory;
use crate::roles;

/// What a machine is made of.
pub struct Config {
    /// `/dev/kvm`, open.
    pub kvm: File,
    /// Processors, 1 to 64.
    pub cpus: u8,
    /// Memory in bytes, whole MiB.
    pub memory_bytes: u64,
    /// Whether the host is asked to give it in huge pages.
    pub huge_pages: bool,
    /// The uncompressed kernel with a PVH entry.
    pub kernel: File,
    /// The initial file system.
    pub initramfs: File,
    /// The kernel's words; those that tell of the devices are added.
    pub command_line: String,
    /// Where the guest's console goes.
    pub console: Console,
    /// Its devices, in the order in which the guest finds them.
    pub devices: Vec<Box<dyn Device>>,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest restarted, which a machine does once.
    Reset,
    /// A processor of the guest found no way to handle a fault. It is also how a guest's kernel restarts.
    TripleFault,
    /// It was ended from outside.
    Killed,
    /// It could not go on.
    Failed(String),
}

/// A machine.
pub struct Monitor {
    shared: Arc<Shared>,
    made: Mutex<Option<Made>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Made {
    vm: VmFd,
    /// Mapped for as long as a processor may run, and so are the registers.
    memory: Arc<Memory>,
    registers: Pages,
    processors: Vec<VcpuFd>,
    bus: Arc<Bus>,
    ports: Arc<Ports>,
}

/// What the processors' threads and the outside share.
#[derive(Default)]
pub struct Shared {
    over: AtomicBool,
    life: Mutex<Life>,
    changed: Condvar,
    /// Their threads, which are joined after the last use of this.
    processors: Mutex<Vec<libc::pthread_t>>,
}

/// From the first thread to the end.
#[derive(Default)]
struct Life {
    open: bool,
    end: Option<End>,
}

impl Shared {
    /// Waits until the guest may run; `false` when it never will.
    pub fn opened(&self) -> bool {
        let mut life = lock(&self.life);
        while life.end.is_none() {
            if life.open {
                return true;
            }
            let woken = self.changed.wait(life);
            life = woken.unwrap_or_else(PoisonError::into_inner);
        }
        false
    }

    /// Lets the guest run.
    fn open(&self) {
        lock(&self.life).open = true;
        self.changed.notify_all();
    }

    /// Whether the machine has ended.
    pub fn over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Ends it, for the first reason given.
    pub fn end(&self, end: End) {
        // Held until all are told: who waits for the end lets go of the threads after it.
        let processors = lock(&self.processors);
        lock(&self.life).end.get_or_insert(end);
        // Set before anybody is told: a thread that is not running the guest yet looks here first.
        self.over.store(true, Ordering::Release);
        for thread in processors.iter() {
            // SAFETY: threads in the list are not joined yet, so the name is one's.
            unsafe { libc::pthread_kill(*thread, vcpu::kick_signal()) };
        }
        drop(processors);
        self.changed.notify_all();
    }

    fn wait(&self) -> End {
        let mut life = lock(&self.life);
        loop {
            if let Some(end) = &life.end {
                return end.clone();
            }
            let woken = self.changed.wait(life);
            life = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Monitor {
    /// Makes the machine: after this the guest is in memory, and nothing of it has run.
    ///
    /// # Errors
    /// When KVM refuses something, or the kernel does not fit.
    pub fn new(config: Config) -> Result<Self, Error> {
        let Config {
            kvm,
            cpus,
            kernel,
            initramfs,
            ..
        } = config;
        vcpu::handle_kicks()?;
        let kvm = into_kvm(kvm);
        let vm = kvm.create_vm().map_err(Error::kvm("make a machine"))?;
        if let Some(without) =
            without_counters(vm.check_extension_raw(KVM_CAP_PMU_CAPABILITY.into()))
        {
            // Before there is a processor.
            vm.enable_cap(&without)
                .map_err(Error::kvm("leave out counters of events"))?;
        }
        let memory = Arc::new(memory::make(config.memory_bytes, config.huge_pages)?);
        map(&vm, &memory)?;
        let serial = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)
            .map_err(Error::system("an event descriptor"))?;
        controllers(&vm)?;
        vm.register_irqfd(&serial, SERIAL_INTERRUPT)
            .map_err(Error::kvm("connect the serial line"))?;
        let registers = Pages::new(config.devices.len());
        show(&vm, &memory, &registers)?;
        let (bus, words) = connect(&vm, config.devices, &memory, &registers)?;
        let line = [config.command_line.as_str(), &words].join(" ");
        let entry = boot::load(&memory, &kernel, &initramfs, &line)?;
        mptable::write(&memory, cpus)?;
        let supported = cpuid::supported(&kvm)?;
        let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        let processors = (0..cpus).map(|id| {
            let processor = vm
                .create_vcpu(id.into())
                .map_err(Error::kvm("make a processor"))?;
            let leaves = cpuid::of(&supported, id, cpus, deadline)?;
            vcpu::prepare(&processor, &leaves, (id == 0).then_some(entry))?;
            Ok(processor)
        });
        let made = Made {
            processors: processors.collect::<Result<_, Error>>()?,
            vm,
            memory,
            registers,
            bus: Arc::new(bus),
            ports: Arc::new(Ports::new(serial, config.console)),
        };
        Ok(Self {
            shared: Arc::default(),
            made: Mutex::new(Some(made)),
            threads: Mutex::default(),
        })
    }

    /// Starts the processors' threads, once; a second call does nothing. Each is confined to its work and waits for
    /// [`Monitor::open`].
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(&self) -> Result<(), Error> {
        let Some(made) = lock(&self.made).take() else {
            return Ok(());
        };
        let vm = Arc::new((made.vm, made.memory, made.registers));
        // Held throughout: whoever waits for the end waits for all of them.
        let mut threads = lock(&self.threads);
        for (id, processor) in made.processors.into_iter().enumerate() {
            let (bus, ports) = (Arc::clone(&made.bus), Arc::clone(&made.ports));
            let (shared, vm) = (Arc::clone(&self.shared), Arc::clone(&vm));
            let work = move || {
                if shared.opened() {
                    vcpu::run(processor, &bus, &ports, &shared);
                }
                drop(vm);
            };
            let thread = threads::spawn(&format!("vcpu{id}"), roles::PROCESSOR, work)
                .map_err(Error::system("a processor's thread"))
                .inspect_err(|_| self.kill())?;
            lock(&self.shared.processors).push(thread.as_pthread_t());
            threads.push(thread);
        }
        if self.shared.over() {
            // Ended meanwhile: who was not in the list yet is told now.
            self.shared.end(End::Killed);
        }
        Ok(())
    }

    /// Lets the guest run.
    pub fn open(&self) {
        self.shared.open();
    }

    /// Ends it at once.
    pub fn kill(&self) {
        self.shared.end(End::Killed);
    }

    /// Waits until it has ended and nothing of it runs any more.
    pub fn wait(&self) -> End {
        let end = self.shared.wait();
        self.join();
        end
    }

    fn join(&self) {
        let mut threads = lock(&self.threads);
        lock(&self.shared.processors).clear();
        for thread in threads.drain(..) {
            // A panic there has been printed; there is nothing to add to it.
            drop(thread.join());
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.kill();
        self.join();
    }
}

fn into_kvm(file: File) -> Kvm {
    use std::os::fd::{FromRawFd as _, IntoRawFd as _};
    // SAFETY: the descriptor was just taken out of its owner, which closes it no more.
    unsafe { Kvm::from_raw_fd(file.into_raw_fd()) }
}

fn map(vm: &VmFd, memory: &Memory) -> Result<(), Error> {
    for (slot, region) in memory.iter().enumerate() {
        let piece = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the piece is mapped, and stays so while the machine has the memory; the guest may write all of it.
        unsafe { vm.set_user_memory_region(piece) }.map_err(Error::kvm("give it memory"))?;
    }
    Ok(())
}

/// Gives the guest the registers of its devices to read.
fn show(vm: &VmFd, memory: &Memory, registers: &Pages) -> Result<(), Error> {
    let (start, length) = registers.place();
    if length == 0 {
        return Ok(());
    }
    let piece = kvm_userspace_memory_region {
        slot: memory.num_regions() as u32,
        flags: KVM_MEM_READONLY,
        guest_phys_addr: DEVICES,
        memory_size: length,
        userspace_addr: start as u64,
    };
    // SAFETY: the pages stay while a processor may run, and the guest cannot write them.
    unsafe { vm.set_user_memory_region(piece) }.map_err(Error::kvm("show it the devices"))
}

/// What takes a machine's counters of events away, where KVM can (these abilities of it): what is left out of the leaves
/// of its processors is not enough, as AMD's oldest counters have none.
fn without_counters(abilities: i32) -> Option<kvm_enable_cap> {
    let disable = KVM_PMU_CAP_DISABLE;
    (abilities.cast_unsigned() & disable != 0).then(|| kvm_enable_cap {
        cap: KVM_CAP_PMU_CAPABILITY,
        args: [disable.into(), 0, 0, 0],
        ..kvm_enable_cap::default()
    })
}

/// The interrupt controllers and the timer, which are the kernel's.
fn controllers(vm: &VmFd) -> Result<(), Error> {
    vm.set_tss_address(TSS)
        .map_err(Error::kvm("set its own pages"))?;
    vm.set_identity_map_address(IDENTITY_MAP)
        .map_err(Error::kvm("set its own pages"))?;
    vm.create_irq_chip()
        .map_err(Error::kvm("make interrupt controllers"))?;
    let timer = kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..kvm_pit_config::default()
    };
    vm.create_pit2(timer).map_err(Error::kvm("make a timer"))
}

/// Gives each device its page, its interrupt and its doorbells, and says so in words for the kernel.
fn connect(
    vm: &VmFd,
    devices: Vec<Box<dyn Device>>,
    memory: &Arc<Memory>,
    registers: &Pages,
) -> Result<(Bus, String), Error> {
    if devices.len() > DEVICE_INTERRUPTS.len() {
        return Err(Error::TooManyDevices);
    }
    // Nobody waits for it: it is where an acknowledgement ends without leaving KVM.
    let seen =
        EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(Error::system("an event descriptor"))?;
    let (mut transports, mut words) = (Vec::new(), Vec::new());
    for ((device, interrupt), page) in devices
        .into_iter()
        .zip(DEVICE_INTERRUPTS)
        .zip(registers.each())
    {
        let address = DEVICES + PAGE * transports.len() as u64;
        let transport = Transport::new(device, Arc::clone(memory), page)?;
        let place = IoEventAddress::Mmio(address + ACKNOWLEDGE);
        vm.register_ioevent(&seen, &place, USED_RING)
            .map_err(Error::kvm("connect a device's acknowledgement"))?;
        vm.register_irqfd(transport.interrupt(), interrupt)
            .map_err(Error::kvm("connect a device's interrupt"))?;
        let place = IoEventAddress::Mmio(address + NOTIFY);
        for (ring, doorbell) in transport.doorbells().iter().enumerate() {
            vm.register_ioevent(doorbell, &place, ring as u32)
                .map_err(Error::kvm("connect a device's doorbell"))?;
        }
        words.push(format!("virtio_mmio.device=4K@{address:#x}:{interrupt}"));
        transports.push(transport);
    }
    Ok((Bus::new(DEVICES, transports), words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_events_are_left_out_where_kvm_can() {
        assert!(without_counters(0).is_none());
        let asked = without_counters(1).unwrap();
        assert_eq!((asked.cap, asked.flags, asked.args), (212, 0, [1, 0, 0, 0]));
    }

    /// A processor passes with the opening and not before, and never once the machine has ended.
    #[test]
    fn nothing_runs_before_it_is_opened() {
        let waiting = |shared: &Arc<Shared>| {
            let shared = Arc::clone(shared);
            std::thread::spawn(move || (shared.opened(), lock(&shared.life).open))
        };
        let shared = Arc::new(Shared::default());
        let processor = waiting(&shared);
        for _ in 0..10_000 {
            std::thread::yield_now();
            assert!(!processor.is_finished());
        }
        shared.open();
        assert_eq!(processor.join().unwrap(), (true, true));
        let shared = Arc::new(Shared::default());
        let processor = waiting(&shared);
        shared.end(End::Killed);
        assert_eq!(processor.join().unwrap(), (false, false));
        shared.open();
        assert!(!shared.opened());
    }
}
