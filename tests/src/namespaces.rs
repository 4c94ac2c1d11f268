//! Networks of a test's own.

use std::fs::File;

use rustix::thread::UnshareFlags;

/// A new network namespace, with a loopback that is down; it lasts as long as the file.
///
/// # Panics
/// Where this user may not make one.
#[must_use]
pub fn network_namespace() -> File {
    let made = std::thread::spawn(|| {
        // SAFETY: this thread alone leaves its network, and shares nothing that depends on it; it ends at once.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network");
        File::open("/proc/thread-self/ns/net").expect("a namespace")
    });
    made.join().expect("made")
}
