//! The body of a request, which is read a little further than its handler wanted.
//!
//! Made by [`Call`](crate::call::Call). A request that is refused at once is answered while its client
//! still writes: were the rest of a small body not taken, the client would meet a closed connection
//! before it looks for the answer, and say that instead.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::EXPECT;

/// Most that is taken of what the handler left: as much as Go's server takes.
const MOST_LEFT: usize = 256 << 10;

/// How long the client may take for it.
const LEFT_LIMIT: Duration = Duration::from_secs(5);

/// The body of one request.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Option<Incoming>,
    /// The client sends nothing before it is told to: reading would tell it.
    waits: bool,
}

impl RequestBody {
    /// The body behind a head with these fields.
    pub(crate) fn new(body: Incoming, headers: &HeaderMap) -> Self {
        Self {
            body: Some(body),
            waits: headers.contains_key(EXPECT),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let body = self.body.take().filter(|body| !body.is_end_stream());
        let Some(body) = body.filter(|_| !self.waits) else {
            return;
        };
        // The answer does not wait for it: both go on at once, on one connection.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LEFT_LIMIT, take(body)));
        }
    }
}

/// Takes what is left, as far as is taken at all.
async fn take(mut body: Incoming) {
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        taken += frame.data_ref().map_or(0, Bytes::len);
        if taken > MOST_LEFT {
            return;
        }
    }
}
