//! Where a container's output meets the clients that are attached to it.
//!
//! The one who reads the container asks for [`Hub::room`] before each read and then never waits:
//! a client that is slow holds the container up once a mebibyte waits for it, as in dockerd, and
//! costs little more memory than that, in however small pieces the container writes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, watch};

use super::Stdin;
use crate::logs::StreamKind;

/// Bytes that may wait for one client before the container is held up.
const BEHIND: usize = 1 << 20;

/// Pieces that wait are joined up to this size.
const JOINED: usize = 16 << 10;
/// What a piece costs beside its bytes.
const PIECE: usize = 128;

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Which output.
    pub stream: StreamKind,
    /// The bytes.
    pub bytes: Bytes,
}

/// The clients of one container or exec.
#[derive(Debug)]
pub struct Hub {
    clients: Mutex<Vec<Arc<Client>>>,
    room: Notify,
    stdin: watch::Sender<Option<Arc<Stdin>>>,
}

#[derive(Debug)]
struct Client {
    stdout: bool,
    stderr: bool,
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<OutputChunk>,
    /// What they cost.
    bytes: usize,
    ended: bool,
    gone: bool,
}

impl Queue {
    fn push(&mut self, stream: StreamKind, bytes: &Bytes) {
        let last = self.chunks.back_mut();
        let fitting =
            last.filter(|last| last.stream == stream && last.bytes.len() + bytes.len() <= JOINED);
        if let Some(last) = fitting {
            let mut joined = BytesMut::from(std::mem::take(&mut last.bytes));
            joined.extend_from_slice(bytes);
            last.bytes = joined.freeze();
            self.bytes += bytes.len();
            return;
        }
        self.bytes += bytes.len() + PIECE;
        self.chunks.push_back(OutputChunk {
            stream,
            bytes: bytes.clone(),
        });
    }

    fn pop(&mut self) -> Option<OutputChunk> {
        let chunk = self.chunks.pop_front()?;
        self.bytes -= chunk.bytes.len() + PIECE;
        Some(chunk)
    }
}

/// One client's end.
#[derive(Debug)]
pub struct Output {
    client: Arc<Client>,
    hub: Arc<Hub>,
}

impl Hub {
    /// One without clients, whose container does not run.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            clients: Mutex::default(),
            room: Notify::new(),
            stdin: watch::channel(None).0,
        })
    }

    /// Registers a client; it gets everything that is sent from now on.
    pub fn attach(self: &Arc<Self>, stdout: bool, stderr: bool) -> Output {
        let client = Arc::new(Client {
            stdout,
            stderr,
            queue: Mutex::default(),
            news: Notify::new(),
        });
        lock(&self.clients).push(Arc::clone(&client));
        Output {
            client,
            hub: Arc::clone(self),
        }
    }

    /// Gives `bytes` to every client that wants them.
    pub(crate) fn send(&self, stream: StreamKind, bytes: &Bytes) {
        if bytes.is_empty() {
            return;
        }
        lock(&self.clients).retain(|client| {
            let mut queue = lock(&client.queue);
            if queue.gone {
                return false;
            }
            let wanted = match stream {
                StreamKind::Stdout => client.stdout,
                StreamKind::Stderr => client.stderr,
            };
            if wanted {
                queue.push(stream, bytes);
                client.news.notify_one();
            }
            true
        });
    }

    /// Waits until no client is too far behind.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.room.notified();
            tokio::pin!(freed);
            // Registered before the look, so that room made in between is not missed.
            freed.as_mut().enable();
            let crowded = lock(&self.clients).iter().any(|client| {
                let queue = lock(&client.queue);
                !queue.gone && queue.bytes >= BEHIND
            });
            if !crowded {
                return;
            }
            freed.await;
        }
    }

    /// Ends every client after what it still has to get: the run is over.
    pub fn end(&self) {
        self.stdin.send_replace(None);
        for client in lock(&self.clients).drain(..) {
            lock(&client.queue).ended = true;
            client.news.notify_one();
        }
    }

    /// Sets where clients' input goes.
    pub fn set_stdin(&self, stdin: Option<Arc<Stdin>>) {
        self.stdin.send_replace(stdin);
    }

    /// Where clients' input goes: there once the container runs.
    pub fn stdin(&self) -> watch::Receiver<Option<Arc<Stdin>>> {
        self.stdin.subscribe()
    }
}

impl Output {
    /// The next piece; none when the container has ended and everything was taken.
    pub async fn next(&mut self) -> Option<OutputChunk> {
        loop {
            let news = self.client.news.notified();
            {
                let mut queue = lock(&self.client.queue);
                let before = queue.bytes;
                if let Some(chunk) = queue.pop() {
                    if before >= BEHIND && queue.bytes < BEHIND {
                        self.hub.room.notify_waiters();
                    }
                    return Some(chunk);
                }
                if queue.ended {
                    return None;
                }
            }
            news.await;
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        lock(&self.client.queue).gone = true;
        lock(&self.hub.clients).retain(|client| !Arc::ptr_eq(client, &self.client));
        self.hub.room.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_get_what_they_asked_for_and_then_the_end() {
        let hub = Hub::new();
        let mut both = hub.attach(true, true);
        let mut errors = hub.attach(false, true);
        hub.send(StreamKind::Stdout, &Bytes::from_static(b"out"));
        hub.send(StreamKind::Stderr, &Bytes::from_static(b"err"));
        hub.end();
        assert_eq!(both.next().await.unwrap().bytes, "out");
        assert_eq!(both.next().await.unwrap().stream, StreamKind::Stderr);
        assert_eq!(both.next().await, None);
        assert_eq!(errors.next().await.unwrap().bytes, "err");
        assert_eq!(errors.next().await, None);
    }

    #[tokio::test]
    async fn a_slow_client_makes_the_reader_wait_and_a_gone_one_does_not() {
        let hub = Hub::new();
        let mut slow = hub.attach(true, true);
        hub.send(StreamKind::Stdout, &Bytes::from(vec![0; BEHIND]));
        let waiting = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move { hub.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        slow.next().await.unwrap();
        waiting.await.unwrap();
        hub.send(StreamKind::Stdout, &Bytes::from(vec![0; BEHIND]));
        drop(slow);
        hub.room().await;
    }

    /// What a client that takes nothing holds when the container is held up: pieces and bytes.
    fn held(write: impl Fn(&Hub, usize)) -> (usize, usize) {
        let hub = Hub::new();
        let slow = hub.attach(true, true);
        let mut turn = 0;
        while lock(&slow.client.queue).bytes < BEHIND {
            write(&hub, turn);
            turn += 1;
        }
        let queue = lock(&slow.client.queue);
        let bytes = queue.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        (queue.chunks.len(), bytes)
    }

    #[test]
    fn bytes_that_come_one_by_one_cost_as_much_as_they_are() {
        let one = Bytes::from_static(b"x");
        let (pieces, bytes) = held(|hub, _| hub.send(StreamKind::Stdout, &one));
        assert!(pieces <= BEHIND / JOINED + 1, "{pieces}");
        assert!(bytes > BEHIND / 2, "{bytes}");
        // On two outputs in turn they cannot be joined: then the container is held up earlier.
        let (pieces, _) = held(|hub, turn| {
            let streams = [StreamKind::Stdout, StreamKind::Stderr];
            hub.send(streams[turn % 2], &one);
        });
        assert!(pieces <= BEHIND / PIECE, "{pieces}");
    }

    #[tokio::test]
    async fn joined_pieces_have_every_byte_in_its_place() {
        let hub = Hub::new();
        let (mut one, mut two) = (hub.attach(true, true), hub.attach(true, false));
        let mut sent = [Vec::new(), Vec::new()];
        for turn in 0..20_000_usize {
            let stream = usize::from(turn % 7 == 0);
            let bytes = turn.to_string().repeat(turn % 3 + 1);
            sent[stream].extend_from_slice(bytes.as_bytes());
            let streams = [StreamKind::Stdout, StreamKind::Stderr];
            hub.send(streams[stream], &Bytes::from(bytes));
        }
        hub.end();
        let mut got = [Vec::new(), Vec::new()];
        while let Some(chunk) = one.next().await {
            got[usize::from(chunk.stream == StreamKind::Stderr)].extend_from_slice(&chunk.bytes);
        }
        assert!(got == sent);
        let mut out = Vec::new();
        while let Some(chunk) = two.next().await {
            out.extend_from_slice(&chunk.bytes);
        }
        assert!(out == sent[0]);
    }
}
