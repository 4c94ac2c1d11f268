//! The network, both ways, beside what others use: throughput, latency, connections, many flows, processor time.
//!
//! ```text
//!   outbound   one guest with three cards ─┬─ ours ───────┐
//!                                          ├─ slirp ──────┼─► one server on the host
//!                                          └─ passt ──────┘
//! ```
//!
//! The same static program is at both ends of each connection (`tests/wire/wire.rs`), and the same orders go to
//! every side in turn ([`measures`]).

mod cards;
mod guest;
mod measures;
mod outbound;
mod place;
mod program;
mod usage;

use anyhow::Result;

use super::Row;
use super::ours::Built;

/// Measures all, or what gives rows in whose names `only` occurs.
///
/// # Errors
///
/// When a side does not come up, or loses a byte.
pub fn net(pairs: usize, as_built: bool, only: Option<&str>) -> Result<Vec<Row>> {
    let built = Built::new(as_built)?;
    outbound::rows(&built, pairs, only)
}
