//! The table of messages, and their way into frames and back.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::{
    Bye, ByeOk, Clock, Health, HealthOk, Hello, Refused, Routes, Shutdown, Status, StatusOk,
    Welcome,
};
use crate::open::{Failed, Open, Opened};
use crate::ports::{Accepted, Bind, Bound};
use crate::{Decoder, Frame, FrameError, OLDEST_VERSION, VERSION, encode_frame};

/// A frame or body that is no message of ours.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The framing itself is broken; the stream is of no further use.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A type number this version does not know.
    #[error("unknown message type {0:#04x}")]
    UnknownType(u8),
    /// A peer of another time.
    #[error("peer speaks protocol {theirs}, this program speaks {oldest} to {newest}")]
    Version {
        /// What the peer said.
        theirs: u16,
        /// The oldest version we understand.
        oldest: u16,
        /// The newest version we understand.
        newest: u16,
    },
    /// A body that does not fit its type.
    #[error("malformed `{name}` message: {source}")]
    Body {
        /// The message's name.
        name: &'static str,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A body that fits its type and breaks a bound.
    #[error("`{name}` message refused: {why}")]
    Bounds {
        /// The message's name.
        name: &'static str,
        /// Which bound.
        why: &'static str,
    },
}

macro_rules! messages {
    ($($number:literal $name:ident),* $(,)?) => {
        /// Any message of the protocol.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Message {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)*
        }

        impl Message {
            /// The number that stands for this message's type on the wire.
            pub fn kind(&self) -> u8 {
                match self { $(Self::$name(_) => $number,)* }
            }

            /// The name used in errors and logs.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name),)* }
            }

            /// The whole frame.
            pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
                match self { $(Self::$name(body) => encode($number, stringify!($name), body),)* }
            }

            /// Reads a frame; checks version and bounds, so that nobody after this has to.
            pub fn decode(frame: &Frame) -> Result<Self, MessageError> {
                match frame.kind {
                    $($number => {
                        let message: $name = decode(stringify!($name), frame)?;
                        Ok(Self::$name(message))
                    })*
                    other => Err(MessageError::UnknownType(other)),
                }
            }
        }

        $(impl From<$name> for Message {
            fn from(body: $name) -> Self { Self::$name(body) }
        })*
    };
}

// Numbers are never reused.
messages! {
    0x01 Hello,
    0x02 Welcome,
    0x03 Refused,
    0x10 Health,
    0x11 HealthOk,
    0x12 Clock,
    0x13 Status,
    0x14 StatusOk,
    0x15 Routes,
    0x20 Shutdown,
    0x21 Bye,
    0x22 ByeOk,
    0x40 Open,
    0x41 Opened,
    0x42 Failed,
    0x50 Bind,
    0x51 Bound,
    0x52 Accepted,
}

/// What a message checks of itself when it comes from the wire.
pub(crate) trait Check {
    /// The bound that is broken.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }

    /// True for the two messages that open a conversation and so carry a version.
    const VERSIONED: bool = false;
}

fn encode<T: Serialize>(kind: u8, name: &'static str, body: &T) -> Result<Vec<u8>, MessageError> {
    let body = serde_json::to_vec(body).map_err(|source| MessageError::Body { name, source })?;
    Ok(encode_frame(kind, &body)?)
}

fn decode<T: DeserializeOwned + Check>(
    name: &'static str,
    frame: &Frame,
) -> Result<T, MessageError> {
    let malformed = |source| MessageError::Body { name, source };
    if T::VERSIONED {
        // Read alone and first: the rest of another version's greeting may look like anything.
        let greeting: Greeting = serde_json::from_slice(&frame.body).map_err(malformed)?;
        if !(OLDEST_VERSION..=VERSION).contains(&greeting.version) {
            return Err(MessageError::Version {
                theirs: greeting.version,
                oldest: OLDEST_VERSION,
                newest: VERSION,
            });
        }
    }
    let message: T = serde_json::from_slice(&frame.body).map_err(malformed)?;
    message
        .check()
        .map_err(|why| MessageError::Bounds { name, why })?;
    Ok(message)
}

#[derive(serde::Deserialize)]
struct Greeting {
    version: u16,
}

/// Feeds arbitrary bytes to the decoder, whole and in two parts, and checks what must always
/// hold. For fuzzers, property tests and the replay of the corpus.
///
/// # Panics
///
/// When the decoder is wrong: that is what it is for.
pub fn fuzz_decoder(bytes: &[u8]) {
    let whole = drain(&[bytes]);
    let (left, right) = bytes.split_at(bytes.len() / 2);
    assert_eq!(
        whole,
        drain(&[left, right]),
        "frames depend on how the bytes arrived"
    );
    for frame in &whole.0 {
        if let Ok(message) = Message::decode(frame) {
            let Ok(encoded) = message.encode() else {
                continue;
            };
            let again = drain(&[&encoded]).0;
            let reread = again.first().map(Message::decode);
            assert!(
                matches!(&reread, Some(Ok(reread)) if *reread == message),
                "{message:?} changed on its way through bytes: {reread:?}"
            );
        }
    }
}

/// All frames of a stream, the error it ended with, and what was left over.
fn drain(parts: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>, Vec<u8>) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for part in parts {
        decoder.push(part);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error), Vec::new()),
            }
        }
    }
    (frames, None, decoder.into_rest())
}
