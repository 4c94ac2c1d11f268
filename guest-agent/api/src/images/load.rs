//! `POST /images/load`, `GET /images/get`, `GET /images/{name}/get`.

use std::sync::Arc;

use hyper::StatusCode;
use lighter_engine::Error;
use lighter_engine::images::channel;
use serde::Serialize;

use crate::body::with_type;
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;
use crate::transfer;

use super::progress::failure;

#[derive(Serialize)]
struct Line {
    stream: String,
}

/// Reads the archive while it comes; nothing of it is kept in memory but its documents. A refusal is
/// the stream's last line and no status, as dockerd has it: clients look for it there.
pub(super) async fn load(mut call: Call) -> Answer {
    let (sender, reader) = channel::to_thread();
    let engine = Arc::clone(&call.engine);
    let loading = tokio::spawn(async move { engine.image_load(reader).await });
    transfer::feed(&mut call.body, sender).await;
    let loaded = loading
        .await
        .map_err(|error| Error::internal("loading the archive failed", error))?;
    let mut body = Vec::new();
    let lines = match loaded {
        Ok(loaded) => loaded.lines,
        Err(error) => {
            body = failure(&error.text());
            Vec::new()
        }
    };
    for line in lines {
        let line = Line {
            stream: format!("{line}\n"),
        };
        serde_json::to_writer(&mut body, &line)
            .map_err(|error| Error::internal("the answer cannot be encoded", error))?;
        body.extend_from_slice(b"\r\n");
    }
    Ok(with_type(
        StatusCode::OK,
        "application/json",
        crate::body::full(body),
    ))
}

/// Streams the archive. After a failure the stream is cut off.
pub(super) fn save(call: &Call, names: &[String]) -> Answer {
    if names.is_empty() {
        return Err(ApiError::bad_request("no image was named"));
    }
    let (images, pin) = call.engine.images_to_save(names)?;
    let engine = Arc::clone(&call.engine);
    Ok(transfer::from_thread(move |writer| {
        let saved = engine
            .image_save(&images, writer)
            .map_err(|error| error.text());
        drop(pin);
        saved
    }))
}
