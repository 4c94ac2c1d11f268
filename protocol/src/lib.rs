//! The messages between the host and the guest: types, bytes, nothing else.
//!
//! Used by the host's daemon and the guest's agent, which do the reading and writing.
//! This crate never opens, reads or waits for anything, and compiles for every platform.
//!
//! # On the wire
//!
//! ```text
//!   u32 little endian   length of what follows (1 to 1 MiB)
//!   u8                  message type
//!   ...                 body, JSON
//! ```
//!
//! * [`port::CONTROL`]: the host connects and sends [`Hello`]; the guest answers [`Welcome`] or
//!   [`Refused`]. Then both sides send what they like. A new daemon connects and says hello again.
//! * [`port::HOST`]: the guest connects and sends one [`Open`]; the host answers [`Opened`] or
//!   [`Failed`]. After an opened [`Request::Dial`] the stream carries raw bytes both ways, each
//!   direction ended by its own half-close.
//!   After an opened [`Request::Publish`] it goes on with [`Bind`] and [`Bound`].
//! * [`port::PUBLISHED`]: the host connects and sends [`Accepted`], then raw bytes follow both ways.
//! * [`port::API`]: HTTP from the first byte on; no frame of ours.
//!
//! # Adding a message
//!
//! 1. Write its struct in `control.rs`, `open.rs` or `ports.rs`. A field added to an existing struct gets
//!    `#[serde(default)]`: unknown fields are ignored and missing ones must have a meaning.
//! 2. Add one line with a fresh type number to the table in `message.rs`. Numbers are never
//!    used twice, not even after a message is gone.
//! 3. If it comes from the guest, bound every string and list of it in its `check`.
//! 4. Add its golden bytes to `tests/golden.rs` and a seed to `tests/corpus/`.
//! 5. Only when an old peer would misunderstand rather than refuse it, raise [`VERSION`].

mod check;
mod control;
mod frame;
pub mod link;
mod message;
mod open;
mod ports;
mod secret;
mod settings;

pub use control::{
    Bye, ByeOk, ByeReason, Clock, EngineState, Health, HealthOk, Hello, Refused, RefusedCode,
    Routes, Shutdown, ShutdownReason, Status, StatusOk, Welcome,
};
pub use frame::{Decoder, Frame, FrameError, HEADER_LENGTH, MAX_FRAME, encode_frame};
pub use message::{Message, MessageError, fuzz_decoder};
pub use open::{ActivateShare, Dial, DialPurpose, Failed, FailedCode, Open, Opened, Request};
pub use ports::{Accepted, Bind, Bound, HOST_NETWORK, MAX_DATAGRAM, Publish, Transport};
pub use secret::{Secret, SecretError};
pub use settings::{AddressPool, BootSettings, EngineSettings, HostUser, Proxies, Route, Share};

/// The version this program speaks.
pub const VERSION: u16 = 1;

/// The oldest version this program still understands.
pub const OLDEST_VERSION: u16 = 1;

/// The longest frame accepted before a guest-initiated stream has shown the secret.
///
/// Anyone who gets hold of the port may send such a frame, so it is kept to what an
/// [`Open`] can need.
pub const MAX_OPEN_FRAME: u32 = 16 * 1024;

/// The vsock ports, and the context ids of the two sides.
pub mod port {
    /// The guest listens: framed messages, [`Hello`](crate::Hello) first.
    pub const CONTROL: u32 = 1024;
    /// The guest listens: the Docker Engine API, HTTP from the first byte.
    pub const API: u32 = 1025;
    /// The guest listens: one [`Accepted`](crate::Accepted) frame, then what a client of a published port says.
    pub const PUBLISHED: u32 = 1027;
    /// The host listens: one [`Open`](crate::Open) frame, then what it asked for.
    pub const HOST: u32 = 1026;

    /// The context id by which a guest knows its host.
    pub const HOST_CID: u32 = 2;
    /// The context id our virtual machines are given.
    pub const GUEST_CID: u32 = 3;
}
