//! The router between a guest and the host's loopback, where everything real is but the guest's kernel.

mod crowds;
mod datagrams;
mod guest;
mod hostile;
mod questions;
mod resets;
mod streams;
mod unreachable;
