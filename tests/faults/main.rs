//! Faults: what was acknowledged is there afterwards, and what could go on went on.
//!
//! Each test has a machine of its own, because it kills parts of it.

mod daemon;
mod damaged;
mod engine;
mod files;
mod full_disk;
mod guest;
mod machine;
mod memory;
mod power;
mod random;
mod sizes;
