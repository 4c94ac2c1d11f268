//! Datagrams of a published port: each client has a stream to the guest.
//!
//! Nobody waits for anybody: what a guest does not read in time is lost, as datagrams may be, and so is what clients
//! say that are new faster than it takes them. Sockets are read in turn with everything else that this process does.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lighter_platform::sys::{Datagrams, Received};
use lighter_protocol::MAX_DATAGRAM;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::door::Door;
use super::flow::{Flow, Way};
use super::flows::Flows;
use super::port::Port;

/// A pause after an error of the socket: it is nobody's who sends.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Takes datagrams until that is over; when this returns, the socket is closed. A port is known by a number of ours and
/// by the guest's.
pub(super) async fn take<D: Door>(
    socket: Datagrams,
    (serial, port): (u64, Arc<Port>),
    door: D,
    flows: Arc<Flows>,
    mut over: watch::Receiver<bool>,
) {
    let socket = Arc::new(socket);
    let (mut clients, beginning) = (JoinSet::new(), flows.beginning());
    loop {
        tokio::select! {
            ready = socket.readable() => if ready.is_err() {
                break;
            },
            Some(_) = clients.join_next() => continue,
            // An error says that nobody can tell any more.
            _ = over.wait_for(|over| *over) => break,
        }
        let new = match arrive(&socket, serial, &flows) {
            Ok(Some(new)) => new,
            Ok(None) => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::debug!(%error, "a datagram could not be taken");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let (received, datagram) = new;
        let Ok(begins) = Arc::clone(&beginning).try_acquire_owned() else {
            continue;
        };
        let Ok(introduction) = port.introduce(received.client, received.to) else {
            continue;
        };
        let key = (serial, received.client, received.to);
        let place = flows.enter(key, introduction);
        flows.push(&place.flow, &datagram);
        let way = Way {
            socket: Arc::clone(&socket),
            client: received.client,
            to: received.to,
        };
        let door = door.clone();
        clients.spawn(async move {
            place.flow.carry(&door, &way, begins).await;
        });
    }
    // They have the socket too.
    clients.shutdown().await;
}

/// Takes one datagram. Of a client that is known it goes its way; of another it is returned.
fn arrive(
    socket: &Datagrams,
    serial: u64,
    flows: &Flows,
) -> io::Result<Option<(Received, Vec<u8>)>> {
    let mut scratch = flows.scratch.lock().unwrap_or_else(PoisonError::into_inner);
    scratch.resize(MAX_DATAGRAM, 0);
    let received = socket.try_receive(&mut scratch)?;
    let datagram = &scratch[..received.length];
    let known: Option<Arc<Flow>> = flows.get(&(serial, received.client, received.to));
    match known {
        Some(flow) => {
            flows.push(&flow, datagram);
            Ok(None)
        }
        None => Ok(Some((received, datagram.to_vec()))),
    }
}
