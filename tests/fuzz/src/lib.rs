//! What each decoder of hostile bytes is fed with: one function a target, from bytes to nothing.
//!
//! Called by the libFuzzer programs in `libfuzzer/` (a workspace of its own, see `docs/fuzzing.md`)
//! and, over the corpus, by the test `replay`, which every test run has. A function here may panic
//! only where the code under test is wrong: every answer but a panic, a hang or memory without
//! bound is right.

mod guest_side;
mod host_side;

/// A target: its name, which is its corpus' folder and its program, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("protocol_frames", host_side::protocol_frames),
    ("vsock_device", host_side::vsock_device),
    ("mmio_transport", host_side::mmio_transport),
    ("block_requests", host_side::block_requests),
    ("device_queues", host_side::device_queues),
    ("console_output", host_side::console_output),
    ("kernel_loader", host_side::kernel_loader),
    ("network_frames", host_side::network_frames),
    ("fuse_requests", host_side::fuse_requests),
    ("layer_tar", guest_side::layer_tar),
    ("image_archive", guest_side::image_archive),
    ("image_manifest", guest_side::image_manifest),
    ("image_reference", guest_side::image_reference),
    ("create_body", guest_side::create_body),
    ("request_head", guest_side::request_head),
    ("supervisor_packets", guest_side::supervisor_packets),
];

/// Runs the target of this name.
///
/// # Panics
///
/// If there is none, or if the code under test panics.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    let (_, function) = target.unwrap_or_else(|| panic!("no target is named {name}"));
    function(bytes);
}
