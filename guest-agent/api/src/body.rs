//! Bodies: whole, streamed, JSON as dockerd writes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::error::ApiError;

/// The body of every response. One that fails cuts the connection off: the client must not take
/// what it has for the whole.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is known as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    let body = Full::new(bytes.into());
    body.map_err(|never| match never {}).boxed_unsync()
}

/// A body that is written while it is sent: the head goes out at once, each chunk as it comes.
///
/// The sender notices a client that has gone when its `send` fails.
pub(crate) fn streamed(chunks: mpsc::Receiver<Bytes>) -> Body {
    let stream = futures_util::stream::unfold(chunks, |mut chunks| async move {
        let chunk = chunks.recv().await?;
        Some((Ok(Frame::data(chunk)), chunks))
    });
    BodyExt::boxed_unsync(StreamBody::new(stream))
}

/// Like [`streamed`], but an error among the chunks ends the body as broken.
pub(crate) fn fallible(chunks: mpsc::Receiver<io::Result<Bytes>>) -> Body {
    let stream = futures_util::stream::unfold(chunks, |mut chunks| async move {
        let chunk = chunks.recv().await?;
        Some((chunk.map(Frame::data), chunks))
    });
    BodyExt::boxed_unsync(StreamBody::new(stream))
}

/// Marks an answer, in its extensions, that must not look whole if its client left before its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole;

/// A body that ends early when `gone` does: its client has left. With `whole` it breaks off.
pub(crate) fn until(
    body: Body,
    gone: impl Future<Output = ()> + Send + 'static,
    whole: bool,
) -> Body {
    BodyExt::boxed_unsync(Until {
        body,
        gone: Box::pin(gone),
        whole,
    })
}

struct Until {
    body: Body,
    whole: bool,
    gone: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl hyper::body::Body for Until {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        // What is there is still sent: only waiting ends.
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => {
                let left = self
                    .whole
                    .then(|| Err(io::ErrorKind::ConnectionAborted.into()));
                self.gone.as_mut().poll(context).map(|()| left)
            }
            ready => ready,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A JSON answer with `status`; a line feed ends it, as Go's encoder does.
pub(crate) fn json<T: Serialize>(
    status: StatusCode,
    value: &T,
) -> Result<Response<Body>, ApiError> {
    let mut body = serde_json::to_vec(value).map_err(|error| {
        ApiError::from(lighter_engine::Error::internal(
            "the answer cannot be encoded",
            error,
        ))
    })?;
    body.push(b'\n');
    Ok(with_type(status, "application/json", full(body)))
}

/// `200 OK` with JSON.
pub(crate) fn ok<T: Serialize>(value: &T) -> Result<Response<Body>, ApiError> {
    json(StatusCode::OK, value)
}

/// `204 No Content`.
pub(crate) fn no_content() -> Response<Body> {
    empty(StatusCode::NO_CONTENT)
}

/// Only a status.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// A body with its content type.
pub(crate) fn with_type(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
