//! The harness: a Lighter of its own for tests, and the real clients that drive it.
//!
//! Used by the test binaries of this crate only. `cargo xtask test` builds the programs, fetches
//! the clients and hands both over in the variables of [`env`]; without them a test is skipped,
//! and the skip is printed and counted. Nothing here may talk to the developer's own Lighter:
//! every [`Host`] has a `LIGHTER_HOME` of its own.

pub mod at_exit;
pub mod env;
pub mod host;
pub mod reference;
pub mod registry;
pub mod run;
pub mod terminal;

pub use host::Host;
pub use reference::Reference;
pub use registry::Registry;
pub use run::{Finished, run};
