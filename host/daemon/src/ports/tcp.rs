//! Clients of TCP: accepted here, and given away with a word of who they are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lighter_machine::ClientStream;
use lighter_platform::sys;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
        let introduced = introduce(client, address, &port);
        let (arrival, first) = match introduced {
            Ok(introduced) => introduced,
            Err(error) => {
                tracing::debug!(%error, %address, "a client of a published port is turned away");
                continue;
            }
        };
        // Further ones wait in the system's queue meanwhile.
        let Ok(place) = Arc::clone(&arrivals).acquire_owned().await else {
            return;
        };
        let door = door.clone();
        clients.spawn(async move {
            let place = Arc::new(place);
            if let Err(error) = bring(arrival, &first, &door, &place).await {
                tracing::debug!(%error, %address, "a client of a published port is turned away");
            }
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

/// Takes a client that was accepted, and what the guest is told of it.
fn introduce(
    client: TcpStream,
    address: SocketAddr,
    port: &Port,
) -> io::Result<(Arrival, Vec<u8>)> {
    let prepare = || {
        // Whoever writes in small pieces decides that at its own end.
        client.set_nodelay(true)?;
        // One that vanished is not kept for ever by a server that only listens.
        socket2::SockRef::from(&client).set_keepalive(true)?;
        let local = client.local_addr()?.ip();
        port.introduce(address, local).map_err(io::Error::other)
    };
    let first = prepare();
    let arrival = Arrival(Some(sys::tcp_into_owned(client)?));
    Ok((arrival, first?))
}

async fn bring<D: Door>(
    mut arrival: Arrival,
    first: &[u8],
    door: &D,
    place: &Arc<OwnedSemaphorePermit>,
) -> io::Result<()> {
    let mut attempts = Attempts::new();
    while let Some(stream) = arrival.0.take() {
        let (first, door, place) = (first.to_vec(), door.clone(), Arc::clone(place));
        // Begun, it is brought to its end although the port is closed meanwhile: only then it is known whose the client is.
        let attempt = tokio::spawn(async move {
            let _place = place;
            let refused = door.hand_over(first, stream).await.err()?;
            Some((Arrival(Some(refused.stream)), refused.error))
        });
        let Some((back, error)) = attempt.await.map_err(io::Error::other)? else {
            return Ok(());
        };
        arrival = back;
        if !attempts.again(&error).await {
            return Err(io::Error::other(error));
        }
    }
    Ok(())
}
