//! The cases.

/// Runs them.
pub fn run() {}
