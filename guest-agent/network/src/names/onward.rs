//! Questions that go on to other servers, and what comes back.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use rustix::net::SocketType;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};

use super::answer::{Accepted, Asked, Over};
use super::sockets::{self, PORT};
use super::{Onward, Places};

/// How long one server may take; dockerd's.
const PATIENCE: Duration = Duration::from_secs(4);

/// How many servers are asked; dockerd's.
const SERVERS: usize = 3;

/// Asks one server after the other, until one knows.
pub(super) async fn ask(
    bytes: &[u8],
    asked: &Asked,
    over: Over,
    onward: &Onward,
    places: &Places,
) -> Vec<u8> {
    if asked.is_plain() && !onward.plain_names {
        return asked.nothing(ResponseCode::NoError);
    }
    let place = if onward.from_container {
        Some(&places.container)
    } else {
        places.host.as_ref()
    };
    for server in onward.servers.iter().take(SERVERS) {
        let Some(place) = place.and_then(|place| place.try_clone().ok()) else {
            break;
        };
        let once = ask_one(bytes, asked, over, *server, place);
        match tokio::time::timeout(PATIENCE, once).await {
            Ok(Ok(accepted)) if !accepted.failed => return accepted.answer,
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) => tracing::debug!(%error, %server, "a name server cannot be asked"),
        }
    }
    asked.nothing(ResponseCode::ServFail)
}

async fn ask_one(
    bytes: &[u8],
    asked: &Asked,
    over: Over,
    server: IpAddr,
    place: OwnedFd,
) -> std::io::Result<Accepted> {
    let kind = match over {
        Over::Datagram => SocketType::DGRAM,
        Over::Connection => SocketType::STREAM,
    };
    let socket = sockets::asking(place, server, kind).await;
    let socket = socket.map_err(std::io::Error::other)?;
    let mut id = [0; 2];
    getrandom(&mut id, GetRandomFlags::empty())?;
    let id = u16::from_be_bytes(id);
    let question = asked.with_id(bytes, id);
    match over {
        Over::Datagram => by_datagram(socket, &question, asked, id).await,
        Over::Connection => by_connection(socket, server, &question, asked, id).await,
    }
}

async fn by_datagram(
    socket: OwnedFd,
    question: &[u8],
    asked: &Asked,
    id: u16,
) -> std::io::Result<Accepted> {
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(question).await?;
    loop {
        socket.readable().await?;
        // What is longer than anybody takes is cut off and refused.
        let mut buffer = vec![0; asked.limit + 1];
        match socket.try_recv(&mut buffer) {
            Ok(length) => {
                let answer = buffer.get(..length).unwrap_or_default();
                // Anything may come; the right answer may come after it.
                if let Some(accepted) = asked.accept(answer, id) {
                    return Ok(accepted);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn by_connection(
    socket: OwnedFd,
    server: IpAddr,
    question: &[u8],
    asked: &Asked,
    id: u16,
) -> std::io::Result<Accepted> {
    let socket = TcpSocket::from_std_stream(socket.into());
    let mut stream = socket.connect(SocketAddr::new(server, PORT)).await?;
    stream.write_all(&framed(question)).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    asked.accept(&answer, id).ok_or_else(|| {
        std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "an answer to something else",
        )
    })
}

/// A message as it goes over a connection.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or_default();
    length
        .to_be_bytes()
        .into_iter()
        .chain(message.iter().copied())
        .collect()
}
