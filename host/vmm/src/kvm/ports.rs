//! The few ports of a PC that the guest finds: a serial line for its console, and a way to restart.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

const SERIAL: u16 = 0x3f8;
const SERIAL_END: u16 = SERIAL + 7;
/// The keyboard controller's command port, and its command that restarts the machine.
const CONTROLLER: u16 = 0x64;
const RESTART: u8 = 0xfe;

/// The serial line's interrupt.
pub struct Line(pub EventFd);

impl Trigger for Line {
    type E = std::io::Error;

    fn trigger(&self) -> std::io::Result<()> {
        self.0.write(1)
    }
}

/// Where the guest's console goes.
pub type Console = Box<dyn Write + Send>;

/// The ports.
pub struct Ports(Mutex<Serial<Line, NoEvents, Console>>);

impl Ports {
    /// A serial line to this console.
    pub fn new(interrupt: EventFd, console: Console) -> Self {
        Self(Mutex::new(Serial::new(Line(interrupt), console)))
    }

    /// The guest reads; where nothing is, it reads ones.
    pub fn read(&self, port: u16, into: &mut [u8]) {
        into.fill(0xff);
        if let (SERIAL..=SERIAL_END, [byte]) = (port, &mut *into) {
            let mut serial = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *byte = serial.read((port - SERIAL) as u8);
        } else if port == CONTROLLER {
            // Nothing waits in the controller.
            into.fill(0);
        }
    }

    /// The guest writes; `true` when it asks for a restart.
    pub fn write(&self, port: u16, bytes: &[u8]) -> bool {
        match (port, bytes) {
            (SERIAL..=SERIAL_END, [byte]) => {
                let mut serial = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                // A console that takes no more loses a line of a log.
                _ = serial.write((port - SERIAL) as u8, *byte);
                false
            }
            (CONTROLLER, [RESTART]) => true,
            _ => false,
        }
    }
}
