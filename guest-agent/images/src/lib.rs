//! Images: the content store, layers as tar plus EROFS index, the registry client, load and save.
//!
//! Called by the engine's image service (`lighter_engine::images`) and, for layer mounts, by its
//! containers. Calls the kernel for mounts, and the network only through a [`Dialer`].
//!
//! ```text
//!   registry ─┐
//!   archive  ─┴► inflate ─► layer.tar (hashed while written)
//!                        └► tar reader ─► EROFS index          commit: verify, fsync, rename
//! ```
//!
//! What an image says is content, never policy: nothing in here opens a path an image names, and
//! no name is written that the caller did not ask for.

pub mod archive;
pub mod channel;
pub mod config;
pub mod dial;
pub mod digest;
mod durable;
mod erofs;
pub mod error;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod inflate;
mod layer;
pub mod manifest;
pub mod mounts;
mod pins;
pub mod progress;
pub mod reference;
pub mod registry;
mod seal;
pub mod store;
pub mod tar;
mod verify;

pub use config::ImageConfig;
pub use dial::{DialPurpose, DialTarget, Dialer, Stream, TcpDialer};
pub use digest::Digest;
pub use erofs::TreeError;
pub use error::{Error, Result};
pub use inflate::unpacked;
pub use layer::LayerLimits;
pub use manifest::Platform;
pub use mounts::LayerMounts;
pub use pins::Pin;
pub use progress::{Progress, ProgressDetail, ProgressEvent, Pushed};
pub use reference::Reference;
pub use seal::{Sealed, Seals};
pub use store::{Collected, LayerFiles, Referenced, Store, StoreOptions};
pub use tar::{TarError, TarProblem};
