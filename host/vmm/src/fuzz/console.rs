//! Rings of the console: what a hostile guest prints, to a reader that may have no room for it.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Program;
use super::rings::{OPCODES, Played};
use crate::console::{self, OUTPUT, Printer};
use crate::played::{DATA, reads};
use crate::service::Waker;
use crate::service::in_place::InPlace;

/// More steps add nothing but time.
const STEPS: usize = 48;
/// What an honest driver prints in the end, in two parts.
const WORDS: &[u8] = b"the last words of an honest guest";
const FIRST: u32 = 9;

/// Who reads the console.
#[derive(Clone, Default)]
struct Reader(Arc<Mutex<Read>>);

#[derive(Default)]
struct Read {
    /// The last bytes, as many as are looked at.
    last: Vec<u8>,
    /// There is no room for more.
    full: bool,
}

impl Reader {
    fn lock(&self) -> MutexGuard<'_, Read> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut read = self.lock();
        if read.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if read.last.len() > WORDS.len() {
            read.last.clear();
        }
        read.last.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Door {
    played: Played<Printer>,
    reader: Reader,
}

impl Door {
    /// Nothing when the system gives no memory.
    fn new() -> Option<Self> {
        let (waker, reader) = (Waker::new().ok()?, Reader::default());
        let printer = Printer(Box::new(reader.clone()));
        let played = Played::new(InPlace::new(console::identity(), waker, printer))?;
        Some(Self { played, reader })
    }
}

thread_local! {
    static DOOR: RefCell<Option<Door>> = RefCell::new(Door::new());
}

/// Runs one program.
///
/// # Panics
/// When the device does not print what an honest driver says any more.
pub fn run(bytes: &[u8]) {
    DOOR.with_borrow_mut(|door| {
        if let Some(door) = door {
            play(door, &mut Program::new(bytes));
        }
    });
}

fn play(door: &mut Door, program: &mut Program<'_>) {
    let Door { played, reader } = door;
    played.clean();
    played.guest.come_up();
    for _ in 0..STEPS {
        if program.is_over() {
            break;
        }
        match program.u8() % (OPCODES + 1) {
            OPCODES => reader.lock().full = program.u8() & 1 != 0,
            opcode => played.step(opcode, program),
        }
    }
    played.guest.reset();
    *reader.lock() = Read::default();
    played.guest.come_up();
    played.guest.put(DATA, WORDS);
    let rest = reads(DATA + u64::from(FIRST), WORDS.len() as u32 - FIRST);
    let written = played.honest(OUTPUT as u32, &[reads(DATA, FIRST), rest]);
    assert_eq!(written, 0, "a console that writes");
    assert_eq!(reader.lock().last, WORDS, "other words");
}
