//! Framing: where one message ends and the next begins. Knows no message.

use crate::MessageError;

/// The most that may follow a length field.
pub const MAX_FRAME: u32 = 1024 * 1024;

/// Length and type: what precedes a body.
pub const HEADER_LENGTH: usize = 5;

/// One frame as it came: a type number and an unread body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The message type.
    pub kind: u8,
    /// The body, JSON if the peer keeps to the protocol.
    pub body: Vec<u8>,
}

/// A stream that does not keep to the framing; nothing after it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame announces more than the limit.
    #[error("frame of {length} bytes is longer than the limit of {limit}")]
    TooLong {
        /// The length the peer announced.
        length: u32,
        /// What was allowed.
        limit: u32,
    },
    /// A frame without even a type.
    #[error("frame without a type")]
    Empty,
}

/// Puts a body into a frame.
///
/// Fails with [`FrameError::TooLong`] where the peer would refuse the frame.
pub fn encode_frame(kind: u8, body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let too_long = |length| FrameError::TooLong {
        length,
        limit: MAX_FRAME,
    };
    let length = u32::try_from(body.len())
        .ok()
        .and_then(|length| length.checked_add(1))
        .ok_or(too_long(u32::MAX))?;
    if length > MAX_FRAME {
        return Err(too_long(length));
    }
    let mut bytes = Vec::with_capacity(HEADER_LENGTH + body.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// Cuts a stream of bytes into frames, however the bytes arrive.
///
/// Push what was read, then take frames until there is none. A length beyond the limit is
/// refused as soon as its four bytes are there, before anything is stored for it. After an
/// error every further call gives that error again.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// How much of `buffer` has been given out.
    taken: usize,
    limit: u32,
    broken: Option<FrameError>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder with the protocol's own limit.
    pub fn new() -> Self {
        Self::with_limit(MAX_FRAME)
    }

    /// A decoder that accepts no frame longer than `limit` (type and body).
    pub fn with_limit(limit: u32) -> Self {
        Self {
            buffer: Vec::new(),
            taken: 0,
            limit: limit.min(MAX_FRAME),
            broken: None,
        }
    }

    /// Adds bytes read from the peer.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole frame, or none until more bytes are pushed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((head, rest)) = rest.split_first_chunk::<4>() else {
            self.compact();
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head);
        if length == 0 {
            return Err(self.fail(FrameError::Empty));
        }
        if length > self.limit {
            return Err(self.fail(FrameError::TooLong {
                length,
                limit: self.limit,
            }));
        }
        let Some((kind, body)) = rest.get(..length as usize).and_then(<[u8]>::split_first) else {
            self.compact();
            return Ok(None);
        };
        let frame = Frame {
            kind: *kind,
            body: body.to_vec(),
        };
        self.taken += 4 + length as usize;
        Ok(Some(frame))
    }

    /// The next whole message, or none until more bytes are pushed.
    ///
    /// A body that cannot be read leaves the framing intact: the caller may go on.
    pub fn next_message(&mut self) -> Result<Option<crate::Message>, MessageError> {
        match self.next_frame()? {
            Some(frame) => crate::Message::decode(&frame).map(Some),
            None => Ok(None),
        }
    }

    /// What was pushed and belongs to no frame given out: the first raw bytes of a stream
    /// that stops being framed.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.compact();
        self.buffer
    }

    /// True where a peer that closes now has broken off inside a frame.
    pub fn is_partial(&self) -> bool {
        self.taken < self.buffer.len()
    }

    fn compact(&mut self) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.broken = Some(error);
        self.buffer = Vec::new();
        self.taken = 0;
        error
    }
}
