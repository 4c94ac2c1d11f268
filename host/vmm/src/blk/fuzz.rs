//! A door for `tests/fuzz`: requests of a hostile driver to a disk over a real file.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::file::Disk;
use super::pool::Pool;
use super::request::SECTOR;
use super::{Full, Requests, identity};
use crate::fuzz::Program;
use crate::fuzz::rings::{OPCODES, Played, place};
use crate::played::{DATA, Part, TABLE, WRITABLE, reads, writes};
use crate::ring::{BadRing, Memory, Ring};
use crate::service::in_place::InPlace;
use crate::service::{Handler, Waker};

/// More steps add nothing but time.
const STEPS: usize = 48;
const SECTORS: u64 = 32;
/// Bytes behind the last whole sector of the file, which are not the disk's.
const BEYOND: usize = 100;
const LENGTH: usize = (SECTORS * SECTOR) as usize + BEYOND;
/// What the file is full of.
static FILLED: [u8; LENGTH] = [0x5a; LENGTH];

const HEADER: u64 = DATA;
const STATUS: u64 = DATA + 0x20;
const BUFFER: u64 = DATA + 0x1000;
const FLUSH: u32 = 4;
const NAME: u32 = 8;

/// The disk, whose pool works on the same thread while it is not told to be busy.
struct Here {
    requests: Requests,
    busy: Arc<AtomicBool>,
}

impl Here {
    fn work(&self) {
        if !self.busy.load(Ordering::Relaxed) {
            self.requests.pool.work_here();
        }
    }
}

impl Handler for Here {
    const ROLE: lighter_platform::sys::threads::Role = crate::roles::DISK;

    fn serve(
        &mut self,
        index: usize,
        ring: &mut Ring,
        memory: &Arc<Memory>,
    ) -> Result<(), BadRing> {
        self.requests.serve(index, ring, memory)?;
        self.work();
        Ok(())
    }

    fn woken(&mut self, rings: &mut [Option<Ring>], memory: &Memory) -> Result<(), BadRing> {
        self.work();
        self.requests.woken(rings, memory)
    }

    fn stop(&mut self) {
        self.requests.stop();
    }
}

struct Door {
    played: Played<Here>,
    file: File,
    busy: Arc<AtomicBool>,
}

impl Door {
    /// Nothing when the system gives no file.
    fn new(read_only: bool) -> Option<Self> {
        // In memory where there is such a folder: a flush is not to wait for the host's disk.
        let file = tempfile_in("/dev/shm").or_else(|| tempfile_in("/tmp"))?;
        let copy = file.try_clone().ok()?;
        let (waker, busy) = (Waker::new().ok()?, Arc::default());
        let disk = Arc::new(Disk::new(copy, SECTORS * SECTOR, read_only));
        let requests = Requests {
            pool: Pool::idle(Arc::clone(&disk), waker.clone(), Full::default()),
            disk,
            given: 0,
        };
        let handler = Here {
            requests,
            busy: Arc::clone(&busy),
        };
        Some(Self {
            played: Played::new(InPlace::new(identity(SECTORS, read_only), waker, handler))?,
            file,
            busy,
        })
    }
}

/// A file without a name.
fn tempfile_in(folder: &str) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR);
    file.ok().map(File::from)
}

thread_local! {
    static DISKS: RefCell<[Option<Door>; 2]> =
        RefCell::new([Door::new(false), Door::new(true)]);
}

/// Runs one program; its first byte says whether the disk is read-only.
///
/// # Panics
/// When the file is changed where it must not be, or the device does not serve an honest driver any more.
pub fn run(bytes: &[u8]) {
    let mut program = Program::new(bytes);
    let read_only = usize::from(program.u8() & 1);
    DISKS.with_borrow_mut(|disks| {
        if let Some(door) = &mut disks[read_only] {
            play(door, &mut program);
            check(&door.file, read_only == 1);
        }
    });
}

fn play(door: &mut Door, program: &mut Program<'_>) {
    let Door { played, file, busy } = door;
    // A file that cannot be written is found out by the check behind.
    _ = file.write_all_at(&FILLED, 0);
    played.clean();
    played.guest.come_up();
    for _ in 0..STEPS {
        if program.is_over() {
            break;
        }
        step(played, busy, program);
    }
    busy.store(false, Ordering::Relaxed);
    played.guest.reset();
    played.guest.come_up();
    for (kind, data, written) in [(FLUSH, None, 1), (NAME, Some(writes(BUFFER, 20)), 21)] {
        header(played, kind, 0);
        let parts = [Some(reads(HEADER, 16)), data, Some(writes(STATUS, 1))];
        let parts: Vec<Part> = parts.into_iter().flatten().collect();
        assert_eq!(played.honest(0, &parts), written, "request {kind}");
        assert_eq!(played.guest.get(STATUS, 1), [0], "request {kind}");
    }
}

fn header(played: &Played<Here>, kind: u32, sector: u64) {
    played.guest.put(HEADER, &kind.to_le_bytes());
    played.guest.put(HEADER + 8, &sector.to_le_bytes());
}

fn step(played: &mut Played<Here>, busy: &AtomicBool, program: &mut Program<'_>) {
    let opcode = program.u8() % (OPCODES + 4);
    match opcode.checked_sub(OPCODES) {
        None => played.step(opcode, program),
        // A whole request, with data of any kind.
        Some(0) => {
            let (kind, sector) = (program.u8(), program.u16());
            header(played, kind.into(), sector.into());
            request(played, program);
        }
        Some(1) => {
            let (kind, sector) = (program.u32(), program.u64());
            header(played, kind, sector);
            request(played, program);
        }
        // Ranges to be emptied.
        Some(2) => {
            let count = program.u8() % 20;
            for at in 0..u64::from(count) {
                let sector = match program.u8() {
                    0xff => program.u64(),
                    small => small.into(),
                };
                let (sectors, flags) = (program.u16(), program.u8());
                let place = BUFFER + at * 16;
                played.guest.put(place, &sector.to_le_bytes());
                let rest = [u32::from(sectors), u32::from(flags)];
                played.guest.put(place + 8, &rest[0].to_le_bytes());
                played.guest.put(place + 12, &rest[1].to_le_bytes());
            }
        }
        Some(_) => busy.store(program.u8() & 1 != 0, Ordering::Relaxed),
    }
}

/// Header, data in up to seven parts, status; and rings.
fn request(played: &mut Played<Here>, program: &mut Program<'_>) {
    let shape = program.u8();
    let mut parts = vec![reads(HEADER, 16)];
    for _ in 0..shape & 7 {
        let (kind, length) = (program.u8(), program.u16());
        let address = match kind & 2 {
            0 => BUFFER,
            _ => place(program),
        };
        parts.push(Part {
            address,
            // Mostly whole sectors.
            length: match kind & 4 {
                0 => u32::from(length) % 64 * SECTOR as u32,
                _ => length.into(),
            },
            flags: if kind & 1 == 0 { 0 } else { WRITABLE },
        });
    }
    if shape & 8 == 0 {
        parts.push(writes(STATUS, 1));
    }
    played.guest.chain(TABLE, &parts);
    played.guest.offer(0, 0);
    played.rest();
}

/// What must not change has not.
fn check(file: &File, read_only: bool) {
    let mut there = [0; LENGTH];
    let whole = file.read_exact_at(&mut there, 0);
    assert!(whole.is_ok(), "the file is shorter");
    let mut beyond = [0; 1];
    let more = file.read_at(&mut beyond, LENGTH as u64);
    assert!(matches!(more, Ok(0)), "the file is longer");
    let kept = if read_only { 0 } else { LENGTH - BEYOND };
    assert_eq!(there[kept..], FILLED[kept..], "the file is changed");
}
