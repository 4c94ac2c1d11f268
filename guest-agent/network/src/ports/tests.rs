//! Ports that lead to a server of the test's own, in the namespace that it is in.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use tokio::sync::watch;

use super::listen::listen;
use super::share::Room;
use super::sockets::Sockets;
use super::{Arrival, Listening, Route, Share, Transport, Way, serve};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The way to a server.
struct To {
    server: SocketAddr,
    ended: watch::Sender<bool>,
    share: Arc<Share>,
}

impl To {
    fn server(server: SocketAddr, share: Arc<Share>) -> Arc<dyn Way> {
        let ended = watch::Sender::new(false);
        Arc::new(Self {
            server,
            ended,
            share,
        })
    }
}

impl Way for To {
    fn route(&self, _client: Option<SocketAddr>, _v6: bool) -> Option<Route> {
        Some(Route {
            to: self.server,
            client: None,
        })
    }

    fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    fn share(&self) -> Arc<Share> {
        Arc::clone(&self.share)
    }
}

/// Sockets of the namespace of the test itself; nothing where it may not enter it.
fn here() -> Option<Sockets> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root to enter a network namespace");
        return None;
    }
    let place = std::fs::File::open("/proc/self/ns/net").unwrap();
    Some(Sockets::start(place.into()).unwrap())
}

/// Listens on a port that nobody has.
async fn listening(
    sockets: &Sockets,
    transport: Transport,
    way: &Arc<dyn Way>,
) -> (Listening, SocketAddr) {
    loop {
        let free = match transport {
            Transport::Tcp => {
                std::net::TcpListener::bind((LOOPBACK, 0)).and_then(|free| free.local_addr())
            }
            Transport::Udp => StdUdpSocket::bind((LOOPBACK, 0)).and_then(|free| free.local_addr()),
        };
        let address = free.unwrap();
        // Somebody else may have had it since.
        if let Ok(one) = listen(sockets, transport, &[LOOPBACK], address.port(), way).await {
            return (one, address);
        }
    }
}

async fn echo_of_datagrams() -> SocketAddr {
    let server = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        while let Ok((length, client)) = server.recv_from(&mut buffer).await {
            server.send_to(&buffer[..length], client).await.unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_of_datagrams_is_free_when_its_close_returns() {
    let Some(sockets) = here() else { return };
    let way = To::server(echo_of_datagrams().await, Arc::default());
    for _ in 0..100 {
        let (listening, address) = listening(&sockets, Transport::Udp, &way).await;
        let mut clients = Vec::new();
        for _ in 0..8 {
            let client = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
            client.connect(address).await.unwrap();
            client.send(b"x").await.unwrap();
            let mut answer = [0; 8];
            let answered = client.recv(&mut answer);
            tokio::time::timeout(PATIENCE, answered)
                .await
                .unwrap()
                .unwrap();
            clients.push(client);
        }
        listening.close().await;
        StdUdpSocket::bind(address).expect("its conversations have the port still");
    }
}

async fn asked(to: SocketAddr) -> Result<TcpStream, ErrorKind> {
    let mut client = TcpStream::connect(to).await.unwrap();
    let answered = async {
        client.write_all(b"x").await?;
        client.read_exact(&mut [0]).await
    };
    let answered = tokio::time::timeout(PATIENCE, answered)
        .await
        .expect("it hangs");
    answered.map(|_| client).map_err(|error| error.kind())
}

/// How a client is sent away that waits for whoever it came to.
async fn turned_away(from: SocketAddr) -> ErrorKind {
    let mut client = TcpStream::connect(from).await.unwrap();
    let mut byte = [0];
    let read = tokio::time::timeout(PATIENCE, client.read(&mut byte));
    read.await.expect("it hangs").unwrap_err().kind()
}

/// Echoes whatever it is said, to as many as come.
async fn echo() -> SocketAddr {
    let server = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

#[tokio::test]
async fn one_too_many_is_refused_at_once_and_others_have_room() {
    let Some(sockets) = here() else { return };
    let room: &'static Room = Box::leak(Box::new(Room::new(4)));
    let (server, share) = (echo().await, Arc::new(Share::of(room)));
    let flooded = To::server(server, Arc::clone(&share));
    let (_first, to) = listening(&sockets, Transport::Tcp, &flooded).await;
    let mut held = vec![asked(to).await.unwrap(), asked(to).await.unwrap()];
    assert_eq!(turned_away(to).await, ErrorKind::ConnectionReset);
    // All its ports have one share, and those whom the host hands on too.
    let (_second, of_same) = listening(&sockets, Transport::Tcp, &flooded).await;
    assert_eq!(turned_away(of_same).await, ErrorKind::ConnectionReset);
    let (mut client, stream) = UnixStream::pair().unwrap();
    let arrival = Arrival {
        stream,
        early: Vec::new(),
        transport: Transport::Tcp,
        client: None,
        v6: false,
    };
    serve(&sockets, arrival, &*flooded).await;
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    let other = To::server(server, Arc::new(Share::of(room)));
    let (_third, to_other) = listening(&sockets, Transport::Tcp, &other).await;
    asked(to_other).await.unwrap();
    // One that ends makes room.
    held.pop();
    let again = async { while asked(to).await.is_err() {} };
    tokio::time::timeout(PATIENCE, again)
        .await
        .expect("no room comes back");
}
