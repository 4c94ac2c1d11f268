//! Clients of TCP: accepted here, and given away with a word of who they are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lighter_machine::ClientStream;
use lighter_platform::sys;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::door::{Attempts, Door};
use super::port::Port;

/// A pause after an accept that failed: no descriptors left, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts for as long as it is let, and brings everybody who comes to the guest.
pub(super) async fn accept<D: Door>(
    listener: TcpListener,
    port: Arc<Port>,
    door: D,
    arrivals: Arc<Semaphore>,
) {
    let mut clients = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
        };
        let (client, address) = match accepted {
            Ok(accepted) => accepted,
            // That client has gone again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "cannot accept a client of a published port");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        // Further ones wait in the system's queue meanwhile.
        let Ok(place) = Arc::clone(&arrivals).acquire_owned().await else {
            return;
        };
        let (port, door) = (Arc::clone(&port), door.clone());
        clients.spawn(async move {
            if let Err(error) = bring(client, address, &port, &door).await {
                tracing::debug!(%error, %address, "a client of a published port is turned away");
            }
            drop(place);
        });
    }
}

/// A client that sees a broken connection unless it is handed over.
struct Arrival(Option<ClientStream>);

impl Drop for Arrival {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            sys::reset_tcp(stream);
        }
    }
}

async fn bring<D: Door>(
    client: TcpStream,
    address: SocketAddr,
    port: &Port,
    door: &D,
) -> io::Result<()> {
    // Whoever writes in small pieces decides that at its own end.
    client.set_nodelay(true)?;
    // One that vanished is not kept for ever by a server that only listens.
    socket2::SockRef::from(&client).set_keepalive(true)?;
    let local = client.local_addr()?.ip();
    let mut arrival = Arrival(Some(sys::tcp_into_owned(client)?));
    let first = port.introduce(address, local).map_err(io::Error::other)?;
    let mut attempts = Attempts::new();
    while let Some(stream) = arrival.0.take() {
        let Err(refused) = door.hand_over(first.clone(), stream).await else {
            return Ok(());
        };
        arrival = Arrival(Some(refused.stream));
        if !attempts.again(&refused.error).await {
            return Err(io::Error::other(refused.error));
        }
    }
    Ok(())
}
