//! A client's connection, shared by those who read it, write it, and wait for its end.
//!
//! Made by `serve`. HTTP is spoken on it until a session takes it over. Whoever streams an answer
//! asks [`Wire::ended`], because nobody reads the connection meanwhile.

use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use lighter_engine::io::unread_by_peer;
use rustix::net::{AddressFamily, RecvFlags, Shutdown, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// One connection; clones are the same connection, which closes with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct Wire(Arc<UnixStream>);

impl Wire {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Waits until the client has sent all it will ever send. Takes nothing from the connection.
    pub(crate) async fn ended(self) {
        let peek = || {
            let mut byte = [0];
            let (count, _) = rustix::net::recv(&*self.0, &mut byte, RecvFlags::PEEK)?;
            Ok(count)
        };
        loop {
            match self.0.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => {}
                _ => return,
            }
            match self.0.try_io(Interest::READABLE, peek) {
                // The next request is here already: this client is not gone.
                Ok(1..) => return std::future::pending().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    }
}

impl Wire {
    /// Waits until the client has read all that was sent to it, or is gone.
    ///
    /// For what must not reach it in one piece with what came before. Only a Unix socket tells of
    /// reads; the host's end of the link does the same for its own clients.
    pub(crate) async fn read_by_client(&self) {
        if sockopt::socket_domain(&*self.0) != Ok(AddressFamily::UNIX) {
            return;
        }
        let look = || match unread_by_peer(self.0.as_fd()) {
            // While it tells of the last bytes that were read, the kernel still counts one.
            Ok(0 | 1) => Ok(()),
            Ok(_) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        };
        // A failure is one of the connection, and the next write meets it too.
        let _ = self.0.async_io(Interest::WRITABLE, look).await;
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Wire {
    fn poll_written(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(context, |stream| stream.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&*self.0, Shutdown::Write).map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn end_is_seen_beside_a_reader_and_takes_no_byte() {
        let (client, server) = UnixStream::pair().unwrap();
        let mut client = client;
        let wire = Wire::new(server);
        let mut reader = wire.clone();
        client.write_all(b"x").await.unwrap();
        assert_eq!(reader.read_u8().await.unwrap(), b'x');
        let ended = tokio::spawn(wire.clone().ended());
        tokio::task::yield_now().await;
        assert!(!ended.is_finished());
        client.shutdown().await.unwrap();
        ended.await.unwrap();
        // The other way lives on.
        reader.write_all(b"y").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'y');
        reader.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_read_of_the_client_is_seen() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut wire = Wire::new(server);
        wire.write_all(b"head").await.unwrap();
        let waiting = wire.clone();
        let read = tokio::spawn(async move { waiting.read_by_client().await });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!read.is_finished());
        let mut bytes = [0; 64];
        assert_eq!(client.read(&mut bytes).await.unwrap(), 4);
        read.await.unwrap();
        wire.write_all(b"unread").await.unwrap();
        drop(client);
        wire.read_by_client().await;
    }

    #[tokio::test]
    async fn a_client_that_has_gone_is_seen() {
        let (client, server) = UnixStream::pair().unwrap();
        let ended = tokio::spawn(Wire::new(server).ended());
        drop(client);
        ended.await.unwrap();
    }
}
