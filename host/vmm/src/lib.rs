//! Virtual devices of our own on Linux: the virtio-vsock device over vhost-user.
