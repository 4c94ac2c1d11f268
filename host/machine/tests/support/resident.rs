//! How much memory a machine process holds beside its guest's, to the page.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

/// One mapping, in pages.
struct Mapping {
    start: u64,
    pages: u64,
}

const PAGE: u64 = 4096;
/// In an entry of `pagemap`: the page is there.
const PRESENT: u64 = 1 << 63;

/// KiB that are resident in every mapping but the guest's memory. What the kernel counts by itself (`VmRSS`) holds the
/// guest's pages, and lags behind by some for each thread.
pub fn beside_the_guest(pid: u32) -> std::io::Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
    let mut present = 0;
    for mapping in maps.lines().filter_map(parse) {
        let mut entries = vec![0; mapping.pages as usize * 8];
        // A mapping that went meanwhile has no entries.
        let read = pagemap
            .read_at(&mut entries, mapping.start * 8)
            .unwrap_or(0);
        let entries = entries[..read].chunks_exact(8);
        present += entries
            .filter(|entry| u64::from_le_bytes((*entry).try_into().unwrap()) & PRESENT != 0)
            .count() as u64;
    }
    Ok(present * PAGE / 1024)
}

/// `None` for the guest's memory, what nobody may read, and the kernel's own pages.
fn parse(line: &str) -> Option<Mapping> {
    let mut words = line.split_whitespace();
    let (range, access) = (words.next()?, words.next()?);
    let name = words.nth(3).unwrap_or_default();
    let others = ["/memfd:lighter-guest", "[vvar", "[vsyscall"];
    if access.starts_with("---") || others.iter().any(|other| name.starts_with(other)) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let page = |text| Some(u64::from_str_radix(text, 16).ok()? / PAGE);
    let (start, end) = (page(start)?, page(end)?);
    Some(Mapping {
        start,
        pages: end - start,
    })
}
