//! A guest's driver for the tests and for `tests/fuzz`: registers of one device, one chain at a time, in a memory that
//! it makes itself or is given.

#![cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the fuzz targets use a part of what the unit tests do"
    )
)]
#![expect(clippy::unwrap_used, reason = "what fails here is a test that fails")]

use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes as _, FileOffset, GuestAddress};

use crate::device::Device;
use crate::mmio::{Pages, Transport};
use crate::ring::{Memory, Ring};

pub const MEMORY: usize = 1 << 20;
pub const SIZE: u16 = 16;
pub const TABLE: u64 = 0x1000;
pub const AVAILABLE: u64 = 0x2000;
pub const USED: u64 = 0x3000;
/// Where an indirect table may be.
pub const INDIRECT: u64 = 0x4000;
/// From here on data.
pub const DATA: u64 = 0x1_0000;

pub const NEXT: u16 = 1;
pub const WRITABLE: u16 = 2;
pub const ELSEWHERE: u16 = 4;

/// Registers by virtio 1.2, 4.2.2.
pub mod register {
    pub const DEVICE_FEATURES: u64 = 0x10;
    pub const DEVICE_FEATURES_SEL: u64 = 0x14;
    pub const DRIVER_FEATURES: u64 = 0x20;
    pub const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub const QUEUE_SEL: u64 = 0x30;
    pub const QUEUE_NUM: u64 = 0x38;
    pub const QUEUE_READY: u64 = 0x44;
    pub const NOTIFY: u64 = 0x50;
    pub const INTERRUPT_STATUS: u64 = 0x60;
    pub const INTERRUPT_ACK: u64 = 0x64;
    pub const STATUS: u64 = 0x70;
    pub const DESCRIPTORS: u64 = 0x80;
    pub const AVAILABLE: u64 = 0x90;
    pub const USED: u64 = 0xa0;
}

/// A step on the driver's way up, and what a device says that gave up.
pub const ACKNOWLEDGE: u32 = 1;
pub const DRIVER: u32 = 2;
pub const DRIVER_OK: u32 = 4;
pub const FEATURES_OK: u32 = 8;
pub const NEEDS_RESET: u32 = 0x40;
pub const VERSION_1: u64 = 1 << 32;

/// A descriptor of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub address: u64,
    pub length: u32,
    pub flags: u16,
}

impl Part {
    /// As a descriptor (virtio 1.2, 2.7.5).
    fn bytes(self, next: u16) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        bytes
    }
}

pub fn reads(address: u64, length: u32) -> Part {
    Part {
        address,
        length,
        flags: 0,
    }
}

pub fn writes(address: u64, length: u32) -> Part {
    Part {
        address,
        length,
        flags: WRITABLE,
    }
}

pub struct Guest {
    pub transport: Transport,
    pub memory: Arc<Memory>,
    available: u16,
}

impl Guest {
    /// A device after a reset.
    pub fn new(device: impl Device + 'static) -> Self {
        // A file, as every guest's is.
        let file = rustix::fs::memfd_create("played", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, MEMORY as u64).unwrap();
        let file = Some(FileOffset::new(file.into(), 0));
        let memory = Memory::from_ranges_with_files([(GuestAddress(0), MEMORY, file)]).unwrap();
        Self::with(device, Arc::new(memory))
    }

    /// The same in this memory, which has room for the rings and something behind [`DATA`].
    pub fn with(device: impl Device + 'static, memory: Arc<Memory>) -> Self {
        let page = Pages::new(1).each().next().unwrap();
        let transport = Transport::new(Box::new(device), Arc::clone(&memory), page).unwrap();
        Self {
            transport,
            memory,
            available: 0,
        }
    }

    /// The same with its driver up, which took all features but those of events and the rings' events.
    pub fn up(device: impl Device + 'static) -> Self {
        let mut guest = Self::new(device);
        guest.come_up();
        guest
    }

    /// The driver comes up, after a reset.
    pub fn come_up(&mut self) {
        self.negotiate();
        let rings = self.transport.doorbells().len() as u32;
        for ring in 0..rings {
            // All at the same place: the tests use one at a time.
            self.set_ring(ring, u32::from(SIZE));
        }
        self.write(register::STATUS, self.status() | DRIVER_OK);
    }

    /// The guest resets the device and forgets what was in its rings.
    pub fn reset(&mut self) {
        self.write(register::STATUS, 0);
        self.put(TABLE, &[0; (DATA - TABLE) as usize]);
        self.available = 0;
    }

    pub fn read(&self, register: u64) -> u32 {
        let mut bytes = [0; 4];
        self.transport.read(register, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub fn write(&mut self, register: u64, value: u32) {
        self.transport.write(register, &value.to_le_bytes());
    }

    pub fn status(&self) -> u32 {
        self.read(register::STATUS)
    }

    pub fn offered(&mut self) -> u64 {
        let mut features = 0;
        for half in [1, 0] {
            self.write(register::DEVICE_FEATURES_SEL, half);
            features = features << 32 | u64::from(self.read(register::DEVICE_FEATURES));
        }
        features
    }

    pub fn accept(&mut self, features: u64) {
        for half in [0, 1] {
            self.write(register::DRIVER_FEATURES_SEL, half);
            self.write(register::DRIVER_FEATURES, (features >> (32 * half)) as u32);
        }
    }

    /// As far as the features.
    pub fn negotiate(&mut self) {
        self.write(register::STATUS, ACKNOWLEDGE);
        self.write(register::STATUS, ACKNOWLEDGE | DRIVER);
        // Without the rings' events, doorbell and interrupt come each time.
        let features = self.offered() & !(1 << 29);
        self.accept(features);
        self.write(register::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        assert_eq!(self.status() & FEATURES_OK, FEATURES_OK);
    }

    pub fn set_ring(&mut self, ring: u32, size: u32) {
        self.write(register::QUEUE_SEL, ring);
        self.write(register::QUEUE_NUM, size);
        for (at, address) in [
            (register::DESCRIPTORS, TABLE),
            (register::AVAILABLE, AVAILABLE),
            (register::USED, USED),
        ] {
            self.write(at, address as u32);
            self.write(at + 4, (address >> 32) as u32);
        }
        self.write(register::QUEUE_READY, 1);
    }

    pub fn descriptor(&self, table: u64, at: u16, part: Part, next: u16) {
        self.put(table + u64::from(at) * 16, &part.bytes(next));
    }

    /// Writes a chain from the first descriptor on, links included.
    pub fn chain(&self, table: u64, parts: &[Part]) {
        let mut bytes = Vec::with_capacity(parts.len() * 16);
        for (next, part) in (1..).zip(parts) {
            let last = usize::from(next) == parts.len();
            let flags = part.flags | if last { 0 } else { NEXT };
            bytes.extend_from_slice(&Part { flags, ..*part }.bytes(next));
        }
        self.put(table, &bytes);
    }

    /// Makes a chain available and rings.
    pub fn offer(&mut self, ring: u32, head: u16) {
        let at = AVAILABLE + 4 + u64::from(self.available % SIZE) * 2;
        self.put(at, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        self.set_available(self.available);
        self.write(register::NOTIFY, ring);
    }

    /// Says how many were made available.
    pub fn set_available(&mut self, index: u16) {
        self.available = index;
        self.put(AVAILABLE + 2, &index.to_le_bytes());
    }

    /// Its ring, for who serves it in place of the device.
    pub fn ring(&self) -> Ring {
        let mut queue = Queue::new(SIZE).unwrap();
        let places = [TABLE, AVAILABLE, USED].map(GuestAddress);
        queue.try_set_desc_table_address(places[0]).unwrap();
        queue.try_set_avail_ring_address(places[1]).unwrap();
        queue.try_set_used_ring_address(places[2]).unwrap();
        queue.set_ready(true);
        let event = || rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        Ring::new(&self.memory, queue, event(), None).unwrap()
    }

    pub fn used(&self) -> u16 {
        self.memory.read_obj(GuestAddress(USED + 2)).unwrap()
    }

    /// Bytes that the device says it wrote for the chain given back last.
    pub fn written(&self) -> u32 {
        let at = USED + 4 + u64::from((self.used().wrapping_sub(1)) % SIZE) * 8;
        self.memory.read_obj(GuestAddress(at + 4)).unwrap()
    }

    /// Waits for an interrupt.
    pub fn interrupted(&self) {
        let event = self.transport.interrupt();
        // SAFETY: the descriptor is open as long as the transport is borrowed.
        let event = unsafe { std::os::fd::BorrowedFd::borrow_raw(event.as_raw_fd()) };
        let patience = Timespec::try_from(Duration::from_secs(60)).unwrap();
        let mut fds = [PollFd::from_borrowed_fd(event, PollFlags::IN)];
        let ready = rustix::event::poll(&mut fds, Some(&patience)).unwrap();
        assert_eq!(ready, 1, "no interrupt");
        self.transport.interrupt().read().unwrap();
    }

    /// One request from offer to answer.
    pub fn ask(&mut self, ring: u32, parts: &[Part]) {
        self.chain(TABLE, parts);
        let before = self.used();
        self.offer(ring, 0);
        while self.used() == before && self.status() & NEEDS_RESET == 0 {
            self.interrupted();
        }
    }

    /// Rings for what is there, and waits until the device has given up.
    pub fn is_given_up(&mut self, ring: u32) {
        self.write(register::NOTIFY, ring);
        while self.status() & NEEDS_RESET == 0 {
            self.interrupted();
        }
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    pub fn get(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory
            .read_slice(&mut bytes, GuestAddress(at))
            .unwrap();
        bytes
    }
}
