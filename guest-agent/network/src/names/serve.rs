//! Serves the sockets of one container, from the caller's runtime.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::answer::{Asked, Over, Turns, Verdict, judge};
use super::{CONNECTIONS, Places, QUESTIONS, Sockets, Zone, onward};
use crate::NetworkError;

/// The longest question: nobody asks more, and what is longer is no question.
const LONGEST: usize = 4_096;

/// How long a connection may do nothing.
const IDLE: Duration = Duration::from_secs(10);

/// How long no connection is accepted after one could not be: the descriptors of everybody may be used up.
const PAUSE: Duration = Duration::from_millis(100);

/// The service of one container; it ends when this is dropped.
#[derive(Debug)]
pub struct Service(JoinHandle<()>);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who asks, and what is known.
struct Desk {
    asker: String,
    zone: Arc<dyn Zone>,
    places: Places,
    turns: Turns,
    questions: Semaphore,
}

/// Serves the container `asker` on its sockets.
///
/// # Errors
/// They are no such sockets, or there is no runtime.
pub fn serve(
    sockets: Sockets,
    asker: String,
    places: Places,
    zone: Arc<dyn Zone>,
) -> Result<Service, NetworkError> {
    let opened = |udp: OwnedFd, tcp: OwnedFd| {
        let udp = UdpSocket::from_std(udp.into())?;
        let tcp = TcpListener::from_std(tcp.into())?;
        std::io::Result::Ok((Arc::new(udp), tcp))
    };
    let (udp, tcp) = opened(sockets.udp, sockets.tcp)
        .map_err(NetworkError::of("serving the sockets of a name server"))?;
    let desk = Arc::new(Desk {
        asker,
        zone,
        places,
        turns: Turns::default(),
        questions: Semaphore::new(QUESTIONS),
    });
    Ok(Service(tokio::spawn(async move {
        tokio::join!(datagrams(&desk, &udp), connections(&desk, &tcp));
    })))
}

async fn datagrams(desk: &Arc<Desk>, socket: &Arc<UdpSocket>) {
    // What is on its way ends with this.
    let mut asking = JoinSet::new();
    while socket.readable().await.is_ok() {
        while asking.try_join_next().is_some() {}
        // One that asks without end leaves the others their turn.
        tokio::task::coop::consume_budget().await;
        let Some((bytes, from)) = next(socket) else {
            continue;
        };
        match desk.judge(&bytes, Over::Datagram) {
            Verdict::Silence => {}
            Verdict::Reply(reply) => say(socket, &reply, from),
            Verdict::Onward(asked) => {
                let (desk, socket) = (Arc::clone(desk), Arc::clone(socket));
                let permitted = Arc::clone(&desk);
                // Counted here, so that no more tasks are made than may ask.
                let Ok(permit) = permitted.questions.try_acquire() else {
                    say(&socket, &asked.nothing(ResponseCode::Refused), from);
                    continue;
                };
                permit.forget();
                asking.spawn(async move {
                    let _permit = Returned(&desk.questions);
                    let reply = desk.ask(&bytes, &asked, Over::Datagram).await;
                    say(&socket, &reply, from);
                });
            }
        }
    }
}

/// Gives a permit back.
struct Returned<'a>(&'a Semaphore);

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

fn next(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; LONGEST];
    // An error is one of a reply before, whose asker has gone.
    let (length, from) = socket.try_recv_from(&mut buffer).ok()?;
    Some((buffer.get(..length)?.to_vec(), from))
}

/// Says it or leaves it: whoever does not hear asks again.
fn say(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    let _ = socket.try_send_to(reply, to);
}

async fn connections(desk: &Arc<Desk>, listener: &TcpListener) {
    let mut open = JoinSet::new();
    loop {
        while open.len() >= CONNECTIONS {
            open.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let desk = Arc::clone(desk);
                open.spawn(async move {
                    // Whoever asked may have gone.
                    let _ = connection(&desk, stream).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to a name server is not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One question after the other.
async fn connection(desk: &Desk, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let bytes = tokio::time::timeout(IDLE, question(&mut stream)).await??;
        let reply = match desk.judge(&bytes, Over::Connection) {
            Verdict::Silence => return Ok(()),
            Verdict::Reply(reply) => reply,
            Verdict::Onward(asked) => match desk.questions.try_acquire() {
                Ok(_permit) => desk.ask(&bytes, &asked, Over::Connection).await,
                Err(_) => asked.nothing(ResponseCode::Refused),
            },
        };
        let reply = onward::framed(&reply);
        tokio::time::timeout(IDLE, stream.write_all(&reply)).await??;
    }
}

async fn question(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

impl Desk {
    fn judge(&self, bytes: &[u8], over: Over) -> Verdict {
        judge(bytes, over, &*self.zone, &self.asker, &self.turns)
    }

    async fn ask(&self, bytes: &[u8], asked: &Asked, over: Over) -> Vec<u8> {
        let onward = self.zone.onward(&self.asker);
        onward::ask(bytes, asked, over, &onward, &self.places).await
    }
}
