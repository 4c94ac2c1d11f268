//! A door for `tests/fuzz`: requests of a hostile guest, as bytes, against a shared folder.
//!
//! ```text
//!   request = opcode, node (small numbers are those the server gave out), flags, length, body
//! ```
//!
//! Whatever is asked, what lies beside the shared folder stays as it is, and so does a read-only
//! share's content.

use std::fs;
use std::path::Path;

#[expect(
    dead_code,
    reason = "the guest of the unit tests, of which a part is used here"
)]
#[path = "tests/guest.rs"]
mod guest;

use guest::Guest;

/// More requests add nothing but time.
const REQUESTS: usize = 64;

/// Runs one list of requests.
///
/// # Panics
///
/// If something outside the share, or in the read-only one, changed.
pub fn run(bytes: &[u8]) {
    let memory = Path::new("/dev/shm");
    let Ok(dir) = (if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }) else {
        return;
    };
    let outside = dir.path();
    for folder in ["open", "open/d", "closed", "beside"] {
        fs::create_dir(outside.join(folder)).expect("an empty folder");
    }
    for file in ["open/f", "open/d/g", "closed/f", "beside/f"] {
        fs::write(outside.join(file), file).expect("a file");
    }
    let guest = Guest::new();
    let mut nodes = vec![1];
    nodes.push(guest.share("open", &outside.join("open"), false));
    nodes.push(guest.share("closed", &outside.join("closed"), true));
    let mut rest = bytes;
    for _ in 0..REQUESTS {
        let Some((opcode, node, body, tail)) = request(rest) else {
            break;
        };
        rest = tail;
        let node = nodes.get(node).copied().unwrap_or(node as u64);
        if let Some(Ok(reply)) = guest.raw(opcode, node, body)
            && [guest::LOOKUP, guest::MKDIR, guest::CREATE].contains(&opcode)
            && reply.len() >= 8
        {
            nodes.push(guest::u64_at(&reply, 0));
        }
    }
    drop(guest);
    let says = |file: &str| fs::read_to_string(outside.join(file)).unwrap_or_default();
    assert_eq!(says("beside/f"), "beside/f", "beside the share");
    assert_eq!(says("closed/f"), "closed/f", "in the read-only share");
    for (folder, count) in [("", 3), ("beside", 1), ("closed", 1)] {
        let there = fs::read_dir(outside.join(folder)).map_or(0, Iterator::count);
        assert_eq!(there, count, "in {folder:?}");
    }
}

/// The next request: opcode, number of a node, body, and what comes after it.
fn request(bytes: &[u8]) -> Option<(u32, usize, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<3>()?;
    let [opcode, node, length] = *head;
    let length = usize::from(length).min(rest.len());
    let (body, tail) = rest.split_at(length);
    Some((opcode.into(), node.into(), body, tail))
}
