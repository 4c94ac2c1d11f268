//! Answers of progress lines: what pull, push and verify say while they work.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use lighter_engine::images::{Progress, ProgressEvent};
use lighter_engine::{Error, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::progress;
use crate::body::{streamed, with_type};
use crate::router::Answer;

/// Carries lines from the work to the answer. Bars are rare enough (ten a second and layer) that
/// a client that does not read cannot fill the memory before it is given up.
#[derive(Debug)]
struct Lines(mpsc::UnboundedSender<ProgressEvent>);

impl Progress for Lines {
    fn report(&self, event: ProgressEvent) {
        // The client may have gone: then the work is ended from the other side.
        self.0.send(event).ok();
    }
}

/// Work on its own task, which ends with this.
struct Working(JoinHandle<Result<()>>);

impl Working {
    async fn ended(&mut self) -> Result<()> {
        match (&mut self.0).await {
            Ok(ended) => ended,
            Err(error) => Err(Error::internal("the transfer ended unexpectedly", error)),
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Does `work` and answers with its lines. A failure before the first line is the answer's status;
/// a later one is its last line.
pub(crate) async fn answer<F, W>(what: &'static str, work: F) -> Answer
where
    F: FnOnce(Arc<dyn Progress>) -> W,
    W: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, mut lines) = mpsc::unbounded_channel();
    let mut working = Working(tokio::spawn(work(Arc::new(Lines(sender)))));
    // The work drops its end when it is done.
    let Some(first) = lines.recv().await else {
        working.ended().await?;
        return Err(Error::unavailable(format!("the {what} said nothing")).into());
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
        if let Err(error) = working.ended().await {
            let text = error.text();
            tracing::info!(error = text, what, "a transfer failed");
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
