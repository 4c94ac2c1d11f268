//! Carries a connection's bytes both ways, each direction to its own end, and what breaks one off to the other side:
//! a container's reset is its client's, and the other way round.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, watch};

/// What is read at once: enough that the kernel's cost of a call does not matter.
const BUFFER: usize = 128 << 10;
/// Buffers that nobody uses and that are kept all the same.
const SPARE: usize = 32;

/// How long a client may take to read what a container said that has ended, and a container what a client said that
/// has gone.
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
    /// Has the other end see that this was broken off: what is dropped then without having been ended was.
    fn break_off(&self);
    /// Whether the other end, of whom everything was read, broke it off; to be asked before this end is ended.
    fn is_broken_off(&self) -> bool;
}

macro_rules! stream {
    ($kind:ty, $break_off:expr, $is_broken_off:expr) => {
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
            fn is_broken_off(&self) -> bool {
                $is_broken_off(self)
            }
        }
    };
}

stream!(
    TcpStream,
    |stream: &TcpStream| {
        // One that cannot be reset is closed.
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    },
    // That is an error of reading.
    |_: &TcpStream| false
);
// The host's device resets whoever is behind a stream that is closed before it is ended; see `lighter-vmm`. It tells of
// resets by not taking anything any more: one that has only ended what it says still does.
stream!(UnixStream, |_: &UnixStream| {}, |stream: &UnixStream| {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::send(stream, &[], flags).is_err()
});

/// What went wrong, and at which end.
enum Fault {
    Reading(io::Error),
    Writing(io::Error),
}

impl Fault {
    fn error(self) -> io::Error {
        let (Self::Reading(error) | Self::Writing(error)) = self;
        error
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// What one direction has to know of the other.
#[derive(Debug, Default)]
struct Between {
    /// Nothing more will come of the container.
    over: Notify,
    /// The container broke off.
    is_reset: AtomicBool,
    /// The client was told that the container has said all.
    is_answered: AtomicBool,
    /// The client takes nothing any more.
    left: Notify,
}

/// Carries until both directions have ended, one end breaks off, or the container has `ended`. What either end said
/// before is passed on then too.
pub(super) async fn carry(
    client: impl Stream,
    container: impl Stream,
    ended: watch::Receiver<bool>,
) {
    let between = Between::default();
    let back = async {
        match answer(&container, &client, &between).await {
            Err(Fault::Writing(error)) => {
                between.left.notify_one();
                Ok(Some(error))
            }
            answered => answered.map(|()| None),
        }
    };
    let (mut ended, mut told) = (ended.clone(), ended);
    let forth = async {
        tokio::select! {
            asked = ask(&client, &container, &between) => match asked {
                Err(Fault::Writing(error)) => {
                    // Of one that ended before it left this is another error.
                    let is_reset = error.kind() == io::ErrorKind::ConnectionReset;
                    between.is_reset.store(is_reset, Ordering::Relaxed);
                    between.over.notify_one();
                    Ok(None)
                }
                asked => asked.map(|()| None),
            },
            // What a client says then is for nobody. An error says that nobody can tell any more, which is an end too.
            _ = ended.wait_for(|ended| *ended) => Ok(None),
        }
    };
    let late = async {
        tokio::select! {
            // Heard also when the client has said all.
            _ = told.wait_for(|ended| *ended) => between.over.notify_one(),
            () = between.left.notified() => {}
        }
        // Whoever does not read is not waited for.
        tokio::time::sleep(LAST_WORDS).await;
        io::Error::from(io::ErrorKind::TimedOut)
    };
    let broken = tokio::select! {
        carried = async { tokio::try_join!(back, forth) } => match carried {
            Ok((back, forth)) => back.or(forth),
            Err(fault) => Some(fault.error()),
        },
        late = late => Some(late),
    };
    if let Some(error) = broken {
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
    let Err(fault) = write_all(&container, &early).await else {
        return carry(client, container, ended).await;
    };
    // It may have said why it does not listen.
    let between = Between::default();
    let is_reset = fault.error().kind() == io::ErrorKind::ConnectionReset;
    between.is_reset.store(is_reset, Ordering::Relaxed);
    if drain(&container, &client, &between).await.is_err() {
        client.break_off();
    }
}

/// From the container to the client. Nothing that was read is lost: between reading and writing it is not left.
async fn answer(from: &impl Stream, to: &impl Stream, between: &Between) -> Result<(), Fault> {
    loop {
        tokio::select! {
            readable = from.readable() => readable.map_err(Fault::Reading)?,
            () = between.over.notified() => return drain(from, to, between).await,
        }
        if move_some(from, to).await? == Some(0) {
            // Whoever wrote to it may have been told of its reset in place of this.
            if between.is_reset.load(Ordering::Relaxed) {
                return Err(Fault::Reading(reset()));
            }
            return answered(to, between);
        }
    }
}

fn answered(to: &impl Stream, between: &Between) -> Result<(), Fault> {
    between.is_answered.store(true, Ordering::Relaxed);
    end(to)
}

/// From the client to the container.
async fn ask(from: &impl Stream, to: &impl Stream, between: &Between) -> Result<(), Fault> {
    loop {
        from.readable().await.map_err(Fault::Reading)?;
        if move_some(from, to).await? == Some(0) {
            let is_answered = between.is_answered.load(Ordering::Relaxed);
            if !is_answered && from.is_broken_off() {
                return Err(Fault::Reading(reset()));
            }
            return end(to);
        }
    }
}

/// What a container said before it ended, and the end.
async fn drain<F: Stream>(from: &F, to: &impl Stream, between: &Between) -> Result<(), Fault> {
    loop {
        match move_what(from, to, F::read_now).await? {
            Some(0) if between.is_reset.load(Ordering::Relaxed) => break,
            Some(0) => return answered(to, between),
            Some(_) => {}
            None => break,
        }
    }
    Err(Fault::Reading(reset()))
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

    /// The two ends of a connection of TCP.
    async fn tcp() -> (TcpStream, TcpStream) {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let one = TcpStream::connect(server.local_addr().unwrap());
        let (one, other) = tokio::join!(one, server.accept());
        (one.unwrap(), other.unwrap().0)
    }

    async fn carried_by_tcp() -> (TcpStream, TcpStream, watch::Sender<bool>) {
        let ((client, client_end), (container, container_end)) = (tcp().await, tcp().await);
        let (ends, ended) = watch::channel(false);
        tokio::spawn(carry(client_end, container_end, ended));
        (client, container, ends)
    }

    /// What is read, and how that ends.
    async fn read(stream: &mut TcpStream) -> (Vec<u8>, Option<io::ErrorKind>) {
        let mut all = Vec::new();
        let end = stream.read_to_end(&mut all).await;
        (all, end.err().map(|error| error.kind()))
    }

    const RESET: Option<io::ErrorKind> = Some(io::ErrorKind::ConnectionReset);

    #[tokio::test]
    async fn a_reset_of_either_end_is_the_others_behind_what_was_said() {
        for from_client in [true, false] {
            let (client, container, _ends) = carried_by_tcp().await;
            let (mut says, mut hears) = match from_client {
                true => (client, container),
                false => (container, client),
            };
            says.write_all(b"half of it").await.unwrap();
            says.break_off();
            drop(says);
            assert_eq!(read(&mut hears).await, (b"half of it".to_vec(), RESET));
        }
    }

    #[tokio::test]
    async fn a_container_that_leaves_unread_what_it_was_asked_resets_its_client() {
        let (mut client, mut container, _ends) = carried_by_tcp().await;
        client.write_all(b"question").await.unwrap();
        container.readable().await.unwrap();
        container.write_all(b"no").await.unwrap();
        drop(container);
        assert_eq!(read(&mut client).await, (b"no".to_vec(), RESET));
    }

    /// Also where it is heard by whoever writes to it, as the client has much to read yet.
    #[tokio::test]
    async fn a_reset_of_a_container_is_none_of_its_ends_to_a_client_that_is_behind() {
        let (mut client, container, _ends) = carried_by_tcp().await;
        // Until all that is between them is full.
        let mut refusals = 0;
        while refusals < 1_000 {
            refusals = match container.try_write(&[b'x'; 1 << 16]) {
                Ok(_) => 0,
                Err(_) => refusals + 1,
            };
            tokio::task::yield_now().await;
        }
        container.break_off();
        drop(container);
        client.write_all(b"question").await.unwrap();
        let (said, end) = read(&mut client).await;
        assert!(!said.is_empty());
        assert_eq!(end, RESET);
    }

    /// Where both come at once, the end that is left of the reset is not taken for the container's own.
    #[tokio::test]
    async fn a_reset_that_the_other_direction_was_told_of_is_no_end() {
        let (mut client, client_end) = UnixStream::pair().unwrap();
        let (container, container_end) = UnixStream::pair().unwrap();
        let between = Between::default();
        between.is_reset.store(true, Ordering::Relaxed);
        drop(container);
        let answered = answer(&container_end, &client_end, &between).await;
        assert!(matches!(answered, Err(Fault::Reading(_))));
        drop(client_end);
        assert_eq!(read_all(&mut client).await, b"");
    }

    #[tokio::test]
    async fn a_container_that_has_said_all_and_leaves_resets_nobody() {
        let (mut client, mut container, _ends) = carried_by_tcp().await;
        container.write_all(b"all of it").await.unwrap();
        container.shutdown().await.unwrap();
        assert_eq!(read(&mut client).await, (b"all of it".to_vec(), None));
        drop(container);
        // Its going is seen by writing alone.
        while client.write_all(b"more").await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_client_of_the_hosts_that_leaves_without_an_end_is_a_reset_to_the_container() {
        for ends_first in [true, false] {
            let (mut client, client_end) = UnixStream::pair().unwrap();
            let (mut container, container_end) = tcp().await;
            let (_ends, ended) = watch::channel(false);
            let carries = tokio::spawn(carry(client_end, container_end, ended));
            client.write_all(b"half of it").await.unwrap();
            if ends_first {
                client.shutdown().await.unwrap();
            } else {
                drop(client);
            }
            let end = RESET.filter(|_| !ends_first);
            assert_eq!(read(&mut container).await, (b"half of it".to_vec(), end));
            drop(container);
            carries.await.unwrap();
        }
    }

    /// What makes the host's device reset the client: it is closed before it was ended.
    #[tokio::test]
    async fn a_client_of_the_hosts_is_not_told_of_an_end_that_was_none() {
        for ends_first in [true, false] {
            let (mut client, client_end) = UnixStream::pair().unwrap();
            let (mut container, container_end) = tcp().await;
            let (_ends, ended) = watch::channel(false);
            tokio::spawn(carry(client_end, container_end, ended));
            container.write_all(b"said").await.unwrap();
            if ends_first {
                container.shutdown().await.unwrap();
            } else {
                container.break_off();
                drop(container);
            }
            assert_eq!(read_all(&mut client).await, b"said");
            assert_eq!(client.is_broken_off(), !ends_first);
        }
    }
}
