//! Carries a connection's bytes both ways, each direction to its own end.

use std::future::Future;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, watch};

/// What is read at once: enough that the kernel's cost of a call does not matter.
const BUFFER: usize = 128 << 10;
/// Buffers that nobody uses and that are kept all the same.
const SPARE: usize = 32;

/// How long a client may take to read what a container said that has ended.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Buffers for whoever has something to read: a connection that is silent has none.
static BUFFERS: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A stream whose readiness can be waited for without a buffer.
pub trait Stream: Send + Sync + 'static {
    /// Until there is something to read, or its end.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock` where that is nothing, and what the kernel says.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Reads what the kernel has, which may be more than was heard of.
    ///
    /// # Errors
    /// As [`Stream::try_read`].
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Until there is room to write.
    fn writable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Writes as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` where that is nothing, and what the kernel says.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Ends the direction in which it is written.
    ///
    /// # Errors
    /// The other end has gone.
    fn end(&self) -> io::Result<()>;
    /// Lets the other end see that this was broken off, where that can be said.
    fn break_off(&self);
}

macro_rules! stream {
    ($kind:ty, $break_off:expr) => {
        impl Stream for $kind {
            fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
                <$kind>::readable(self)
            }
            fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                <$kind>::try_read(self, buffer)
            }
            fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
                let (count, _) = rustix::net::recv(self, buffer, RecvFlags::DONTWAIT)?;
                Ok(count)
            }
            fn writable(&self) -> impl Future<Output = io::Result<()>> + Send {
                <$kind>::writable(self)
            }
            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                <$kind>::try_write(self, bytes)
            }
            fn end(&self) -> io::Result<()> {
                Ok(rustix::net::shutdown(self, rustix::net::Shutdown::Write)?)
            }
            fn break_off(&self) {
                $break_off(self);
            }
        }
    };
}

stream!(TcpStream, |stream: &TcpStream| {
    // One that cannot be reset is closed.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
});
stream!(UnixStream, |_: &UnixStream| {});

/// What went wrong, and at which end.
enum Fault {
    Reading(io::Error),
    Writing(io::Error),
}

/// Carries until both directions have ended, one end fails, or the container has `ended`: what it said is passed on
/// then too.
pub(super) async fn carry(
    client: impl Stream,
    container: impl Stream,
    ended: watch::Receiver<bool>,
) {
    // Nothing more will come of the container.
    let over = Notify::new();
    let back = answer(&container, &client, &over);
    let (mut ended, mut told) = (ended.clone(), ended);
    let forth = async {
        tokio::select! {
            pumped = pump(&client, &container) => match pumped {
                Err(Fault::Writing(_)) => {
                    over.notify_one();
                    Ok(())
                }
                pumped => pumped,
            },
            // What a client says then is for nobody. An error says that nobody can tell any more, which is an end too.
            _ = ended.wait_for(|ended| *ended) => Ok(()),
        }
    };
    // Heard also when the client has said all; and whoever does not read is not waited for.
    let end = async {
        let _ = told.wait_for(|ended| *ended).await;
        over.notify_one();
        tokio::time::sleep(LAST_WORDS).await;
        Err(Fault::Writing(io::ErrorKind::TimedOut.into()))
    };
    let carried = tokio::select! {
        carried = async { tokio::try_join!(back, forth).map(drop) } => carried,
        late = end => late,
    };
    if let Err(Fault::Reading(error) | Fault::Writing(error)) = carried {
        tracing::trace!(%error, "a connection is broken off");
        client.break_off();
        container.break_off();
    }
}

/// The same for a client of whom something was read already.
pub(super) async fn carry_from(
    early: Vec<u8>,
    client: impl Stream,
    container: impl Stream,
    ended: watch::Receiver<bool>,
) {
    match write_all(&container, &early).await {
        Ok(()) => carry(client, container, ended).await,
        Err(Fault::Reading(_) | Fault::Writing(_)) => {
            // It may have said why it does not listen.
            let _ = drain(&container, &client).await;
            client.break_off();
        }
    }
}

/// From the container to the client. Nothing that was read is lost: between reading and writing it is not left.
async fn answer(from: &impl Stream, to: &impl Stream, over: &Notify) -> Result<(), Fault> {
    loop {
        tokio::select! {
            readable = from.readable() => readable.map_err(Fault::Reading)?,
            () = over.notified() => return drain(from, to).await,
        }
        if move_some(from, to).await? == Some(0) {
            return end(to);
        }
    }
}

/// One direction, to its end.
async fn pump(from: &impl Stream, to: &impl Stream) -> Result<(), Fault> {
    loop {
        from.readable().await.map_err(Fault::Reading)?;
        if move_some(from, to).await? == Some(0) {
            return end(to);
        }
    }
}

/// What a container said before it ended, and the end.
async fn drain<F: Stream>(from: &F, to: &impl Stream) -> Result<(), Fault> {
    loop {
        match move_what(from, to, F::read_now).await? {
            Some(0) => return end(to),
            Some(_) => {}
            None => return Err(Fault::Reading(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

fn end(to: &impl Stream) -> Result<(), Fault> {
    // Whoever has gone needs no end.
    let _ = to.end();
    Ok(())
}

/// Moves what is there; nothing where there is nothing yet, zero at the end.
async fn move_some<F: Stream>(from: &F, to: &impl Stream) -> Result<Option<usize>, Fault> {
    move_what(from, to, F::try_read).await
}

async fn move_what<F: Stream>(
    from: &F,
    to: &impl Stream,
    read: impl Fn(&F, &mut [u8]) -> io::Result<usize>,
) -> Result<Option<usize>, Fault> {
    let mut buffer = Buffer::take();
    let bytes = match read(from, &mut buffer.0) {
        Ok(count) => buffer.0.get(..count).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(Fault::Reading(error)),
    };
    write_all(to, bytes).await?;
    Ok(Some(bytes.len()))
}

async fn write_all(to: &impl Stream, bytes: &[u8]) -> Result<(), Fault> {
    let mut left = bytes;
    while !left.is_empty() {
        match to.try_write(left) {
            Ok(count) => left = left.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                to.writable().await.map_err(Fault::Writing)?;
            }
            Err(error) => return Err(Fault::Writing(error)),
        }
    }
    Ok(())
}

/// A buffer, which others get when it is dropped.
struct Buffer(Box<[u8]>);

impl Buffer {
    fn take() -> Self {
        let spare = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(spare.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice()))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(std::mem::take(&mut self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn carried() -> (UnixStream, UnixStream, watch::Sender<bool>) {
        let (client, client_end) = UnixStream::pair().unwrap();
        let (container, container_end) = UnixStream::pair().unwrap();
        let (ends, ended) = watch::channel(false);
        tokio::spawn(carry(client_end, container_end, ended));
        (client, container, ends)
    }

    async fn read_all(stream: &mut UnixStream) -> Vec<u8> {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn each_direction_has_its_own_end() {
        let (mut client, mut container, _ends) = carried();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut container).await, b"question");
        container.write_all(b"answer").await.unwrap();
        drop(container);
        assert_eq!(read_all(&mut client).await, b"answer");
    }

    #[tokio::test]
    async fn what_a_container_said_before_it_ended_arrives_whole() {
        let (mut client, mut container, ends) = carried();
        // More than every buffer on the way, so that the end comes in the middle of a write.
        let said: Vec<u8> = (0..4_u32 << 20).map(|n| (n % 251) as u8).collect();
        let expected = said.clone();
        let writer = tokio::spawn(async move {
            container.write_all(&said).await.unwrap();
            drop(container);
            ends.send_replace(true);
        });
        assert!(read_all(&mut client).await == expected, "something is lost");
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_has_said_all_does_not_wait_for_a_container_that_ended() {
        let (mut client, _container, ends) = carried();
        client.shutdown().await.unwrap();
        ends.send_replace(true);
        assert_eq!(read_all(&mut client).await, b"");
    }

    #[tokio::test]
    async fn a_container_that_ended_does_not_keep_its_clients() {
        let (mut client, _container, ends) = carried();
        ends.send_replace(true);
        assert_eq!(read_all(&mut client).await, b"");
    }

    #[tokio::test]
    async fn a_client_that_has_gone_does_not_keep_a_silent_container() {
        let (client, mut container, _ends) = carried();
        // Unread bytes make its going a reset.
        container.write_all(b"x").await.unwrap();
        client.readable().await.unwrap();
        drop(client);
        assert_eq!(read_all(&mut container).await, b"");
    }
}
