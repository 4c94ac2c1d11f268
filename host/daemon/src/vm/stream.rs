//! Messages over one stream of the guest.

use std::io;

use lighter_machine::GuestStream;
use lighter_protocol::{Decoder, Message, MessageError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What can happen while reading or writing a message.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The stream broke.
    #[error("the stream to the guest broke")]
    Io(#[from] io::Error),
    /// The guest closed it.
    #[error("the guest closed the stream")]
    Closed,
    /// What came is no message.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// A stream of the guest with its decoder.
#[derive(Debug)]
pub struct MessageStream {
    stream: GuestStream,
    decoder: Decoder,
}

impl MessageStream {
    /// Reads messages with the protocol's own limit.
    #[must_use]
    pub fn new(stream: GuestStream) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
        }
    }

    /// Reads frames of at most `limit` bytes.
    #[must_use]
    pub fn with_limit(stream: GuestStream, limit: u32) -> Self {
        Self {
            stream,
            decoder: Decoder::with_limit(limit),
        }
    }

    /// Writes one message.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), StreamError> {
        let bytes = message.into().encode()?;
        self.stream.write_all(&bytes).await?;
        Ok(())
    }

    /// The next message. Loses nothing when it is dropped while waiting.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn receive(&mut self) -> Result<Message, StreamError> {
        let mut buffer = [0_u8; 8192];
        loop {
            if let Some(message) = self.decoder.next_message()? {
                return Ok(message);
            }
            let count = self.stream.read(&mut buffer).await?;
            if count == 0 {
                return Err(StreamError::Closed);
            }
            self.decoder.push(&buffer[..count]);
        }
    }

    /// The stream and what was read beyond the last message.
    #[must_use]
    pub fn into_raw(self) -> (GuestStream, Vec<u8>) {
        (self.stream, self.decoder.into_rest())
    }
}
