//! Datagrams of a published port: each client has a stream to the guest.
//!
//! Nobody waits for anybody: what a guest does not read in time is lost, as datagrams may be.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lighter_platform::sys::{Datagrams, Received};
use lighter_protocol::MAX_DATAGRAM;
use tokio::task::JoinSet;

use super::door::Door;
use super::flow::{Flow, Way};
use super::flows::Flows;
use super::port::Port;

/// A pause after an error of the socket: it is nobody's who sends.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Takes datagrams for as long as it is let. A port is known by a number of ours and by the guest's.
pub(super) async fn take<D: Door>(
    socket: Datagrams,
    (serial, port): (u64, Arc<Port>),
    door: D,
    flows: Arc<Flows>,
) {
    let socket = Arc::new(socket);
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            ready = socket.readable() => if ready.is_err() {
                return;
            },
            Some(_) = clients.join_next() => continue,
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
            place.flow.carry(&door, &way).await;
        });
    }
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
