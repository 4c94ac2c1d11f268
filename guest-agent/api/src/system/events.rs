//! `GET /events`: one JSON object a line, the head at once.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use lighter_engine::clock::Timestamp;
use lighter_engine::events::Event;
use lighter_engine::filters::{self, Filters};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use crate::body::{streamed, with_type};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

pub(super) fn events(call: &Call) -> Answer {
    let filters = Filters::parse_any(call.query.get("filters"))?;
    let (since, until) = (time(call, "since")?, time(call, "until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(ApiError::bad_request(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            since.unix(),
            until.unix()
        )));
    }
    // A client that only wants the past gets what is kept of it.
    let since = since.or_else(|| until.map(|_| Timestamp::from_unix_ns(0)));
    let (replay, live) = call.engine.events().listen(since);
    let (sender, chunks) = mpsc::channel(64);
    tokio::spawn(send(replay, live, filters, until, sender));
    Ok(with_type(
        StatusCode::OK,
        "application/json",
        streamed(chunks),
    ))
}

fn time(call: &Call, key: &str) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = call.query.filled(key) else {
        return Ok(None);
    };
    match filters::until(text) {
        Ok(time) => Ok(Some(time)),
        Err(_) => Err(ApiError::bad_request(format!(
            "invalid value for \"{key}\": \"{text}\""
        ))),
    }
}

async fn send(
    replay: Vec<Arc<Event>>,
    mut live: broadcast::Receiver<Arc<Event>>,
    filters: Filters,
    until: Option<Timestamp>,
    sender: mpsc::Sender<Bytes>,
) {
    for event in &replay {
        if until.is_none_or(|until| event.time_nano <= until.unix_ns())
            && !put(event, &filters, &sender).await
        {
            return;
        }
    }
    let end = async {
        match until {
            Some(until) => tokio::time::sleep(until.since(Timestamp::now())).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    loop {
        let event = tokio::select! {
            event = live.recv() => event,
            () = &mut end => return,
            () = sender.closed() => return,
        };
        match event {
            Ok(event) => {
                if !put(&event, &filters, &sender).await {
                    return;
                }
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "a listener is too slow for the events");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// False when the client has gone.
async fn put(event: &Event, filters: &Filters, sender: &mpsc::Sender<Bytes>) -> bool {
    if !event.matches(filters) {
        return true;
    }
    let Ok(mut line) = serde_json::to_vec(event) else {
        return true;
    };
    line.push(b'\n');
    sender.send(line.into()).await.is_ok()
}
