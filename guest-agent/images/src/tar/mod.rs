//! A streaming tar reader for content nobody vouches for, and a writer.
//!
//! Called by the layer writer, by load, and by the engine for copies in and out of containers. It
//! reads headers and leaves the content where it is: an [`Entry`] says at which offset of the
//! archive its bytes stand.
//!
//! Understood: v7, ustar, star, GNU (long names, base-256 numbers, old sparse files) and PAX with
//! GNU's three sparse forms. A PAX record overrides the header's field *everywhere*, the size
//! included: reading past an entry by the header's size while another reader uses the PAX size is
//! how CVE-2025-62518 hid entries. Where two readers in use would disagree about what an archive
//! holds, it is refused.

mod entry;
mod error;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use entry::{Entry, Kind, Segment};
pub use error::{TarError, TarProblem};
pub(crate) use header::begins_tar;
pub use reader::{Limits, TarReader};
pub use writer::{NewEntry, TarWriter};

/// The unit of everything in a tar.
pub(crate) const BLOCK: u64 = 512;
