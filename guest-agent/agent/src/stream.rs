//! Messages over one stream.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use lighter_protocol::{Decoder, Message, MessageError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// What can happen while reading or writing a message.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The stream broke.
    #[error("the stream to the host broke: {0}")]
    Io(#[from] io::Error),
    /// The host closed it.
    #[error("the host closed the stream")]
    Closed,
    /// What came is no message.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// A stream with its decoder.
#[derive(Debug)]
pub struct MessageStream {
    stream: UnixStream,
    decoder: Decoder,
}

impl MessageStream {
    /// Messages over this stream.
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
        }
    }

    /// Writes one message.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), StreamError> {
        let bytes = message.into().encode()?;
        self.stream.write_all(&bytes).await?;
        Ok(())
    }

    /// The next message. Loses nothing when it is dropped while waiting.
    pub async fn receive(&mut self) -> Result<Message, StreamError> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message()? {
                return Ok(message);
            }
            let count = self.stream.read(&mut buffer).await?;
            match buffer.get(..count) {
                Some([]) | None => return Err(StreamError::Closed),
                Some(bytes) => self.decoder.push(bytes),
            }
        }
    }

    /// The socket.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Ends what this side says.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// The stream, and what was read beyond the last message.
    pub fn into_raw(self) -> (UnixStream, Vec<u8>) {
        (self.stream, self.decoder.into_rest())
    }
}
