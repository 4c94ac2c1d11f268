//! Archives in and out: bytes between a connection and a thread that blocks.

use std::io::{self, Write as _};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Response, StatusCode};
use lighter_engine::images::channel::{self, ThreadWriter};
use tokio::sync::mpsc;

use crate::body::{Body, Whole, fallible, with_type};
use crate::request_body::RequestBody;

/// Bytes of an archive that are still taken once it is known what becomes of it, so that the client
/// is done with writing when it is told.
const MAX_TAIL: usize = 64 << 20;

/// Hands a request's body to whoever reads the other end of `sender`.
pub(crate) async fn feed(body: &mut RequestBody, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut tail = 0;
    while let Some(frame) = body.frame().await {
        let chunk = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_trailers) => continue,
            },
            Err(error) => Err(io::Error::other(error)),
        };
        let (broken, length) = (chunk.is_err(), chunk.as_ref().map_or(0, Bytes::len));
        // The reader stops at the archive's end, or early at a broken one.
        if sender.send(chunk).await.is_err() {
            tail += length;
        }
        if broken || tail > MAX_TAIL {
            return;
        }
    }
}

/// An answer that is the archive `work` writes on a thread. After a failure the stream is cut off.
pub(crate) fn from_thread(
    work: impl FnOnce(&mut ThreadWriter) -> Result<(), String> + Send + 'static,
) -> Response<Body> {
    let (mut writer, mut chunks) = channel::from_thread();
    let working = tokio::task::spawn_blocking(move || {
        work(&mut writer).and_then(|()| writer.flush().map_err(|error| error.to_string()))
    });
    let (sender, body) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(chunk) = chunks.recv().await {
            if sender.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
        let done = working.await.unwrap_or_else(|error| Err(error.to_string()));
        if let Err(error) = done {
            tracing::warn!(error, "an archive could not be written to its end");
            sender.send(Err(io::Error::other(error))).await.ok();
        }
    });
    let mut response = with_type(StatusCode::OK, "application/x-tar", fallible(body));
    response.extensions_mut().insert(Whole);
    response
}
