//! `POST /containers/{id}/wait`: the head at once, the result when it is there.

use bytes::Bytes;
use hyper::StatusCode;
use lighter_engine::containers::Condition;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::body::{streamed, with_type};
use crate::call::Call;
use crate::router::Answer;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    status_code: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Problem {
    message: String,
}

pub(super) fn wait(call: &Call, name: &str) -> Answer {
    let text = call.query.get("condition").unwrap_or_default();
    let condition = if call.version.since(30) { text } else { "" };
    let end = call
        .engine
        .container_wait(name, Condition::parse(condition)?)?;
    let (sender, chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        let waited = tokio::select! {
            waited = end => waited,
            // The client has gone.
            () = sender.closed() => return,
        };
        let error = (!waited.error.is_empty()).then_some(Problem {
            message: waited.error,
        });
        let shape = Shape {
            status_code: waited.code,
            error,
        };
        let mut text = serde_json::to_vec(&shape).unwrap_or_default();
        text.push(b'\n');
        // The client may have gone just now.
        let _ = sender.send(Bytes::from(text)).await;
    });
    Ok(with_type(
        StatusCode::OK,
        "application/json",
        streamed(chunks),
    ))
}
