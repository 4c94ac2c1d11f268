//! The reader's side of a ring that programs of the kernel's leave words in: where it has read to, and where they
//! have written to. The words themselves are not mapped.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::param::page_size;

use super::Result;

/// The two positions, each at the beginning of a page of its own.
#[derive(Debug)]
pub struct Ring {
    consumer: *mut AtomicU64,
    producer: *mut AtomicU64,
}

// SAFETY: both are positions in shared memory that is only read and written as atomics, and are unmapped once.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// Of this map.
    pub fn of(map: BorrowedFd<'_>) -> Result<Self> {
        let page = page_size();
        let map = |protection, offset: usize| {
            let null = std::ptr::null_mut();
            // SAFETY: a new mapping where the kernel likes, which nothing else points into. The kernel answers for a
            // ring's first page to be the reader's position and its second the writer's.
            unsafe { mmap(null, page, protection, MapFlags::SHARED, map, offset as u64) }
        };
        let consumer = map(ProtFlags::READ | ProtFlags::WRITE, 0)?;
        let producer = match map(ProtFlags::READ, page) {
            Ok(producer) => producer,
            Err(errno) => {
                // SAFETY: mapped above, and nobody has it.
                let _ = unsafe { munmap(consumer, page) };
                return Err(errno);
            }
        };
        Ok(Self {
            consumer: consumer.cast(),
            producer: producer.cast(),
        })
    }

    /// Takes everything for read.
    pub fn clear(&self) {
        // SAFETY: both are mapped as long as `self` is there, aligned to a page, and the kernel changes them as
        // atomics too.
        let (consumer, producer) = unsafe { (&*self.consumer, &*self.producer) };
        consumer.store(producer.load(Ordering::Acquire), Ordering::Release);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for page in [self.consumer, self.producer] {
            // SAFETY: mapped by `of`, unmapped here alone.
            let _ = unsafe { munmap(page.cast(), page_size()) };
        }
    }
}
