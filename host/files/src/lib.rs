//! The virtio-fs server process, which alone opens shared paths.
