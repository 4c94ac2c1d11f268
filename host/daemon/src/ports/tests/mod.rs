//! Published ports with a guest that is played: the other end of a stream, and a door that leads to it.

mod binding;
mod clients;
mod datagrams;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use lighter_machine::{ClientStream, Error, GuestStream, HandOverError};
use lighter_protocol::{Accepted, Bind, Bound, Decoder, Message, Opened, Publish, Transport, port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::*;

/// Nothing here takes as long.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A clock that stands still but for what a test lets pass; sockets are served meanwhile.
pub struct Clock {
    _held: std::sync::mpsc::Sender<()>,
}

impl Clock {
    pub fn stopped() -> Self {
        tokio::time::pause();
        // While such a task runs, the runtime does not move its clock by itself.
        let (_held, until_dropped) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || until_dropped.recv());
        Self { _held }
    }

    /// Lets so much time pass, little by little.
    pub async fn pass(&self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < until {
            self.step().await;
        }
    }

    /// Lets time pass until something is done.
    pub async fn until<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.step() => {}
            }
        }
    }

    async fn step(&self) {
        // Sockets are looked at after so many turns at the latest.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_millis(100)).await;
    }
}

/// A door to a guest that a test plays.
#[derive(Clone)]
pub struct Played {
    handed: mpsc::UnboundedSender<(Vec<u8>, TcpStream)>,
    opened: mpsc::UnboundedSender<UnixStream>,
    closed: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
    questions: mpsc::UnboundedSender<oneshot::Sender<()>>,
    ended: watch::Receiver<bool>,
}

/// What the guest sees of it.
pub struct Arrivals {
    handed: mpsc::UnboundedReceiver<(Vec<u8>, TcpStream)>,
    opened: mpsc::UnboundedReceiver<UnixStream>,
    /// While it is true everybody is refused.
    pub closed: Arc<AtomicBool>,
    /// While it is true the test says when a client of TCP is taken or refused.
    pub asked: Arc<AtomicBool>,
    questions: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    /// The machine's end.
    pub ended: watch::Sender<bool>,
}

pub fn door() -> (Played, Arrivals) {
    let (handed_in, handed) = mpsc::unbounded_channel();
    let (opened_in, opened) = mpsc::unbounded_channel();
    let (ended, ended_out) = watch::channel(false);
    let closed = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicBool::new(false));
    let (questions_in, questions) = mpsc::unbounded_channel();
    let played = Played {
        handed: handed_in,
        opened: opened_in,
        closed: Arc::clone(&closed),
        asked: Arc::clone(&asked),
        questions: questions_in,
        ended: ended_out,
    };
    let arrivals = Arrivals {
        handed,
        opened,
        closed,
        asked,
        questions,
        ended,
    };
    (played, arrivals)
}

impl Door for Played {
    async fn hand_over(&self, first: Vec<u8>, stream: ClientStream) -> Result<(), HandOverError> {
        if self.asked.load(Ordering::Relaxed) {
            let (question, answer) = oneshot::channel();
            self.questions.send(question).unwrap();
            // It goes on by the end of the question as well.
            let _ = answer.await;
        }
        if self.closed.load(Ordering::Relaxed) {
            let error = Error::Refused {
                port: port::PUBLISHED,
            };
            return Err(HandOverError { error, stream });
        }
        let stream = TcpStream::from_std(std::net::TcpStream::from(stream)).unwrap();
        self.handed.send((first, stream)).unwrap();
        Ok(())
    }

    async fn connect(&self) -> Result<GuestStream, Error> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::Refused {
                port: port::PUBLISHED,
            });
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.opened.send(theirs).unwrap();
        Ok(ours)
    }

    async fn ended(&self) {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl Arrivals {
    /// The next client of TCP: how it is introduced, and its socket.
    pub async fn next(&mut self) -> (Accepted, TcpStream) {
        let next = tokio::time::timeout(PATIENCE, self.handed.recv());
        let (first, stream) = next.await.expect("a client").unwrap();
        (introduction(&first), stream)
    }

    /// The next client of TCP that is to be taken or refused; it is when the answer is dropped.
    pub async fn next_question(&mut self) -> oneshot::Sender<()> {
        let next = tokio::time::timeout(PATIENCE, self.questions.recv());
        next.await.expect("a client").unwrap()
    }

    /// The next client of UDP: how it is introduced, and its datagrams.
    pub async fn next_flow(&mut self) -> (Accepted, Datagrams) {
        let next = tokio::time::timeout(PATIENCE, self.opened.recv());
        let mut stream = next.await.expect("a client").unwrap();
        let mut head = [0; 4];
        stream.read_exact(&mut head).await.unwrap();
        let mut frame = head.to_vec();
        frame.resize(4 + u32::from_le_bytes(head) as usize, 0);
        stream.read_exact(&mut frame[4..]).await.unwrap();
        (introduction(&frame), Datagrams(stream))
    }

    /// Whether nobody came.
    pub fn is_quiet(&mut self) -> bool {
        self.opened.is_empty() && self.handed.is_empty()
    }
}

/// The guest's end of one client's datagrams.
pub struct Datagrams(pub UnixStream);

impl Datagrams {
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let length = self.0.read_u16_le().await.ok()?;
            let mut bytes = vec![0; usize::from(length)];
            self.0.read_exact(&mut bytes).await.unwrap();
            Some(bytes)
        };
        tokio::time::timeout(PATIENCE * 10, read)
            .await
            .expect("a datagram or the end")
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).unwrap();
        let frame = [&length.to_le_bytes(), bytes].concat();
        self.0.write_all(&frame).await.unwrap();
    }
}

fn introduction(bytes: &[u8]) -> Accepted {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    match decoder.next_message().unwrap() {
        Some(Message::Accepted(accepted)) => {
            assert!(decoder.into_rest().is_empty());
            accepted
        }
        other => panic!("{other:?}"),
    }
}

/// One container's ports.
pub struct Container {
    pub stream: MessageStream,
    pub served: JoinHandle<()>,
}

impl Container {
    pub async fn publish(all: &Arc<Publications>, name: &str, door: Played) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let wanted = Publish {
            id: format!("id-of-{name}"),
            name: name.to_owned(),
        };
        let all = Arc::clone(all);
        let served = tokio::spawn(async move {
            all.serve(MessageStream::new(theirs), wanted, door).await;
        });
        let stream = MessageStream::new(ours);
        Self { stream, served }
    }

    /// The answer to the stream itself.
    pub async fn opened(mut self) -> Self {
        let answer = self.stream.receive().await.unwrap();
        assert!(matches!(answer, Message::Opened(Opened::Publish)));
        self
    }

    pub async fn bind(&mut self, bind: Bind) -> Bound {
        let number = bind.number;
        self.stream.send(bind).await.unwrap();
        match self.stream.receive().await.unwrap() {
            Message::Bound(bound) => {
                assert_eq!(bound.number, number);
                bound
            }
            other => panic!("{other:?}"),
        }
    }

    /// Closes the stream and waits until that was noticed.
    pub async fn close(self) {
        drop(self.stream);
        self.served.await.unwrap();
    }
}

pub fn publications() -> Arc<Publications> {
    Arc::new(Publications::default())
}

pub fn bind(number: u32, transport: Transport, addresses: &[IpAddr], port: u16) -> Bind {
    Bind {
        number,
        transport,
        addresses: addresses.to_vec(),
        port,
    }
}

/// A port that nobody has on any address, each time another, and none that the kernel gives to whoever connects:
/// those of this process's other tests might get it before it is bound.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let from = 10_000 + (std::process::id() % 20_000) as u16;
    loop {
        let port = from + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// A container with one port of TCP that is bound, and where.
pub async fn one_port(all: &Arc<Publications>, door: Played) -> (Container, SocketAddr) {
    let mut container = Container::publish(all, "web", door).await.opened().await;
    let address = SocketAddr::new(LOOPBACK, free_port());
    let bound = container
        .bind(bind(7, Transport::Tcp, &[LOOPBACK], address.port()))
        .await;
    assert_eq!(bound.failed, None);
    (container, address)
}

/// What a client still reads: the bytes to the end, or that it was broken off.
pub async fn rest(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.map(|_| bytes)
}
