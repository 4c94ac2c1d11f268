//! The virtio entropy device (virtio 1.2, 5.4): the host's random numbers for the guest's pool.

use std::io;
use std::sync::Arc;

use lighter_platform::sys::threads::Role;
use rustix::rand::GetRandomFlags;
use vm_memory::Bytes as _;

use crate::device::Identity;
use crate::ring::{BadRing, Memory, Ring};
use crate::roles;
use crate::service::{Handler, Served, Waker};

const KIND: u32 = 4;
const RING: u16 = 64;
/// Bytes given for one request; the guest asks again.
const MOST: usize = 256;

/// The device, with its thread.
///
/// # Errors
/// When the system gives none.
pub fn device() -> io::Result<Served> {
    Served::new(identity(), "rng", Waker::new()?, Source)
}

pub(crate) fn identity() -> Identity {
    Identity {
        kind: KIND,
        rings: vec![RING],
        features: 0,
        config: Vec::new(),
    }
}

pub(crate) struct Source;

impl Handler for Source {
    const ROLE: Role = roles::DOORBELLS;

    fn serve(
        &mut self,
        _index: usize,
        ring: &mut Ring,
        memory: &Arc<Memory>,
    ) -> Result<(), BadRing> {
        while let Some(chain) = ring.pop(memory)? {
            let head = chain.head_index();
            // A table elsewhere may have far more entries than the ring.
            let mut parts = chain.take(RING.into());
            let buffer = parts.find(|part| part.is_write_only());
            let mut given = 0;
            if let Some(buffer) = buffer {
                let mut bytes = [0; MOST];
                let n = MOST.min(buffer.len() as usize);
                given = rustix::rand::getrandom(&mut bytes[..n], GetRandomFlags::empty())
                    .unwrap_or_default();
                memory
                    .write_slice(&bytes[..given], buffer.addr())
                    .map_err(|_| BadRing)?;
            }
            ring.push_used(memory, head, given as u32)?;
        }
        Ok(())
    }
}
