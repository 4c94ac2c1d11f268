//! What the engine wants of the host: connections to registries, and folders.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lighter_engine::config::{HostShares, ShareError};
use lighter_images::{DialPurpose, DialTarget, Dialer, Stream};
use lighter_init::vsock;
use lighter_protocol as protocol;
use lighter_protocol::port::{HOST, HOST_CID};
use lighter_protocol::{
    ActivateShare, Dial, Failed, FailedCode, Message, Open, Opened, Request, Secret,
};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::places::Places;
use crate::shares;
use crate::stream::{MessageStream, StreamError};

/// The host's own limits (resolving, connecting) are shorter; this is for a host that is gone.
const PATIENCE: Duration = Duration::from_secs(90);

/// How much is asked at once.
const AT_ONCE: usize = 32;

/// Asks the host over streams that the guest opens.
#[derive(Debug, Clone)]
pub struct HostLink {
    secret: Secret,
    places: Arc<Places>,
    /// The host turns away whom it has not answered when there are too many of them.
    turns: Arc<Semaphore>,
}

/// Why the host did not do it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The link failed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The host said no.
    #[error("{}", .0.message)]
    Failed(Failed),
    /// The host answered something else.
    #[error("the host answered with `{0}`")]
    Unexpected(&'static str),
    /// The host did not answer.
    #[error("the host did not answer within {} seconds", PATIENCE.as_secs())]
    Timeout,
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Stream(error.into())
    }
}

impl From<LinkError> for io::Error {
    fn from(error: LinkError) -> Self {
        let kind = match &error {
            LinkError::Stream(_) | LinkError::Unexpected(_) => io::ErrorKind::ConnectionAborted,
            LinkError::Timeout => io::ErrorKind::TimedOut,
            LinkError::Failed(failed) => match failed.code {
                FailedCode::Denied => io::ErrorKind::PermissionDenied,
                FailedCode::NotFound | FailedCode::Resolve => io::ErrorKind::NotFound,
                FailedCode::ConnectionRefused => io::ErrorKind::ConnectionRefused,
                FailedCode::Unreachable => io::ErrorKind::HostUnreachable,
                FailedCode::Timeout => io::ErrorKind::TimedOut,
                FailedCode::Busy => io::ErrorKind::ResourceBusy,
                FailedCode::Unsupported => io::ErrorKind::Unsupported,
                _ => io::ErrorKind::Other,
            },
        };
        Self::new(kind, error)
    }
}

impl HostLink {
    /// A link that proves itself with this secret.
    pub fn new(secret: Secret, places: Arc<Places>) -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self {
            secret,
            places,
            turns,
        }
    }

    /// Asks for something; the stream on which it was granted.
    ///
    /// # Errors
    /// The host is not there, or says no.
    pub async fn open(&self, request: Request) -> Result<(MessageStream, Opened), LinkError> {
        tokio::time::timeout(PATIENCE, self.converse(request))
            .await
            .map_err(|_| LinkError::Timeout)?
    }

    async fn converse(&self, request: Request) -> Result<(MessageStream, Opened), LinkError> {
        let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
        let mut stream = MessageStream::new(self.connect().await?);
        stream
            .send(Open {
                secret: self.secret.clone(),
                request,
            })
            .await?;
        match stream.receive().await? {
            Message::Opened(opened) => Ok((stream, opened)),
            Message::Failed(failed) => Err(LinkError::Failed(failed)),
            other => Err(LinkError::Unexpected(other.name())),
        }
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        if let Some(played) = &self.places.played_host {
            return UnixStream::connect(played).await;
        }
        // Nobody waits for the host on a thread: others may need them all.
        let connecting = vsock::connect(HOST_CID, HOST).map_err(io::Error::from)?;
        let stream = UnixStream::from_std(StdUnixStream::from(connecting))?;
        stream.writable().await?;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    async fn dial_host(&self, dial: Dial) -> Result<Box<dyn Stream>, LinkError> {
        let (stream, opened) = self.open(Request::Dial(dial)).await?;
        if !matches!(opened, Opened::Dial { .. }) {
            return Err(LinkError::Unexpected("Opened"));
        }
        let (stream, early) = stream.into_raw();
        if early.is_empty() {
            return Ok(Box::new(stream));
        }
        // The other end spoke first, in the same breath as the host.
        let (reader, writer) = stream.into_split();
        let reader = tokio::io::AsyncReadExt::chain(io::Cursor::new(early), reader);
        Ok(Box::new(tokio::io::join(reader, writer)))
    }

    async fn activate_on_host(&self, path: &Path, read_only: bool) -> Result<PathBuf, ShareError> {
        let wanted = path
            .to_str()
            .ok_or_else(|| ShareError::Denied(format!("{} is no text", path.display())))?;
        let share = ActivateShare {
            path: wanted.to_owned(),
            read_only,
            create: false,
        };
        match self.open(Request::ActivateShare(share)).await {
            Ok((_, Opened::Share { path, .. })) => shares::resolve(&self.places, &path)
                .ok_or_else(|| ShareError::Unavailable(format!("it answered with `{path}`"))),
            Ok(_) => Err(ShareError::Unavailable(
                "it answered something else".to_owned(),
            )),
            Err(LinkError::Failed(failed)) => Err(match failed.code {
                FailedCode::NotFound => ShareError::Missing(path.to_owned()),
                FailedCode::Denied => ShareError::Denied(failed.message),
                _ => ShareError::Unavailable(failed.message),
            }),
            Err(error) => Err(ShareError::Unavailable(error.to_string())),
        }
    }
}

impl Dialer for HostLink {
    fn dial<'a>(
        &'a self,
        target: &'a DialTarget,
        purpose: &'a DialPurpose,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let dial = Dial {
            host: target.host.clone(),
            port: target.port,
            tls: target.tls,
            purpose: protocol::DialPurpose::Registry {
                user_named: purpose.user_named,
                registry: purpose.registry.clone(),
            },
        };
        Box::pin(async move { Ok(self.dial_host(dial).await?) })
    }
}

impl HostShares for HostLink {
    fn activate<'a>(
        &'a self,
        path: &'a Path,
        read_only: bool,
    ) -> BoxFuture<'a, Result<PathBuf, ShareError>> {
        Box::pin(self.activate_on_host(path, read_only))
    }
}

/// The host's folders where host and guest are one: natively a path is itself.
#[derive(Debug)]
pub struct SamePaths;

impl HostShares for SamePaths {
    fn activate<'a>(
        &'a self,
        path: &'a Path,
        _read_only: bool,
    ) -> BoxFuture<'a, Result<PathBuf, ShareError>> {
        Box::pin(async move {
            if path.exists() {
                Ok(path.to_owned())
            } else {
                Err(ShareError::Missing(path.to_owned()))
            }
        })
    }
}
