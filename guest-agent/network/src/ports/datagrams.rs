//! Datagrams of published ports: one conversation for each client.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lighter_protocol::MAX_DATAGRAM;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UdpSocket, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Way;
use super::asked::{At, Socket};
use super::said::{self, Hears, Said, Says};
use super::sockets::{Mine, Sockets};

/// How long nobody says anything before a conversation is over; docker-proxy's.
const QUIET: Duration = Duration::from_secs(90);
/// Conversations of one port at once; whoever was quiet the longest makes room.
const CONVERSATIONS: usize = 1_024;
/// Conversations of one port that begin at once; who is new and finds more says it in vain, and costs nothing.
const BEGINNING: usize = 64;

/// One client's datagrams, which the host sends on, and the container's, until either side ends.
pub(super) async fn converse(
    early: Vec<u8>,
    stream: UnixStream,
    socket: &UdpSocket,
    mut ended: watch::Receiver<bool>,
    still: impl Fn() -> bool,
) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = io::Cursor::new(early).chain(reader);
    let forth = async {
        let mut datagram = Vec::new();
        loop {
            let length = usize::from(reader.read_u16_le().await?);
            datagram.resize(length, 0);
            reader.read_exact(&mut datagram).await?;
            if !still() {
                // Somebody else may have that address now: the next datagram begins anew.
                return Ok(());
            }
            // Nobody there: a datagram is lost.
            let _ = socket.send(&datagram).await;
        }
    };
    let back = async {
        let mut frame = vec![0; 2 + MAX_DATAGRAM];
        loop {
            // That nobody listens in the container says nothing about the next one.
            let Ok(count) = socket.recv(&mut frame[2..]).await else {
                continue;
            };
            let length = u16::try_from(count).unwrap_or(u16::MAX);
            frame[..2].copy_from_slice(&length.to_le_bytes());
            writer.write_all(&frame[..2 + count]).await?;
        }
    };
    let over: Result<(), io::Error> = tokio::select! {
        over = forth => over,
        over = back => over,
        // An error says that nobody can tell any more.
        _ = ended.wait_for(|ended| *ended) => Ok(()),
    };
    if let Err(error) = over {
        tracing::trace!(%error, "a conversation is over");
    }
}

/// Whose conversation it is: a client, and the address of the machine that it asked.
type Key = (SocketAddr, Option<At>);

/// Somebody's conversation through a socket of the machine.
struct Conversation {
    says: Says,
    last: watch::Receiver<Instant>,
}

/// Datagrams that come to a socket of the machine, until that is over; when this returns others can have the port.
pub(super) async fn exchange(
    socket: Mine<Socket>,
    sockets: Sockets,
    way: Arc<dyn Way>,
    mut over: watch::Receiver<bool>,
) {
    let socket = Arc::new(socket);
    let mut conversations: HashMap<Key, Conversation> = HashMap::new();
    let beginning = Arc::new(Semaphore::new(BEGINNING));
    let mut talking = JoinSet::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let received = tokio::select! {
            received = socket.socket.receive(&mut buffer) => received,
            Some(_) = talking.join_next() => continue,
            // An error says that nobody can tell any more.
            _ = over.wait_for(|over| *over) => break,
        };
        let asked = match received {
            Ok(asked) => asked,
            // An answer that did not arrive.
            Err(error) => {
                tracing::trace!(%error, "a published port");
                continue;
            }
        };
        let datagram = buffer.get(..asked.length).unwrap_or_default();
        let key = (asked.client, asked.at);
        let known = conversations.get(&key);
        let conversation = match known.filter(|known| !known.says.is_over()) {
            Some(conversation) => conversation,
            None => {
                let Ok(begins) = Arc::clone(&beginning).try_acquire_owned() else {
                    continue;
                };
                conversations.remove(&key);
                make_room(&mut conversations);
                let (says, heard) = said::queue();
                let (last, seen) = watch::channel(Instant::now());
                let (socket, sockets, way) = (Arc::clone(&socket), sockets.clone(), way.clone());
                talking.spawn(async move {
                    hold(&socket.socket, key, &sockets, &*way, (heard, last, begins)).await;
                });
                let begun = Conversation { says, last: seen };
                conversations.entry(key).or_insert(begun)
            }
        };
        conversation.says.leave(datagram);
    }
    // They have the socket too.
    talking.shutdown().await;
}

fn make_room(conversations: &mut HashMap<Key, Conversation>) {
    if conversations.len() < CONVERSATIONS {
        return;
    }
    conversations.retain(|_, conversation| !conversation.says.is_over());
    if conversations.len() < CONVERSATIONS {
        return;
    }
    let quiet = conversations
        .iter()
        .min_by_key(|(_, conversation)| *conversation.last.borrow())
        .map(|(key, _)| *key);
    if let Some(key) = quiet {
        conversations.remove(&key);
    }
}

/// Holds one; it ends when nobody says anything, and when its sender is dropped.
async fn hold(
    socket: &Socket,
    key: Key,
    sockets: &Sockets,
    way: &dyn Way,
    (mut heard, last, begins): (Hears, watch::Sender<Instant>, OwnedSemaphorePermit),
) {
    let Some(_place) = way.share().place() else {
        return;
    };
    let (client, _) = key;
    let who = Some(client).filter(|client| !client.ip().is_loopback());
    let mut ended = way.ended();
    let route = || way.route(who, client.is_ipv6());
    let (mut moved, mut begins): (Option<Said>, _) = (None, Some(begins));
    while let Some(to) = route() {
        let container = match sockets.converse(&to).await {
            Ok(container) => container,
            Err(error) => {
                tracing::debug!(%error, to = %to.to, "a container is not reached");
                return;
            }
        };
        drop(begins.take());
        if let Some(datagram) = moved.take() {
            // Lost where there is nobody.
            let _: io::Result<usize> = container.send(&datagram.bytes).await;
        }
        let still = || route().as_ref() == Some(&to);
        moved = tokio::select! {
            moved = talk((socket, key), &container, &mut heard, &last, still) => moved,
            _ = ended.wait_for(|ended| *ended) => None,
        };
        if moved.is_none() {
            return;
        }
    }
}

/// Until nobody says anything, or the container is reached elsewhere: then what was said just now.
async fn talk(
    (socket, (client, asked)): (&Socket, Key),
    container: &UdpSocket,
    heard: &mut Hears,
    last: &watch::Sender<Instant>,
    still: impl Fn() -> bool,
) -> Option<Said> {
    let mut answer = vec![0; MAX_DATAGRAM];
    loop {
        let quiet = *last.borrow() + QUIET;
        let next = async {
            tokio::select! {
                datagram = heard.recv() => datagram.map(Ok),
                received = container.recv(&mut answer) => Some(Err(received)),
            }
        };
        match timeout_at(quiet, next).await {
            Ok(Some(Ok(datagram))) if !still() => return Some(datagram),
            // Lost where there is nobody.
            Ok(Some(Ok(datagram))) => drop(container.send(&datagram.bytes).await),
            Ok(Some(Err(Ok(count)))) => {
                let answer = answer.get(..count).unwrap_or_default();
                drop(socket.answer(answer, client, asked).await);
            }
            // Nobody listens there; somebody may later.
            Ok(Some(Err(Err(_)))) => continue,
            Ok(None) | Err(_) => return None,
        }
        last.send_replace(Instant::now());
    }
}
