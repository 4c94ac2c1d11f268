//! Images as one file: `docker load` and `docker save`.
//!
//! [`load`] reads docker's own archives and OCI layouts in one pass, without unpacking them
//! anywhere: what looks like a layer goes straight into the store (invisible until an image of the
//! archive names it), what looks like a document is kept in memory. [`save`] writes what dockerd
//! 28 writes: an OCI layout that also has docker's `manifest.json`.

mod load;
mod save;
mod writer;

pub use load::{LoadedImage, load};
pub use save::{SavedImage, save};
