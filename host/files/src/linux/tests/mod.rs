//! The file system seen from the guest: by single requests of a client that obeys nothing, and by
//! ordinary programs through a mount of `/dev/fuse`.

mod guest;
mod mount;
mod scene;

mod hostile_bounds;
mod hostile_changes;
mod hostile_ways_out;
mod operations;
mod owners;
mod programs;

use lighter_tests::env::{count, skip};
