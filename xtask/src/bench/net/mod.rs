//! The network, both ways, beside what others use: throughput, latency, connections, many flows, processor time.
//!
//! ```text
//!   outbound   one guest with three cards ─┬─ ours ───────┐
//!                                          ├─ slirp ──────┼─► one server on the host
//!                                          └─ passt ──────┘
//!   inbound    a client on the host ─┬─► ours, published ─────────────────────► a container
//!                                    └─► slirp's hostfwd ─► docker-proxy ─────► a container
//! ```
//!
//! The same static program is at both ends of each connection (`tests/wire/wire.rs`), and the same orders go to
//! every side in turn ([`measures`]).

mod cards;
mod guest;
mod inbound;
mod measures;
mod outbound;
mod place;
mod program;
mod proxied;

use anyhow::Result;

use super::Row;
use super::sides::Tools;

/// Measures all, or what gives rows in whose names `only` occurs.
///
/// # Errors
///
/// When a side does not come up, or loses a byte.
pub fn net(pairs: usize, as_built: bool, only: Option<&str>) -> Result<Vec<Row>> {
    let tools = Tools::ensure(as_built)?;
    let mut rows = outbound::rows(&tools.built, pairs, only)?;
    rows.extend(inbound::rows(&tools, pairs, only)?);
    Ok(rows)
}
