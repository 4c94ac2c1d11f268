//! `POST /images/create`: pull.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use lighter_engine::images::reference::Reference;
use lighter_engine::images::{Platform, Progress, ProgressEvent};
use lighter_engine::{Error, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{progress, registry_auth};
use crate::body::{streamed, with_type};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

/// Carries lines from the pull to the answer. Bars are rare enough (ten a second and layer) that
/// a client that does not read cannot fill the memory before it is given up.
#[derive(Debug)]
struct Lines(mpsc::UnboundedSender<ProgressEvent>);

impl Progress for Lines {
    fn report(&self, event: ProgressEvent) {
        // The client may have gone: then the pull is ended from the other side.
        self.0.send(event).ok();
    }
}

/// A pull on its own task, which ends with this.
struct Pulling(JoinHandle<Result<()>>);

impl Pulling {
    async fn ended(&mut self) -> Result<()> {
        match (&mut self.0).await {
            Ok(ended) => ended,
            Err(error) => Err(Error::internal("the pull ended unexpectedly", error)),
        }
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A failure before the first line is the answer's status; a later one is its last line.
pub(super) async fn create(call: &Call) -> Answer {
    let reference = wanted(call)?;
    let platform = match call.query.filled("platform") {
        None => None,
        Some(text) => Some(
            Platform::parse(text)
                .ok_or_else(|| ApiError::bad_request(format!("{text:?} is an invalid platform")))?,
        ),
    };
    let credentials = registry_auth::of(call);
    let (sender, mut lines) = mpsc::unbounded_channel();
    let engine = Arc::clone(&call.engine);
    let mut pulling = Pulling(tokio::spawn(async move {
        let lines = Arc::new(Lines(sender));
        engine
            .image_pull(&reference, platform, credentials, lines)
            .await
    }));
    // The pull drops its end when it is done.
    let Some(first) = lines.recv().await else {
        pulling.ended().await?;
        return Err(Error::unavailable("the pull said nothing").into());
    };
    let (out, body) = mpsc::channel(16);
    tokio::spawn(async move {
        let sent = tokio::select! {
            sent = send(&out, first, lines) => sent,
            () = out.closed() => false,
        };
        if !sent {
            return;
        }
        if let Err(error) = pulling.ended().await {
            let text = error.text();
            tracing::info!(error = text, "a pull failed");
            out.send(progress::failure(&text).into()).await.ok();
        }
    });
    Ok(with_type(
        StatusCode::OK,
        "application/json",
        streamed(body),
    ))
}

/// Hands every line on; false if the client has gone.
async fn send(
    out: &mpsc::Sender<Bytes>,
    first: ProgressEvent,
    mut lines: mpsc::UnboundedReceiver<ProgressEvent>,
) -> bool {
    let mut next = Some(first);
    while let Some(event) = next {
        if out.send(progress::line(&event).into()).await.is_err() {
            return false;
        }
        next = lines.recv().await;
    }
    true
}

/// `fromImage` with `tag`, which may be a digest. With neither in either, every tag is meant.
fn wanted(call: &Call) -> Result<Reference, ApiError> {
    let Some(image) = call.query.filled("fromImage") else {
        return Err(ApiError::bad_request("invalid reference format"));
    };
    let text = match call.query.filled("tag") {
        None => image.to_owned(),
        Some(digest) if digest.contains(':') => format!("{image}@{digest}"),
        Some(tag) => {
            let parsed: Reference = image.parse().map_err(invalid)?;
            let tagged = parsed.with_tag(tag).map_err(invalid)?;
            // A digest is what is pulled, whatever the tag beside it says.
            return Ok(if parsed.digest().is_some() {
                parsed
            } else {
                tagged
            });
        }
    };
    text.parse().map_err(invalid)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "map_err hands the error over"
)]
fn invalid(error: lighter_engine::images::reference::ReferenceError) -> ApiError {
    ApiError::bad_request(error.to_string())
}
