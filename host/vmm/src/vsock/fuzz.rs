//! A door for `tests/fuzz`: a program of a hostile driver, and of the host beside it, as bytes.
//!
//! Each step is an opcode and its operands; what is missing at the end is zero. The device must
//! come to rest after each, and serve an honest stream when its rings are whole.

use std::cell::RefCell;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::epoll;
use vm_memory::{Bytes, GuestAddress};

#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "the driver of the unit tests, of which a part is used here"
)]
#[path = "tests/driver.rs"]
mod driver;

use super::packet::HEADER_LEN;
use crate::fuzz::Program;
use crate::ring::Memory;
use driver::{Driver, RX, SIZE, TX};

/// More steps add nothing but time.
const STEPS: usize = 256;
/// Host sockets open at a time.
const SOCKETS: usize = 8;
/// Bytes of the guest's memory: up to the end of the buffers for packets to the host.
const MEMORY: usize = 0x5_0000;
static ZEROS: [u8; MEMORY] = [0; MEMORY];

/// What is made once for a thread; of the device itself nothing is left for the next program.
struct Door {
    memory: Arc<Memory>,
    epoll: OwnedFd,
    event: OwnedFd,
}

impl Door {
    fn new() -> io::Result<Self> {
        let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]);
        Ok(Self {
            memory: Arc::new(memory.map_err(io::Error::other)?),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            event: driver::event(),
        })
    }

    /// A device as it is at first, and its driver.
    fn driver(&self) -> io::Result<Driver> {
        let memory = Arc::clone(&self.memory);
        let whole = memory.write_slice(&ZEROS, GuestAddress(0));
        whole.map_err(io::Error::other)?;
        // Sockets of a program leave the set with their last descriptor; nobody looks at the events.
        let event = || self.event.try_clone().unwrap_or_else(|_| driver::event());
        Ok(Driver::with(memory, self.epoll.try_clone()?, event))
    }
}

thread_local! {
    static DOOR: RefCell<Option<Door>> = RefCell::new(Door::new().ok());
}

/// An address: in the buffers, in the rings, or anywhere at all.
fn address(program: &mut Program<'_>) -> u64 {
    match program.u8() % 4 {
        0 => TX.buffers + u64::from(program.u16()),
        1 => RX.buffers + u64::from(program.u16()),
        2 => u64::from(program.u16()),
        _ => program.u64(),
    }
}

/// Runs one program.
pub fn run(bytes: &[u8]) {
    DOOR.with_borrow(|door| {
        let driver = door.as_ref().and_then(|door| door.driver().ok());
        if let Some(driver) = driver {
            play(driver, bytes);
        }
    });
}

fn play(mut driver: Driver, bytes: &[u8]) {
    let mut program = Program::new(bytes);
    driver.device.listen(
        1024,
        Some(Box::new(|_| {
            UnixStream::pair().ok().map(|(one, _)| one.into())
        })),
    );
    let mut sockets: Vec<UnixStream> = Vec::new();
    for _ in 0..STEPS {
        if program.is_over() {
            break;
        }
        step(&mut program, &mut driver, &mut sockets);
        driver.turn();
    }
}

fn step(program: &mut Program<'_>, driver: &mut Driver, sockets: &mut Vec<UnixStream>) {
    let opcode = program.u8();
    let ring = usize::from(opcode >> 7);
    let layout = [RX, TX][ring];
    match opcode & 0x7f {
        0 => {
            let (at, address) = (program.u16() % SIZE, address(program));
            let (len, flags, next) = (program.u32(), program.u16(), program.u16());
            driver.descriptor(layout, at, address, len, flags, next);
        }
        1 => {
            let head = program.u16();
            driver.offer(ring, head);
        }
        2 => {
            let index = program.u16();
            driver.set_available(ring, index);
        }
        3 => packet(program, driver),
        4 => {
            if sockets.len() < SOCKETS {
                let port = program.u8();
                // Some with bytes of their own, more than one of the guest's buffers takes.
                let first = [0x66; 250];
                let first = &first[..usize::from(port & 1) * first.len()];
                sockets.push(driver.connect_with(u32::from(port), first).0);
            }
        }
        5 => {
            let (which, count) = (program.u8(), program.u16());
            if let Some(socket) = pick(sockets, which) {
                // Full is as good as written.
                let _ = socket.write(&vec![0x55; usize::from(count)]);
            }
        }
        6 => driver.offer_buffers(program.u16() % (SIZE + 1)),
        7 => {
            if !sockets.is_empty() {
                let which = usize::from(program.u8()) % sockets.len();
                drop(sockets.swap_remove(which));
            }
        }
        _ => {
            let bytes = program.bytes::<8>();
            let address = address(program) % (MEMORY as u64 - 8);
            // Within the memory, so this cannot fail.
            let _ = driver.memory.write_slice(&bytes, GuestAddress(address));
        }
    }
}

/// A packet with a header of any content, in two descriptors.
fn packet(program: &mut Program<'_>, driver: &mut Driver) {
    let header = program.bytes::<HEADER_LEN>();
    let payload = vec![0xaa; usize::from(program.u16() % 4096)];
    let write = |bytes: &[u8], at: u64| {
        let _ = driver.memory.write_slice(bytes, GuestAddress(at));
    };
    write(&header, TX.buffers);
    write(&payload, TX.buffers + 0x1000);
    let next = u16::from(!payload.is_empty());
    driver.descriptor(TX, 0, TX.buffers, HEADER_LEN as u32, next, 1);
    driver.descriptor(TX, 1, TX.buffers + 0x1000, payload.len() as u32, 0, 0);
    driver.offer(super::RING_TX, 0);
}

fn pick(sockets: &mut [UnixStream], which: u8) -> Option<&mut UnixStream> {
    let count = sockets.len();
    sockets.get_mut(usize::from(which).checked_rem(count)?)
}
