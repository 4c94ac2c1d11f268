//! The registers of a device: reads and writes of any width anywhere in its page, in any order.

use std::cell::RefCell;

use super::Program;
use super::rings::{OPCODES, Played, place};
use crate::played::{
    AVAILABLE, DATA, DRIVER_OK, FEATURES_OK, NEEDS_RESET, TABLE, USED, register, writes,
};
use crate::rng;
use crate::service::Waker;
use crate::service::in_place::InPlace;

/// More steps add nothing but time.
const STEPS: usize = 48;
/// The page's end; accesses are within it, as the bus gives them.
const END: u16 = 0x1000;
/// The widest access of a processor, in bytes.
const WIDEST: usize = 16;
/// Registers that do something.
const REGISTERS: [u64; 14] = [
    register::DEVICE_FEATURES_SEL,
    register::DRIVER_FEATURES,
    register::DRIVER_FEATURES_SEL,
    register::QUEUE_SEL,
    register::QUEUE_NUM,
    register::QUEUE_READY,
    register::NOTIFY,
    register::STATUS,
    register::DESCRIPTORS,
    register::DESCRIPTORS + 4,
    register::AVAILABLE,
    register::AVAILABLE + 4,
    register::USED,
    register::USED + 4,
];

thread_local! {
    static PLAYED: RefCell<Option<Played<rng::Source>>> = RefCell::new(
        Waker::new().ok().and_then(|waker| {
            // With a configuration to read, and several rings to choose from.
            let identity = crate::device::Identity {
                rings: vec![64, 16, 16],
                config: (0..60).collect(),
                ..rng::identity()
            };
            Played::new(InPlace::new(identity, waker, rng::Source))
        })
    );
}

/// Runs one program.
///
/// # Panics
/// When a register reads as it must not, or the device does not serve an honest driver any more.
pub fn run(bytes: &[u8]) {
    PLAYED.with_borrow_mut(|played| {
        if let Some(played) = played {
            play(played, &mut Program::new(bytes));
        }
    });
}

fn play(played: &mut Played<rng::Source>, program: &mut Program<'_>) {
    played.clean();
    for _ in 0..STEPS {
        if program.is_over() {
            break;
        }
        step(played, program);
        let status = played.guest.status();
        let known = 0xf | 0x80 | NEEDS_RESET;
        assert_eq!(status & !known, 0, "a status that nobody knows");
    }
    played.guest.reset();
    assert_eq!(played.guest.status(), 0, "a reset leaves something");
    played.guest.come_up();
    let written = played.honest(0, &[writes(DATA, 32)]);
    assert_eq!(written, 32, "an honest driver gets nothing");
}

fn step(played: &mut Played<rng::Source>, program: &mut Program<'_>) {
    let opcode = program.u8() % (OPCODES + 6);
    let guest = &mut played.guest;
    match opcode.checked_sub(OPCODES) {
        None => played.step(opcode, program),
        Some(0) => {
            let at = usize::from(program.u8()) % REGISTERS.len();
            guest.write(REGISTERS[at], program.u32());
            played.rest();
        }
        Some(1) => {
            let (offset, width) = access(program);
            let bytes = program.bytes::<WIDEST>();
            guest.transport.write(offset, &bytes[..width]);
            played.rest();
        }
        Some(2) => {
            let (offset, width) = access(program);
            let mut bytes = [0xee; WIDEST];
            guest.transport.read(offset, &mut bytes[..width]);
            let beyond = bytes[width..].iter().all(|byte| *byte == 0xee);
            assert!(beyond, "a read gives more than was asked for");
        }
        // A ring, at the usual place or any other, and a step up.
        Some(3) => {
            guest.write(register::QUEUE_SEL, program.u8().into());
            guest.write(register::QUEUE_NUM, program.u16().into());
            let wild = program.u8();
            let places = [
                (register::DESCRIPTORS, TABLE),
                (register::AVAILABLE, AVAILABLE),
                (register::USED, USED),
            ];
            for (bit, (at, usual)) in places.into_iter().enumerate() {
                let address = match wild >> bit & 1 {
                    0 => usual,
                    _ => place(program),
                };
                guest.write(at, address as u32);
                guest.write(at + 4, (address >> 32) as u32);
            }
            guest.write(register::QUEUE_READY, 1);
        }
        Some(4) => guest.write(register::STATUS, program.u8().into()),
        Some(_) => {
            guest.write(register::STATUS, 0);
            guest.accept(program.u64());
            guest.write(register::STATUS, FEATURES_OK | 3);
            if program.u8() & 1 != 0 {
                guest.write(register::STATUS, FEATURES_OK | DRIVER_OK | 3);
            }
        }
    }
}

/// Somewhere in the page, and a width.
fn access(program: &mut Program<'_>) -> (u64, usize) {
    let (offset, width) = (program.u16() % END, program.u8());
    (offset.into(), usize::from(width) % (WIDEST + 1))
}
