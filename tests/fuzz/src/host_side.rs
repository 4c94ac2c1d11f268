//! What a hostile guest sends to the host.

use lighter_protocol::Decoder;

/// Frames of the control link, which either side reads. The first byte says in how many pieces the
/// rest comes.
pub fn protocol_frames(bytes: &[u8]) {
    let Some((pieces, stream)) = bytes.split_first() else {
        return;
    };
    let size = (stream.len() / (usize::from(*pieces) + 1)).max(1);
    let mut decoder = Decoder::new();
    for piece in stream.chunks(size) {
        decoder.push(piece);
        while let Ok(Some(message)) = decoder.next_message() {
            // What was understood can be said again.
            assert!(
                message.encode().is_ok(),
                "a message that was read cannot be written"
            );
        }
    }
}

/// Rings, descriptors and packets of the vsock device.
pub fn vsock_device(bytes: &[u8]) {
    lighter_vmm::vsock::fuzz::run(bytes);
}

/// Registers of a device.
pub fn mmio_transport(bytes: &[u8]) {
    lighter_vmm::fuzz::mmio_transport(bytes);
}

/// Rings and requests of the disk.
pub fn block_requests(bytes: &[u8]) {
    lighter_vmm::fuzz::block_requests(bytes);
}

/// Rings of the small devices, and what a monitor hands to vhost-user.
pub fn device_queues(bytes: &[u8]) {
    lighter_vmm::fuzz::device_queues(bytes);
}

/// Rings of the console.
pub fn console_output(bytes: &[u8]) {
    lighter_vmm::fuzz::console_output(bytes);
}

/// A kernel for the monitor, with what is put into memory beside it.
pub fn kernel_loader(bytes: &[u8]) {
    lighter_vmm::fuzz::kernel_loader(bytes);
}

/// Frames of the guest to the router.
pub fn network_frames(bytes: &[u8]) {
    lighter_net::nat::fuzz::run(bytes);
}

/// Requests to the server of shared folders.
pub fn fuse_requests(bytes: &[u8]) {
    lighter_files::fuzz::run(bytes);
}
