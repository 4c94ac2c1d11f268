//! The harness: a Lighter of its own for tests, and the real clients that drive it.
//!
//! Used by the test binaries of this crate, and by other crates' tests for [`env`] alone (as a
//! dev-dependency). `cargo xtask test` builds the programs, fetches
//! the clients and hands both over in the variables of [`env`]; without them a test is skipped,
//! and the skip is printed and counted. Nothing here may talk to the developer's own Lighter:
//! every [`Host`] has a `LIGHTER_HOME` of its own.
//!
//! # How a test reports
//!
//! * A loop takes its number from [`env::count`]`(short, long)`; random choices start from
//!   [`env::seed`]`()`. Both tell `cargo xtask test`, which writes them with the test's result and time
//!   into `target/test.json` (`target/test-long.json` of a long run). Call them on the test's own
//!   thread, which is how they know its name.
//! * A test that cannot run calls [`env::skip`]`(name, reason)` and returns.
//! * `cargo xtask test [long] [NAME] --seed N` makes the same choices again.

pub mod at_exit;
#[cfg(test)]
mod contest;
pub mod deeds;
pub mod disk_log;
pub mod env;
pub mod floor;
pub mod host;
pub mod http;
pub mod image;
pub mod initramfs;
pub mod inner;
pub mod limits;
pub mod namespaces;
pub mod probe;
pub mod proxy;
pub mod random;
pub mod reference;
pub mod registry;
pub mod run;
mod subnet;
#[cfg(target_arch = "x86_64")]
pub mod takeover;
pub mod tars;
pub mod terminal;
pub mod tokens;
pub mod user;

pub use host::Host;
pub use inner::Inner;
pub use namespaces::network_namespace;
pub use reference::Reference;
pub use registry::Registry;
pub use run::{Finished, run, until};
pub use user::User;
