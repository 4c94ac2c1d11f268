//! Rings of the small devices: random numbers, pages given back, and what a monitor hands to vhost-user.

use std::cell::RefCell;

use super::Program;
use super::rings::{OPCODES, Played};
use crate::played::{DATA, writes};
use crate::service::in_place::InPlace;
use crate::service::{Handler, Waker};
use crate::{balloon, rng};

/// More steps add nothing but time.
const STEPS: usize = 48;
/// A page of the memory that has data.
const PAGE: u64 = DATA + 0x2000;

thread_local! {
    static RNG: RefCell<Option<Played<rng::Source>>> = RefCell::new(
        Waker::new().ok().and_then(|waker| {
            Played::new(InPlace::new(rng::identity(), waker, rng::Source))
        })
    );
    static BALLOON: RefCell<Option<Played<balloon::Taker>>> = RefCell::new(
        Waker::new().ok().and_then(|waker| {
            Played::new(InPlace::new(balloon::identity(), waker, balloon::Taker))
        })
    );
}

/// Runs one program; its first byte says for which device.
///
/// # Panics
/// When the device does not serve an honest driver any more.
pub fn run(bytes: &[u8]) {
    let mut program = Program::new(bytes);
    match program.u8() % 3 {
        0 => RNG.with_borrow_mut(|played| {
            let Some(played) = played else { return };
            play(played, &mut program);
            let written = played.honest(0, &[writes(DATA, 32)]);
            assert_eq!(written, 32, "no random numbers");
        }),
        1 => BALLOON.with_borrow_mut(|played| {
            let Some(played) = played else { return };
            play(played, &mut program);
            played.guest.put(PAGE, &[7; 8]);
            played.guest.put(PAGE + 4096, &[7; 8]);
            played.honest(balloon::REPORTS as u32, &[writes(PAGE, 4096)]);
            let left = [PAGE, PAGE + 4096].map(|at| played.guest.get(at, 8));
            assert_eq!(left, [[0; 8], [7; 8]], "other pages were given back");
        }),
        _ => crate::vhost_user::fuzz::run(&mut program),
    }
}

/// Leaves the device with an honest driver that has just come up.
fn play(played: &mut Played<impl Handler>, program: &mut Program<'_>) {
    played.clean();
    played.guest.come_up();
    for _ in 0..STEPS {
        if program.is_over() {
            break;
        }
        let opcode = program.u8() % OPCODES;
        played.step(opcode, program);
    }
    played.guest.reset();
    played.guest.come_up();
}
