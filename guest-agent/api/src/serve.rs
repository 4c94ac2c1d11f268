//! The server: connections from a listener, HTTP/1.1 with half-close and upgrades.
//!
//! Called by the agent, once for each listener.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use lighter_engine::{Engine, Error};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::body::Body;
use crate::call::Call;
use crate::error::ApiError;
use crate::router;
use crate::version::MAXIMUM_TEXT;

/// Connections served at a time on one listener; more wait in its backlog.
const CONNECTIONS: usize = 16_384;

/// Something that accepts connections: a unix socket, a vsock port.
pub trait Listener: Send {
    /// The connections it accepts.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for tokio::net::UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&mut self) -> io::Result<Self::Stream> {
        tokio::net::UnixListener::accept(self)
            .await
            .map(|(stream, _)| stream)
    }
}

/// Serves the API to every connection of `listener` until the task is dropped.
pub async fn serve<L: Listener>(engine: Arc<Engine>, mut listener: L) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(stream) => {
                let engine = Arc::clone(&engine);
                tokio::spawn(async move {
                    serve_connection(engine, stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of descriptors: the next attempt would fail at once as well.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Serves the API on one connection until it is closed.
pub async fn serve_connection<S>(engine: Arc<Engine>, stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let engine = Arc::clone(&engine);
        async move { Ok::<_, Infallible>(answer(engine, request).await) }
    });
    let connection = http1::Builder::new()
        // `docker run` closes its sending half right after the upgrade and still reads.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(engine: Arc<Engine>, request: Request<Incoming>) -> Response<Body> {
    let result = match Call::new(engine, request) {
        // A task of its own: a client that leaves must not stop the engine between two steps of
        // what it has begun. Whatever should end with the client looks for its end itself.
        Ok(call) => tokio::spawn(router::route(call))
            .await
            .unwrap_or_else(
                |error| Err(Error::internal("the request was cut short", error).into()),
            ),
        Err(error) => Err(error),
    };
    let mut response = result.unwrap_or_else(ApiError::into_response);
    let headers = response.headers_mut();
    headers.insert("api-version", HeaderValue::from_static(MAXIMUM_TEXT));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(
        SERVER,
        HeaderValue::from_static("Docker/28.5.2-lighter (linux)"),
    );
    response
}
