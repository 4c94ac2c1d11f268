//! What the guest wants of its disk: one chain of descriptors, read and checked once.
//!
//! A chain is a header the device reads, data, and one byte for the status which the device writes. Parts are
//! addresses and lengths here; whoever uses them asks the memory again whether they are in it.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};
use virtio_queue::DescriptorChain;
use vm_memory::{Address as _, Bytes as _, GuestAddress};

use crate::ring::{BadRing, Memory};

/// Bytes of a sector, whatever the file system says.
pub const SECTOR: u64 = 512;
/// Type, reserved, sector.
const HEADER: u32 = 16;

/// Parts of a chain: what the guest is told that a request may have, with header and status.
const MAX_CHAIN: usize = super::MAX_PARTS as usize + 2;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Read,
    Write,
    Flush,
    Name,
    Discard,
    Zero,
    Unknown,
}

/// A piece of the guest's memory, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub address: GuestAddress,
    pub length: u32,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The chain's name in the ring.
    pub head: u16,
    pub what: What,
    /// Byte in the file where it begins; nothing where the guest's number is none.
    pub offset: Option<u64>,
    /// The data, which the device reads or, for reads and the name, writes.
    pub data: Vec<Part>,
    /// Bytes of the data together.
    pub length: u64,
    /// Where the status goes.
    pub status: GuestAddress,
}

impl Request {
    /// Reads a chain of at most [`MAX_CHAIN`] parts.
    ///
    /// # Errors
    /// For a longer one, one without header or status, or with data on the wrong side.
    pub fn read(chain: DescriptorChain<&Memory>, memory: &Memory) -> Result<Self, BadRing> {
        let head = chain.head_index();
        let (mut readable, mut writable) = (Vec::new(), Vec::new());
        for (count, part) in chain.enumerate() {
            // A table elsewhere may have far more entries than the ring.
            if count == MAX_CHAIN {
                return Err(BadRing);
            }
            let to_device = !part.is_write_only();
            // What the device writes comes last (virtio 1.2, 2.7.4.2).
            if to_device && !writable.is_empty() {
                return Err(BadRing);
            }
            let side = if to_device {
                &mut readable
            } else {
                &mut writable
            };
            side.push(Part {
                address: part.addr(),
                length: part.len(),
            });
        }
        let header = cut_front(&mut readable, HEADER)?;
        let kind: u32 = memory.read_obj(header).map_err(|_| BadRing)?;
        let at = header.checked_add(8).ok_or(BadRing)?;
        let sector: u64 = memory.read_obj(at).map_err(|_| BadRing)?;
        let status = cut_back(&mut writable)?;
        let what = match u32::from_le(kind) {
            VIRTIO_BLK_T_IN => What::Read,
            VIRTIO_BLK_T_OUT => What::Write,
            VIRTIO_BLK_T_FLUSH => What::Flush,
            VIRTIO_BLK_T_GET_ID => What::Name,
            VIRTIO_BLK_T_DISCARD => What::Discard,
            VIRTIO_BLK_T_WRITE_ZEROES => What::Zero,
            _ => What::Unknown,
        };
        let data = match what {
            What::Read | What::Name => writable,
            _ => readable,
        };
        let length = data.iter().map(|part| u64::from(part.length)).sum();
        Ok(Self {
            head,
            what,
            offset: u64::from_le(sector).checked_mul(SECTOR),
            data,
            length,
            status,
        })
    }
}

/// Takes this many bytes off the first part, which must have them.
fn cut_front(parts: &mut Vec<Part>, bytes: u32) -> Result<GuestAddress, BadRing> {
    let first = parts.first_mut().ok_or(BadRing)?;
    let address = first.address;
    first.length = first.length.checked_sub(bytes).ok_or(BadRing)?;
    first.address = address.checked_add(bytes.into()).ok_or(BadRing)?;
    if first.length == 0 {
        parts.remove(0);
    }
    Ok(address)
}

/// Takes the last byte off the last part.
fn cut_back(parts: &mut Vec<Part>) -> Result<GuestAddress, BadRing> {
    let last = parts.last_mut().ok_or(BadRing)?;
    last.length = last.length.checked_sub(1).ok_or(BadRing)?;
    let address = last
        .address
        .checked_add(last.length.into())
        .ok_or(BadRing)?;
    if last.length == 0 {
        parts.pop();
    }
    Ok(address)
}
