//! The server: connections from a listener, HTTP/1.1 with half-close and upgrades.
//!
//! Called by the agent, once for each listener.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use lighter_engine::{Engine, Error};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};

use crate::body::{self, Body};
use crate::call::Call;
use crate::clean;
use crate::error::ApiError;
use crate::hijack::{HandedOver, Hijacked};
use crate::router::{self, Answer};
use crate::version::MAXIMUM_TEXT;
use crate::wire::Wire;

/// How many connections of one listener there are at a time.
const ROOM: Room = Room {
    served: 16_384,
    refused: 64,
    patience: Duration::from_secs(10),
};

/// How long a client may take for the head of a request, and how long a connection may be idle.
const HEAD_LIMIT: Duration = Duration::from_secs(300);

/// What every answer carries, errors too.
pub(crate) const HEADERS: [(&str, &str); 4] = [
    ("api-version", MAXIMUM_TEXT),
    ("docker-experimental", "false"),
    ("ostype", "linux"),
    ("server", "Docker/28.5.2-lighter (linux)"),
];

/// Something that accepts connections: a unix socket, or a vsock port, whose connections are
/// stream sockets like any other.
pub trait Listener: Send {
    /// The next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<UnixStream>> + Send;
}

impl Listener for tokio::net::UnixListener {
    async fn accept(&mut self) -> io::Result<UnixStream> {
        tokio::net::UnixListener::accept(self)
            .await
            .map(|(stream, _)| stream)
    }
}

/// Places for connections. Those beyond both wait in the listener's backlog.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Those whose requests are answered.
    served: usize,
    /// Those that are told that there are too many.
    refused: usize,
    /// How long one of the latter may take to ask and to read the answer.
    patience: Duration,
}

/// Serves the API to every connection of `listener` until the task is dropped.
pub async fn serve<L: Listener>(engine: Arc<Engine>, listener: L) {
    each_connection(listener, ROOM, move |stream| {
        serve_connection(Arc::clone(&engine), stream)
    })
    .await;
}

/// Answers every request on every connection of `listener` with 503 and `reason`, until the task is
/// dropped: for an engine that could not be opened.
pub async fn refuse<L: Listener>(reason: String, listener: L) {
    let reason: Arc<str> = reason.into();
    each_connection(listener, ROOM, move |stream| {
        refuse_connection(Arc::clone(&reason), stream)
    })
    .await;
}

/// Hands each connection to `serve`, and turns away those for which there is no place.
async fn each_connection<L, S, F>(mut listener: L, room: Room, serve: S)
where
    L: Listener,
    S: Fn(UnixStream) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(room.served));
    let doors = Arc::new(Semaphore::new(room.refused));
    let full: Arc<str> = format!("too many connections: {} are open", room.served).into();
    loop {
        // Neither is ever closed. What comes first is taken: a place, or room to say that there is none.
        let (place, door) = tokio::select! {
            biased;
            place = Arc::clone(&places).acquire_owned() => (place.ok(), None),
            door = Arc::clone(&doors).acquire_owned() => (None, door.ok()),
        };
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of descriptors: the next attempt would fail at once as well.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        // One may have come free while nobody knocked.
        match place.or_else(|| Arc::clone(&places).try_acquire_owned().ok()) {
            Some(place) => {
                let serve = serve.clone();
                tokio::spawn(async move {
                    // Until it says something, a client costs a socket and little else.
                    let said = tokio::time::timeout(HEAD_LIMIT, stream.readable()).await;
                    if matches!(said, Ok(Ok(()))) {
                        Box::pin(serve(stream)).await;
                    }
                    drop(place);
                });
            }
            None => {
                let refused = refuse_connection(Arc::clone(&full), stream);
                tokio::spawn(async move {
                    // Who neither asks nor reads keeps nobody else from being told.
                    let _ = tokio::time::timeout(room.patience, refused).await;
                    drop(door);
                });
            }
        }
    }
}

/// Serves the API on one connection until it is closed.
pub async fn serve_connection(engine: Arc<Engine>, stream: UnixStream) {
    let wire = Wire::new(stream);
    let (hand_over, mut handed_over) = mpsc::channel(1);
    let service = {
        let wire = wire.clone();
        service_fn(move |request| {
            let (engine, wire, hand_over) = (Arc::clone(&engine), wire.clone(), hand_over.clone());
            async move { Ok::<_, Infallible>(answer(engine, request, wire, hand_over).await) }
        })
    };
    let mut connection = http().serve_connection(TokioIo::new(wire), service);
    let hijacked: Option<Hijacked> = tokio::select! {
        hijacked = handed_over.recv() => hijacked,
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
            // One that is on its way is still to be lived; whoever comes later does that himself.
            handed_over.close();
            handed_over.recv().await
        }
    };
    if let Some(hijacked) = hijacked {
        // From here on nobody speaks HTTP on it.
        let parts = connection.into_parts();
        // In a box: those that never come to this do not carry it along.
        Box::pin(hijacked.run(parts.io.into_inner(), parts.read_buf)).await;
    }
}

async fn refuse_connection(reason: Arc<str>, stream: UnixStream) {
    let service = service_fn(move |_: Request<Incoming>| {
        let error = ApiError::from(Error::unavailable(&*reason));
        async move { Ok::<_, Infallible>(dress(error.into_response())) }
    });
    let mut http = http();
    // The next request may be answered otherwise, on a connection of its own.
    let http = http.keep_alive(false);
    let served = http.serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn http() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // A client may close its sending half and still read.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(64 * 1024);
    builder
}

async fn answer(
    engine: Arc<Engine>,
    request: Request<Incoming>,
    wire: Wire,
    hand_over: mpsc::Sender<Hijacked>,
) -> Response<Body> {
    let result = match clean::elsewhere(request.uri()) {
        Some(place) => Ok(router::moved(&place)),
        None => routed(engine, request, hand_over).await,
    };
    let response = result.unwrap_or_else(ApiError::into_response);
    if response.extensions().get::<HandedOver>().is_some() {
        // The session says the rest; this is dropped with what speaks HTTP.
        return std::future::pending().await;
    }
    let whole = response.extensions().get::<body::Whole>().is_some();
    dress(response.map(|body| match body.size_hint().exact() {
        Some(_) => body,
        // Like dockerd: who has closed its sending half waits for no further news.
        None => body::until(body, wire.ended(), whole),
    }))
}

fn dress(mut response: Response<Body>) -> Response<Body> {
    for (name, value) in HEADERS {
        response.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

async fn routed(
    engine: Arc<Engine>,
    request: Request<Incoming>,
    hand_over: mpsc::Sender<Hijacked>,
) -> Answer {
    let call = Call::new(engine, request, hand_over)?;
    // A task of its own: a client that leaves must not stop the engine between two steps of what
    // it has begun. Whatever should end with the client looks for its end itself.
    tokio::spawn(router::route(call))
        .await
        .unwrap_or_else(|error| Err(Error::internal("the request was cut short", error).into()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    const ROOM_FOR_ONE: Room = Room {
        served: 1,
        refused: 1,
        patience: Duration::from_secs(1),
    };

    /// A server with room for one client, which echoes what that says.
    fn small(dir: &std::path::Path) -> std::path::PathBuf {
        let path = dir.join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(each_connection(
            listener,
            ROOM_FOR_ONE,
            |mut stream| async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            },
        ));
        path
    }

    async fn echoes(stream: &mut UnixStream) -> bool {
        let said = stream.write_all(b"x").await;
        said.is_ok() && matches!(stream.read_u8().await, Ok(b'x'))
    }

    async fn answer(stream: &mut UnixStream) -> String {
        let mut text = String::new();
        let ask = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn one_client_too_many_is_told_so_and_the_next_gets_the_place_that_came_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = small(dir.path());
        let mut first = UnixStream::connect(&path).await.unwrap();
        assert!(echoes(&mut first).await);
        let mut second = UnixStream::connect(&path).await.unwrap();
        let told = answer(&mut second).await;
        assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
        assert!(told.contains("too many connections: 1 are open"), "{told}");
        assert!(told.contains("connection: close"), "{told}");
        assert!(echoes(&mut first).await);
        drop(first);
        loop {
            // The server may not have seen the end yet.
            let mut next = UnixStream::connect(&path).await.unwrap();
            if echoes(&mut next).await {
                break;
            }
        }
    }

    #[tokio::test]
    async fn clients_turned_away_that_say_nothing_keep_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = small(dir.path());
        let mut first = UnixStream::connect(&path).await.unwrap();
        assert!(echoes(&mut first).await);
        let mut silent = UnixStream::connect(&path).await.unwrap();
        let mut last = UnixStream::connect(&path).await.unwrap();
        assert!(answer(&mut last).await.starts_with("HTTP/1.1 503 "));
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    }
}
