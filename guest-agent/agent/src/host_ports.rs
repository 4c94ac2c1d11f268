//! Ports that the host listens on for containers: one stream each container, which lasts as long as they do.
//!
//! Called by: the engine. Calls: [`host_link`](crate::host_link).
//! Must never: take a port for free that the host still has: a stream is closed by both sides.

use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use lighter_engine::config::BoxFuture;
use lighter_engine::ports::{HostLease, HostPorts, PortError};
use lighter_protocol::{Bind, FailedCode, Message, Opened, Publish, Request, Transport};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::host_link::{HostLink, LinkError};
use crate::stream::{MessageStream, StreamError};

/// How long a host that is there may take to listen.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long it may take to cease.
const CLOSING: Duration = Duration::from_secs(2);

/// The host's own ports.
#[derive(Debug)]
pub struct OnHost {
    link: HostLink,
    /// Counts hosts that said hello.
    hosts: watch::Receiver<u64>,
}

impl OnHost {
    /// Those that are reached by this link.
    pub fn new(link: HostLink, hosts: watch::Receiver<u64>) -> Self {
        Self { link, hosts }
    }

    async fn publish(&self, id: &str, name: &str) -> Result<Box<dyn HostLease>, PortError> {
        let publish = Publish {
            id: id.to_owned(),
            name: name.to_owned(),
        };
        match self.link.open(Request::Publish(publish)).await {
            Ok((stream, Opened::Publish)) => Ok(Box::new(Lease(stream))),
            // A host that is there and does not do it: nobody comes back who would.
            Ok(_) => Err(PortError::Refused(
                "the host answered something else".into(),
            )),
            Err(LinkError::Failed(failed)) => Err(PortError::Refused(failed.message)),
            Err(error @ LinkError::Unexpected(_)) => Err(PortError::Refused(error.to_string())),
            Err(error) => Err(PortError::Unavailable(error.to_string())),
        }
    }
}

impl HostPorts for OnHost {
    fn open<'a>(
        &'a self,
        id: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn HostLease>, PortError>> {
        Box::pin(self.publish(id, name))
    }

    fn resume(&self, kept: OwnedFd) -> Result<Box<dyn HostLease>, PortError> {
        let stream = StdUnixStream::from(kept);
        let watched = stream
            .set_nonblocking(true)
            .and_then(|()| UnixStream::from_std(stream));
        let stream = watched.map_err(|error| PortError::Unavailable(error.to_string()))?;
        Ok(Box::new(Lease(MessageStream::new(stream))))
    }

    fn returned(&self) -> BoxFuture<'_, ()> {
        let mut hosts = self.hosts.clone();
        hosts.mark_unchanged();
        Box::pin(async move {
            if hosts.changed().await.is_err() {
                // The agent ends.
                std::future::pending::<()>().await;
            }
        })
    }
}

/// A stream by which the host listens.
#[derive(Debug)]
struct Lease(MessageStream);

impl Lease {
    async fn ask(&mut self, bind: Bind) -> Result<(), PortError> {
        let gone = |error: StreamError| PortError::Unavailable(error.to_string());
        let number = bind.number;
        let answer = async {
            self.0.send(bind).await?;
            self.0.receive().await
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let slow = |_| PortError::Unavailable("it is too slow".into());
        match answer.map_err(slow)?.map_err(gone)? {
            Message::Bound(bound) if bound.number == number => match bound.failed {
                None => Ok(()),
                Some(failed) if failed.code == FailedCode::InUse => {
                    Err(PortError::InUse(failed.message))
                }
                Some(failed) => Err(PortError::Refused(failed.message)),
            },
            other => Err(PortError::Unavailable(format!(
                "it answered with `{}`",
                other.name()
            ))),
        }
    }

    /// Reads to the end; what comes before it is nothing that was asked for.
    async fn end(&mut self) {
        while self.0.receive().await.is_ok() {}
    }
}

impl HostLease for Lease {
    fn bind<'a>(
        &'a mut self,
        number: u32,
        transport: Transport,
        addresses: &'a [IpAddr],
        port: u16,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(self.ask(Bind {
            number,
            transport,
            addresses: addresses.to_vec(),
            port,
        }))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.descriptor())
    }

    fn gone(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // The host closes its end when nobody listens any more.
            let closed = async {
                if self.0.finish().await.is_ok() {
                    self.end().await;
                }
            };
            // One that does not answer closes them when it reads the end.
            let _ = tokio::time::timeout(CLOSING, closed).await;
        })
    }
}
