//! A guest's driver in a few lines: two rings of 16 in 1 MiB of memory, no thread.

use crate::ring::Ring;
use std::{
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, mpsc},
    time::Duration,
};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::super::{
    ConnectError, GUEST_CID, RING_RX, RING_TX,
    device::Device,
    guest::Memory,
    packet::{HEADER_LEN, HOST_CID, Header, TYPE_STREAM, op},
    table::Id,
};

pub const SIZE: u16 = 16;
pub const MEMORY: usize = 1 << 20;
const READABLE: u16 = 0;
pub const NEXT: u16 = 1;
pub const WRITABLE: u16 = 2;
pub const INDIRECT: u16 = 4;
/// Bytes of payload in each of the driver's receive buffers.
pub const ROOM: usize = 100;

/// Where a ring's three parts and its buffers lie.
#[derive(Clone, Copy)]
pub struct Layout {
    pub table: u64,
    pub available: u64,
    pub used: u64,
    pub buffers: u64,
}

pub const RX: Layout = Layout {
    table: 0x1000,
    available: 0x2000,
    used: 0x3000,
    buffers: 0x1_0000,
};
pub const TX: Layout = Layout {
    table: 0x4000,
    available: 0x5000,
    used: 0x6000,
    buffers: 0x4_0000,
};

pub type Outcome = mpsc::Receiver<Result<(), (ConnectError, OwnedFd)>>;

pub struct Driver {
    pub memory: Arc<Memory>,
    pub device: Device,
    available: [u16; 2],
    seen: u16,
}

pub fn queue(layout: Layout, size: u16) -> Queue {
    let mut queue = Queue::new(1024).unwrap();
    queue.set_size(size);
    let halves = |address: u64| (Some(address as u32), Some((address >> 32) as u32));
    let (low, high) = halves(layout.table);
    queue.set_desc_table_address(low, high);
    let (low, high) = halves(layout.available);
    queue.set_avail_ring_address(low, high);
    let (low, high) = halves(layout.used);
    queue.set_used_ring_address(low, high);
    queue.set_event_idx(true);
    queue.set_ready(true);
    queue
}

pub fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap()
}

/// A packet of the guest.
pub fn packet(op: u16, host: u32, guest: u32) -> Header {
    Header {
        src_cid: GUEST_CID,
        dst_cid: HOST_CID,
        src_port: guest,
        dst_port: host,
        kind: TYPE_STREAM,
        op,
        buf_alloc: 4096,
        ..Header::default()
    }
}

impl Driver {
    pub fn new() -> Self {
        let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        Self::with(Arc::new(memory), epoll, event)
    }

    /// The same over what is there already: a memory of zeros, an epoll set, and events.
    pub fn with(memory: Arc<Memory>, epoll: OwnedFd, event: impl Fn() -> OwnedFd) -> Self {
        let mut device = Device::new(GUEST_CID, epoll);
        device.memory = Some(Arc::clone(&memory));
        let ring =
            |layout| Ring::new(&memory, queue(layout, SIZE), event(), Some(event())).unwrap();
        device.rings[RING_RX] = Some(ring(RX));
        device.rings[RING_TX] = Some(ring(TX));
        Self {
            memory,
            device,
            available: [0; 2],
            seen: 0,
        }
    }

    pub fn descriptor(
        &self,
        layout: Layout,
        at: u16,
        address: u64,
        len: u32,
        flags: u16,
        next: u16,
    ) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&next.to_le_bytes());
        self.memory
            .write_slice(&bytes, GuestAddress(layout.table + u64::from(at) * 16))
            .unwrap();
    }

    /// Makes a chain available and rings the bell.
    pub fn offer(&mut self, ring: usize, head: u16) {
        let layout = [RX, TX][ring];
        let at = u64::from(self.available[ring] % SIZE);
        self.memory
            .write_obj(head.to_le(), GuestAddress(layout.available + 4 + at * 2))
            .unwrap();
        self.available[ring] = self.available[ring].wrapping_add(1);
        self.set_available(ring, self.available[ring]);
    }

    pub fn set_available(&mut self, ring: usize, index: u16) {
        self.available[ring] = index;
        self.memory
            .write_obj(index.to_le(), GuestAddress([RX, TX][ring].available + 2))
            .unwrap();
    }

    fn used(&self, ring: usize) -> u16 {
        u16::from_le(
            self.memory
                .read_obj(GuestAddress([RX, TX][ring].used + 2))
                .unwrap(),
        )
    }

    /// Offers `n` receive buffers, as many as are free.
    pub fn offer_buffers(&mut self, n: u16) {
        for _ in 0..n {
            let at = self.available[RING_RX] % SIZE;
            let address = RX.buffers + u64::from(at) * 0x400;
            self.descriptor(RX, at, address, (HEADER_LEN + ROOM) as u32, WRITABLE, 0);
            self.offer(RING_RX, at);
        }
    }

    /// Sends a packet in two descriptors, as Linux does.
    pub fn send(&mut self, header: Header, payload: &[u8]) {
        let header = Header {
            len: payload.len() as u32,
            ..header
        };
        self.send_raw(&header.encode(), payload);
    }

    pub fn send_raw(&mut self, header: &[u8], payload: &[u8]) {
        let flags = if payload.is_empty() { READABLE } else { NEXT };
        self.memory
            .write_slice(header, GuestAddress(TX.buffers))
            .unwrap();
        self.memory
            .write_slice(payload, GuestAddress(TX.buffers + 0x1000))
            .unwrap();
        self.descriptor(TX, 0, TX.buffers, header.len() as u32, flags, 1);
        self.descriptor(
            TX,
            1,
            TX.buffers + 0x1000,
            payload.len() as u32,
            READABLE,
            0,
        );
        self.offer(RING_TX, 0);
        self.turn();
        assert_eq!(
            self.used(RING_TX),
            self.available[RING_TX],
            "every packet's buffers come back"
        );
    }

    /// Looks at the sockets and the rings until nothing is left to do.
    pub fn turn(&mut self) {
        for _ in 0..100_000 {
            let mut events = Vec::with_capacity(64);
            let spare = rustix::buffer::spare_capacity(&mut events);
            let zero = Timespec::try_from(Duration::ZERO).unwrap();
            epoll::wait(self.device.epoll(), spare, Some(&zero)).unwrap();
            let idle = events.is_empty();
            for event in events {
                self.device
                    .socket_event(Id::from_token(event.data.u64()), event.flags);
            }
            if !self.device.pump() && idle {
                return;
            }
        }
        panic!("the device never comes to rest");
    }

    /// How many chains were made available.
    pub fn offered(&self, ring: usize) -> u16 {
        self.available[ring]
    }

    /// The chains that came back since [`Driver::received`] was called last.
    pub fn heads(&self, ring: usize) -> Vec<u16> {
        let count = self.used(ring).wrapping_sub(self.seen);
        let places = (0..count).map(|n| self.seen.wrapping_add(n) % SIZE);
        let head = |place: u16| {
            let at = [RX, TX][ring].used + 4 + u64::from(place) * 8;
            let head: u32 = self.memory.read_obj(GuestAddress(at)).unwrap();
            u32::from_le(head) as u16
        };
        places.map(head).collect()
    }

    /// What the device sent since the last call.
    pub fn received(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut packets = Vec::new();
        while self.seen != self.used(RING_RX) {
            let at = RX.used + 4 + u64::from(self.seen % SIZE) * 8;
            let head = u32::from_le(self.memory.read_obj(GuestAddress(at)).unwrap());
            let len = u32::from_le(self.memory.read_obj(GuestAddress(at + 4)).unwrap()) as usize;
            self.seen = self.seen.wrapping_add(1);
            if len == 0 {
                continue;
            }
            let mut bytes = vec![0; len];
            let address = RX.buffers + u64::from(head) * 0x400;
            self.memory
                .read_slice(&mut bytes, GuestAddress(address))
                .unwrap();
            let header = Header::decode(bytes[..HEADER_LEN].try_into().unwrap());
            assert_eq!(header.len as usize, len - HEADER_LEN);
            packets.push((header, bytes[HEADER_LEN..].to_vec()));
        }
        packets
    }

    /// One turn with enough buffers, and what came.
    pub fn exchange(&mut self) -> Vec<(Header, Vec<u8>)> {
        let free = SIZE - self.available[RING_RX].wrapping_sub(self.seen);
        self.offer_buffers(free);
        self.turn();
        self.received()
    }

    /// Asks for a stream to a port of the guest.
    pub fn connect(&mut self, port: u32) -> (UnixStream, Outcome) {
        self.connect_with(port, b"")
    }

    /// Asks for a stream on which the guest is to read these bytes first.
    pub fn connect_with(&mut self, port: u32, first: &[u8]) -> (UnixStream, Outcome) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let outcome = self.join(port, first, theirs.into());
        (ours, outcome)
    }

    /// Asks for a stream for a socket.
    fn join(&mut self, port: u32, first: &[u8], socket: OwnedFd) -> Outcome {
        let (sender, outcome) = mpsc::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        self.device.connect(port, first.to_vec(), socket, done);
        outcome
    }

    /// As [`Driver::open`], of TCP.
    pub fn open_tcp(&mut self, port: u32) -> (TcpStream, u32) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let (theirs, _) = server.accept().unwrap();
        let outcome = self.join(port, b"", theirs.into());
        let host = self.answer(port, &outcome);
        (ours, host)
    }

    /// An open stream to a port of the guest: the host's end and the host's port.
    pub fn open(&mut self, port: u32) -> (UnixStream, u32) {
        let (stream, outcome) = self.connect(port);
        let host = self.answer(port, &outcome);
        (stream, host)
    }

    /// Lets one in; the host's port.
    fn answer(&mut self, port: u32, outcome: &Outcome) -> u32 {
        let request = self.exchange();
        assert_eq!((request.len(), request[0].0.op), (1, op::REQUEST));
        let host = request[0].0.src_port;
        self.send(packet(op::RESPONSE, host, port), &[]);
        outcome.try_recv().unwrap().unwrap();
        host
    }
}
