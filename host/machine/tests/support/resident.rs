//! How much memory a machine process holds beside its guest's, to the page.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

/// KiB that are resident.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// What the process has for itself: nobody else has these pages.
    pub own: u64,
    /// What it shows of files: its program and libraries, in the page cache once for all processes that run them.
    pub files: u64,
}

impl Resident {
    /// Both.
    pub fn total(self) -> u64 {
        self.own + self.files
    }
}

/// One mapping, in pages.
struct Mapping {
    start: u64,
    pages: u64,
    of_file: bool,
}

const PAGE: u64 = 4096;
/// In an entry of `pagemap` (Documentation/admin-guide/mm/pagemap.rst): the page is there; it is a file's, or shared memory.
const PRESENT: u64 = 1 << 63;
const SHARED: u64 = 1 << 61;

/// KiB that are resident in every mapping but the guest's memory. What the kernel counts by itself (`VmRSS`) holds the
/// guest's pages, and lags behind by some for each thread.
pub fn beside_the_guest(pid: u32) -> std::io::Result<Resident> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
    let (mut own, mut files) = (0, 0);
    for mapping in maps.lines().filter_map(parse) {
        let mut entries = vec![0; mapping.pages as usize * 8];
        // A mapping that went meanwhile has no entries.
        let read = pagemap
            .read_at(&mut entries, mapping.start * 8)
            .unwrap_or(0);
        for entry in entries[..read].chunks_exact(8) {
            let entry = u64::from_le_bytes(entry.try_into().unwrap());
            let present = u64::from(entry & PRESENT != 0);
            if mapping.of_file && entry & SHARED != 0 {
                files += present;
            } else {
                own += present;
            }
        }
    }
    Ok(Resident {
        own: own * PAGE / 1024,
        files: files * PAGE / 1024,
    })
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
        of_file: name.starts_with('/') && !name.starts_with("/memfd:"),
    })
}
