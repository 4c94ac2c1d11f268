//! The file system that is served.

pub mod shares;
