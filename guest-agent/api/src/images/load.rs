//! `POST /images/load`, `GET /images/get`, `GET /images/{name}/get`.

use std::io::Write;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::StatusCode;
use lighter_engine::Error;
use lighter_engine::images::channel;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::body::{Whole, fallible, with_type};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

#[derive(Serialize)]
struct Line {
    stream: String,
}

/// Bytes of an archive that are still taken once it is known what becomes of it, so that the client
/// is done with writing when it is told.
const MAX_TAIL: usize = 64 << 20;

/// Reads the archive while it comes; nothing of it is kept in memory but its documents.
pub(super) async fn load(mut call: Call) -> Answer {
    let (sender, reader) = channel::to_thread();
    let engine = Arc::clone(&call.engine);
    let loading = tokio::spawn(async move { engine.image_load(reader).await });
    let mut tail = 0;
    while let Some(frame) = call.body.frame().await {
        let chunk = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_trailers) => continue,
            },
            Err(error) => Err(std::io::Error::other(error)),
        };
        let (broken, length) = (chunk.is_err(), chunk.as_ref().map_or(0, bytes::Bytes::len));
        // The reader stops at the archive's end, or early at a broken one.
        if sender.send(chunk).await.is_err() {
            tail += length;
        }
        if broken || tail > MAX_TAIL {
            break;
        }
    }
    drop(sender);
    let loaded = loading
        .await
        .map_err(|error| Error::internal("loading the archive failed", error))??;
    let mut body = Vec::new();
    for line in loaded.lines {
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
    let (mut writer, mut chunks) = channel::from_thread();
    let engine = Arc::clone(&call.engine);
    let saving = tokio::task::spawn_blocking(move || {
        let saved = engine
            .image_save(&images, &mut writer)
            .map_err(|error| error.text());
        drop(pin);
        saved.and_then(|()| writer.flush().map_err(|error| error.to_string()))
    });
    let (sender, body) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(chunk) = chunks.recv().await {
            if sender.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
        let saved = saving.await.unwrap_or_else(|error| Err(error.to_string()));
        if let Err(error) = saved {
            tracing::warn!(error, "an archive could not be written to its end");
            sender.send(Err(std::io::Error::other(error))).await.ok();
        }
    });
    let mut response = with_type(StatusCode::OK, "application/x-tar", fallible(body));
    response.extensions_mut().insert(Whole);
    Ok(response)
}
