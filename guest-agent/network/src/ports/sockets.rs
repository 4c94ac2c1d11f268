//! Sockets in the host's namespace, which the engine itself is not in.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::oneshot;

use super::local::{self, Listener};
use super::{Route, asked, filter};
use crate::{NetworkError, place};

/// Connections that wait to be accepted; the kernel's own limit.
const BACKLOG: i32 = 4_096;

type Job = Box<dyn FnOnce() + Send>;

/// Makes sockets there. Cheap to clone; its thread ends with the last one.
#[derive(Debug, Clone)]
pub(super) struct Sockets {
    jobs: Sender<Job>,
    /// Numbers of those that listen and were made here.
    own: Own,
}

type Own = Arc<Mutex<HashSet<u64>>>;

/// A socket that listens and was made here.
#[derive(Debug)]
pub(super) struct Mine<S> {
    pub socket: S,
    _known: Known,
}

/// That a socket is known as one that was made here.
#[derive(Debug)]
struct Known {
    number: u64,
    own: Own,
}

impl Known {
    fn of(socket: &Socket, own: Own) -> io::Result<Self> {
        let number = rustix::fs::fstat(socket)?.st_ino;
        lock(&own).insert(number);
        Ok(Self { number, own })
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        lock(&self.own).remove(&self.number);
    }
}

fn lock(own: &Own) -> MutexGuard<'_, HashSet<u64>> {
    own.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sockets {
    /// Starts the thread that is there.
    pub fn start(host_network: OwnedFd) -> Result<Self, NetworkError> {
        let (jobs, work) = channel::<Job>();
        std::thread::Builder::new()
            .name("ports".into())
            .stack_size(128 << 10)
            .spawn(move || {
                if let Err(error) = place::go(&host_network) {
                    // Whoever asks for a socket is told that nobody is there.
                    tracing::error!(%error, "ports cannot be published");
                    return;
                }
                while let Ok(job) = work.recv() {
                    job();
                }
            })
            .map_err(NetworkError::of("starting a thread"))?;
        let own = Own::default();
        Ok(Self { jobs, own })
    }

    /// Listens for connections, but of internal networks.
    pub async fn listen(&self, address: SocketAddr) -> io::Result<Mine<TcpListener>> {
        let own = Arc::clone(&self.own);
        let made = self.make(move || {
            let socket = stream(address.ip())?;
            socket.attach_filter(&filter::unheard())?;
            socket.set_reuse_address(true)?;
            bind(&socket, address)?;
            // Before anybody can see it.
            let known = Known::of(&socket, own)?;
            socket.listen(BACKLOG)?;
            Ok((socket, known))
        });
        let (socket, _known) = made.await?;
        let socket = TcpListener::from_std(socket.into())?;
        Ok(Mine { socket, _known })
    }

    /// What others listen on there.
    pub async fn listeners(&self) -> io::Result<BTreeMap<Listener, u64>> {
        let own = Arc::clone(&self.own);
        self.make(move || {
            let own = lock(&own).clone();
            local::listeners(&own)
        })
        .await
    }

    /// Takes datagrams, but of internal networks.
    pub async fn take_datagrams(&self, address: SocketAddr) -> io::Result<Mine<asked::Socket>> {
        let own = Arc::clone(&self.own);
        let made = self.make(move || {
            let socket = datagrams(address.ip())?;
            socket.attach_filter(&filter::unheard())?;
            // Before anybody can see it.
            let known = Known::of(&socket, own)?;
            bind(&socket, address)?;
            Ok((socket, known))
        });
        let (socket, _known) = made.await?;
        let socket = asked::Socket::new(UdpSocket::from_std(socket.into())?)?;
        Ok(Mine { socket, _known })
    }

    /// Connects to a container: from a client's own address, or from the machine's.
    pub async fn connect(&self, route: &Route) -> io::Result<TcpStream> {
        let (to, client) = (route.to, route.client.clone());
        let socket = self.make(move || {
            let socket = stream(to.ip())?;
            socket.set_tcp_nodelay(true)?;
            // Its port may be published too: whoever listens there is not in the way, nor is this in theirs.
            socket.set_reuse_address(true)?;
            as_client(&socket, client.as_ref())?;
            Ok(socket)
        });
        let connecting = TcpSocket::from_std_stream(socket.await?.into())
            .connect(to)
            .await;
        let again = route
            .client
            .clone()
            .filter(|(client, _)| client.port() != 0);
        match (connecting, again) {
            // One client's port is taken twice at once, by connections that end and begin: any other will do.
            (Err(error), Some((mut client, bridge))) if is_taken(&error) => {
                client.set_port(0);
                let client = Some((client, bridge));
                Box::pin(self.connect(&Route { to, client })).await
            }
            (done, _) => done,
        }
    }

    /// A socket that exchanges datagrams with a container: from a client's own address, or from the machine's.
    pub async fn converse(&self, route: &Route) -> io::Result<UdpSocket> {
        let (to, client) = (route.to, route.client.clone());
        let socket = self.make(move || {
            let socket = datagrams(to.ip())?;
            as_client(&socket, client.as_ref())?;
            socket.connect(&to.into())?;
            Ok(socket)
        });
        UdpSocket::from_std(socket.await?.into())
    }

    async fn make<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, made) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Whoever asked may have gone.
            let _ = done.send(make());
        });
        let nobody = || io::Error::other("nobody is in the host's network");
        self.jobs.send(job).map_err(|_| nobody())?;
        made.await.map_err(|_| nobody())?
    }
}

fn stream(family: IpAddr) -> io::Result<Socket> {
    new(family, Type::STREAM, Protocol::TCP)
}

fn datagrams(family: IpAddr) -> io::Result<Socket> {
    new(family, Type::DGRAM, Protocol::UDP)
}

fn new(family: IpAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let domain = match family {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
    if family.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.bind(&address.into())
}

/// Makes a socket one of the client's, as far as the kernel sees it.
fn as_client(socket: &Socket, client: Option<&(SocketAddr, String)>) -> io::Result<()> {
    let Some((client, bridge)) = client else {
        return Ok(());
    };
    let client = *client;
    // Packets by other bridges are forged, and are for nobody.
    socket.bind_device(Some(bridge.as_bytes()))?;
    match client {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    // A client has one port for connections to several of ours.
    socket.set_reuse_address(true)?;
    match bind(socket, client) {
        Err(error) if is_taken(&error) => bind(socket, SocketAddr::new(client.ip(), 0)),
        bound => bound,
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
    )
}

/// Whether this is no single address.
pub(super) fn is_any(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::UNSPECIFIED) || address == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}
