//! What a guest reads of the devices: memory that it cannot write.
//!
//! KVM gives it these pages themselves (`KVM_MEM_READONLY`, Documentation/virt/kvm/api.rst 4.35), so that no read leaves
//! the guest: a driver reads why it was interrupted each time it is. A write does leave, to [`super::Transport`], which
//! changes what is read before the guest goes on (but doorbells and plain acknowledgements, which end in KVM). Must never
//! hold anything but registers: the guest sees all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The window of one device, in bytes.
pub const PAGE: u64 = 0x1000;

const WORDS: usize = PAGE as usize / 4;

/// Registers, little endian.
#[repr(align(4096))]
#[derive(Debug)]
struct Words([AtomicU32; WORDS]);

/// Pages that lie behind each other.
#[derive(Clone, Debug)]
pub struct Pages(Arc<[Words]>);

impl Pages {
    /// So many, of zeros.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let empty = || Words([const { AtomicU32::new(0) }; WORDS]);
        Self((0..count).map(|_| empty()).collect())
    }

    /// One for each device.
    pub fn each(&self) -> impl Iterator<Item = Page> {
        let pages = self.0.clone();
        (0..pages.len()).map(move |at| Page(pages.clone(), at))
    }

    /// Where they begin in this process, and how long they are in bytes.
    #[must_use]
    pub fn place(&self) -> (*const u8, u64) {
        (self.0.as_ptr().cast(), PAGE * self.0.len() as u64)
    }
}

/// The page of one device.
#[derive(Clone, Debug)]
pub struct Page(Arc<[Words]>, usize);

impl Page {
    fn word(&self, register: u32) -> &AtomicU32 {
        &self.0[self.1].0[register as usize / 4 % WORDS]
    }

    /// What the guest reads at this register from now on.
    pub fn set(&self, register: u32, value: u32) {
        self.word(register).store(value.to_le(), Ordering::Release);
    }

    /// What it reads there now.
    pub fn get(&self, register: u32) -> u32 {
        u32::from_le(self.word(register).load(Ordering::Acquire))
    }

    /// Adds bits; those that were there before.
    pub fn add(&self, register: u32, bits: u32) -> u32 {
        let before = self.word(register).fetch_or(bits.to_le(), Ordering::AcqRel);
        u32::from_le(before)
    }

    /// Takes bits away.
    pub fn take(&self, register: u32, bits: u32) {
        self.word(register)
            .fetch_and(!bits.to_le(), Ordering::AcqRel);
    }

    /// Writes bytes from here on, as far as the page goes.
    pub fn fill(&self, from: u32, bytes: &[u8]) {
        let room = WORDS - (from as usize / 4).min(WORDS);
        for (word, bytes) in (from..).step_by(4).zip(bytes.chunks(4)).take(room) {
            let mut whole = [0; 4];
            whole[..bytes.len()].copy_from_slice(bytes);
            self.set(word, u32::from_le_bytes(whole));
        }
    }

    /// Reads as the guest does by itself, who reads zeros behind the end.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        for (at, byte) in into.iter_mut().enumerate() {
            let at = offset.saturating_add(at as u64);
            let word = u32::try_from(at / 4 * 4)
                .ok()
                .filter(|word| u64::from(*word) < PAGE)
                .map_or(0, |word| self.word(word).load(Ordering::Acquire));
            // The page is little endian wherever this runs.
            *byte = word.to_ne_bytes()[at as usize % 4];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_lie_behind_each_other_and_end_where_they_end() {
        let pages = Pages::new(3);
        let (start, length) = pages.place();
        assert_eq!(start as usize % 4096, 0);
        assert_eq!(length, 3 * 4096);
        for (number, page) in (1..).zip(pages.each()) {
            page.set(0, number);
            page.fill(0xff8, &[number as u8; 20]);
        }
        for (number, page) in (1..).zip(pages.each()) {
            let mut bytes = [7; 12];
            page.read(0, &mut bytes);
            assert_eq!(bytes[..5], [number, 0, 0, 0, 0]);
            page.read(0xffa, &mut bytes);
            assert_eq!(bytes, [[number; 6], [0; 6]].concat()[..]);
        }
        let mut bytes = [7; 4];
        for beyond in [0x1000, u64::MAX - 1] {
            pages.each().next().unwrap().read(beyond, &mut bytes);
            assert_eq!(bytes, [0; 4]);
        }
    }
}
