//! The file system seen from the guest: by single requests of a client that obeys nothing, and by
//! ordinary programs through a mount of `/dev/fuse`.

mod guest;
mod mount;

mod hostile;
mod programs;
mod semantics;
