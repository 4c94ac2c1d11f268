//! The asking end, for the command line.

use std::io;
use std::path::Path;

use lighter_platform::sys::{LocalStream, connect_local};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::{Event, MOST_LINE, Request};

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the daemon is not running")]
    NotRunning,
    /// The daemon was going down, and has ended now.
    #[error("the daemon ended")]
    Ended,
    /// The conversation broke off.
    #[error("the daemon broke off the conversation")]
    BrokenOff,
    /// The socket failed.
    #[error("cannot talk to the daemon")]
    Io(#[from] io::Error),
    /// A daemon of another build.
    #[error("the daemon said something this program does not understand (another version?)")]
    Strange(#[from] serde_json::Error),
}

/// A request on its way.
#[derive(Debug)]
pub struct Conversation {
    stream: BufReader<LocalStream>,
}

impl Conversation {
    /// Connects and asks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn start(socket: &Path, request: &Request) -> Result<Self, ClientError> {
        let stream = connect_local(socket)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::NotRunning
                }
                _ => ClientError::Io(error),
            })?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let mut this = Self {
            stream: BufReader::new(stream),
        };
        match this.next().await {
            Ok(Event::Hello { .. }) => {}
            Ok(Event::Ending) => {
                this.stream.write_all(&line).await?;
                return match request {
                    Request::Down { .. } | Request::Status => Ok(this),
                    _ => {
                        // The end of the connection is the end of the daemon.
                        while this.next().await.is_ok() {}
                        Err(ClientError::Ended)
                    }
                };
            }
            // Taken by the queue of a daemon that was dying: nobody heard the request.
            Ok(_) | Err(ClientError::BrokenOff | ClientError::Io(_)) => {
                return Err(ClientError::NotRunning);
            }
            Err(error) => return Err(error),
        }
        match this.stream.write_all(&line).await {
            Ok(()) => Ok(this),
            // Killed between its first word and now.
            Err(_) => Err(ClientError::NotRunning),
        }
    }

    /// The next that comes back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        let mut line = Vec::new();
        let most = MOST_LINE as u64;
        (&mut self.stream)
            .take(most)
            .read_until(b'\n', &mut line)
            .await?;
        if line.last() != Some(&b'\n') {
            return Err(ClientError::BrokenOff);
        }
        Ok(serde_json::from_slice(&line)?)
    }
}
