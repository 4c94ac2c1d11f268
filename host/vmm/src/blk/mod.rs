//! The virtio block device (virtio 1.2, 5.2) over a raw file.
//!
//! ```text
//!   guest ── ring ──► service thread: request ── done at once ──► ring
//!                          │ would wait                            ▲
//!                          └──► pool ── result ── wakes ───────────┘
//! ```
//!
//! The file is raw and nothing in it is ever looked at: what a guest writes to its disk makes it nothing else.
//! A flush is acknowledged when fdatasync has returned. A write for which the host has no room waits, and the
//! daemon is told; the guest never sees an error for that.
//!
//! [`request`] reads what the guest wants, [`file`] does it, [`pool`] does what waits, [`log`] keeps what was done, for
//! tests.

mod file;
#[cfg(all(feature = "fuzz", not(test)))]
pub(crate) mod fuzz;
mod log;
mod pool;
mod request;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lighter_platform::sys::threads::Role;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};

use crate::device::Identity;
use crate::ring::{BadRing, Memory, Ring};
use crate::roles;
use crate::service::{Handler, Served, Waker};
use file::Done;
use pool::Pool;
use request::{Request, SECTOR};

const KIND: u32 = 2;
const RING: u16 = 256;
/// Parts of one request's data: what the ring holds beside header and status.
const MAX_PARTS: u32 = RING as u32 - 2;
/// Bytes of one part.
const MAX_PART: u32 = 256 << 10;
/// Bytes of one request's data. More is refused: three requests of any length would keep all that wait, and the end of
/// the device, for as long as they take.
const MAX_DATA: u64 = 64 << 20;
/// Ranges of one discard.
const MAX_RANGES: u32 = 16;
/// Sectors of one of them: what the host has in pieces takes its time to be let go of.
const MAX_RANGE: u32 = (512 << 20) / SECTOR as u32;
/// Bytes of the configuration up to the fields of WRITE_ZEROES.
const CONFIG: usize = 60;

/// How many writes wait for room on the host's disk.
#[derive(Clone, Debug, Default)]
pub struct Full(Arc<AtomicUsize>);

impl Full {
    /// Whether any does.
    #[must_use]
    pub fn now(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A device over this file, which is a whole number of sectors; starts its threads. In `log`, an empty file, stands
/// everything that is done to the disk, before the guest hears of it; a disk with one is slow, and for tests.
///
/// # Errors
/// When the system gives no threads, the file's size cannot be told, or the log cannot be begun.
pub fn device(file: File, read_only: bool, full: Full, log: Option<File>) -> io::Result<Served> {
    let sectors = file.metadata()?.len() / SECTOR;
    let waker = Waker::new()?;
    let log = log.map(log::Log::new).transpose()?;
    let disk = file::Disk::new(file, sectors * SECTOR, read_only);
    let disk = Arc::new(disk.logged(log));
    let handler = Requests {
        pool: Pool::spawn(Arc::clone(&disk), waker.clone(), full)?,
        disk,
        given: 0,
    };
    Served::new(identity(sectors, read_only), "disk", waker, handler)
}

fn identity(sectors: u64, read_only: bool) -> Identity {
    let mut features =
        1 << VIRTIO_BLK_F_SIZE_MAX | 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_FLUSH;
    if read_only {
        features |= 1 << VIRTIO_BLK_F_RO;
    } else {
        features |= 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
    }
    Identity {
        kind: KIND,
        rings: vec![RING],
        features,
        config: config(sectors),
    }
}

/// The configuration space, by the offsets of `struct virtio_blk_config`.
fn config(sectors: u64) -> Vec<u8> {
    let mut config = vec![0; CONFIG];
    let mut put = |at: usize, value: u32| config[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(8, MAX_PART);
    put(12, MAX_PARTS);
    // Discard: sectors a range, ranges a request, alignment in sectors; then the first two for zeroes.
    put(36, MAX_RANGE);
    put(40, MAX_RANGES);
    put(44, 8);
    put(48, MAX_RANGE);
    put(52, MAX_RANGES);
    config[..8].copy_from_slice(&sectors.to_le_bytes());
    // Zeroes may unmap.
    config[56] = 1;
    config
}

struct Requests {
    disk: Arc<file::Disk>,
    pool: Pool,
    /// Requests in the pool: a guest that has its answers has no more of them than its ring has room for.
    given: usize,
}

/// Requests answered without telling the guest.
const UNTOLD: u16 = 16;

impl Requests {
    /// Gives back what the pool has done.
    fn collect(&mut self, ring: &mut Ring, memory: &Memory) -> Result<(), BadRing> {
        while let Some((request, done)) = self.pool.take() {
            self.given = self.given.saturating_sub(1);
            finish(ring, memory, &request, done)?;
        }
        Ok(())
    }
}

impl Handler for Requests {
    const ROLE: Role = roles::DISK;

    fn serve(
        &mut self,
        _index: usize,
        ring: &mut Ring,
        memory: &Arc<Memory>,
    ) -> Result<(), BadRing> {
        while let Some(chain) = ring.pop(memory)? {
            let request = Request::read(chain, memory)?;
            match self.disk.try_now(&request, memory) {
                Some(done) => finish(ring, memory, &request, done)?,
                None if self.given < usize::from(RING) => {
                    self.given += 1;
                    self.pool.give(request, Arc::clone(memory));
                }
                // It offers again what it was not given back.
                None => return Err(BadRing),
            }
            // Nobody waits for the end of a long row.
            self.collect(ring, memory)?;
            if ring.unsignalled() >= UNTOLD {
                ring.notify(memory)?;
            }
        }
        Ok(())
    }

    fn woken(&mut self, rings: &mut [Option<Ring>], memory: &Memory) -> Result<(), BadRing> {
        let Some(Some(ring)) = rings.first_mut() else {
            return Ok(());
        };
        self.collect(ring, memory)?;
        ring.notify(memory)
    }

    fn stop(&mut self) {
        self.pool.abandon();
        self.given = 0;
    }
}

/// Writes the status and gives the chain back.
fn finish(ring: &mut Ring, memory: &Memory, request: &Request, done: Done) -> Result<(), BadRing> {
    use vm_memory::Bytes as _;
    memory
        .write_obj(done.status, request.status)
        .map_err(|_| BadRing)?;
    ring.push_used(memory, request.head, done.written.saturating_add(1))
}
