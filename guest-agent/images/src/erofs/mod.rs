//! The EROFS index over a layer's tar: names, owners, modes and where in the tar the content is.
//!
//! [`Tree`] takes the archive's entries as they stream past and holds the layer's file tree in
//! memory, following the rules by which a union mount reads a layer: whiteouts become character
//! devices 0:0, opaque markers an overlay attribute. [`write`] then lays it out as a file system of
//! 512-byte blocks whose file contents are extents of the tar, its one extra device.
//!
//! The index is a function of the tar alone: the same tar gives the same bytes, so a damaged
//! index can be found out and made again. Nothing here opens a path that an entry names.

mod error;
mod format;
mod layout;
mod path;
mod sparse;
mod tail;
mod tree;
mod write;
mod xattr;

pub use error::TreeError;
pub(crate) use sparse::{MAX_SPARSE, Materialised, fits_in_place, materialise};
pub(crate) use tree::{Tree, TreeLimits};
pub(crate) use write::{IndexSource, write};

/// The file system's block, and the tar's: that they are the same is what lets content stay put.
pub(crate) const BLOCK: u64 = 512;
