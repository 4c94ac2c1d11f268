//! Listeners in the host's namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lighter_protocol::Transport;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::sockets::{Mine, Sockets, is_any};
use super::{Way, carry, datagrams, reach};

/// Until connections are accepted again where there was no descriptor for one.
const PAUSE: Duration = Duration::from_millis(100);

/// What listens; it ends when this is dropped. Connections go on until their containers end.
#[derive(Debug)]
pub struct Listening {
    tasks: JoinSet<()>,
    over: watch::Sender<bool>,
}

impl Listening {
    /// Ends it; when this returns others can have the port.
    pub async fn close(mut self) {
        self.over.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

pub(super) async fn listen(
    sockets: &Sockets,
    transport: Transport,
    addresses: &[IpAddr],
    port: u16,
    way: &Arc<dyn Way>,
) -> io::Result<Listening> {
    let mut streams = Vec::new();
    let mut datagrams = Vec::new();
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        match transport {
            Transport::Tcp => streams.push(sockets.listen(address).await?),
            Transport::Udp => datagrams.push(sockets.take_datagrams(address).await?),
        }
    }
    let mut tasks = JoinSet::new();
    let over = watch::Sender::new(false);
    for listener in streams {
        let (sockets, way, mut end) = (sockets.clone(), Arc::clone(way), over.subscribe());
        tasks.spawn(async move {
            tokio::select! {
                () = accept(listener, sockets, way) => {}
                // An error says that nobody can tell any more.
                _ = end.wait_for(|over| *over) => {}
            }
        });
    }
    for socket in datagrams {
        let (sockets, way) = (sockets.clone(), Arc::clone(way));
        tasks.spawn(datagrams::exchange(socket, sockets, way, over.subscribe()));
    }
    Ok(Listening { tasks, over })
}

async fn accept(listener: Mine<TcpListener>, sockets: Sockets, way: Arc<dyn Way>) {
    loop {
        match listener.socket.accept().await {
            Ok((client, from)) => {
                tokio::spawn(bring(client, from, sockets.clone(), Arc::clone(&way)));
            }
            Err(error) => {
                tracing::warn!(%error, "a client of a published port is not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn bring(client: TcpStream, from: SocketAddr, sockets: Sockets, way: Arc<dyn Way>) {
    let Some(_place) = way.share().place() else {
        return carry::Stream::break_off(&client);
    };
    // What does not matter is not worth a refusal.
    let _ = client.set_nodelay(true);
    let own = client.local_addr().is_ok_and(|own| own.ip() == from.ip());
    let who = Some(from).filter(|_| !own && !from.ip().is_loopback());
    let Some(route) = way.route(who, from.is_ipv6()) else {
        return carry::Stream::break_off(&client);
    };
    let ended = way.ended();
    match reach(&sockets, &route, ended.clone()).await {
        Some(container) => carry::carry(client, container, ended).await,
        None => carry::Stream::break_off(&client),
    }
}

/// What of the addresses that the host is to listen on is listened on here too: all of a family, and loopbacks.
pub fn is_here_too(address: IpAddr) -> bool {
    is_any(address) || address.is_loopback()
}
