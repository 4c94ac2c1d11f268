//! `POST /images/load`, `GET /images/get`, `GET /images/{name}/get`.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use lighter_engine::Error;
use lighter_engine::images::channel;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::body::{streamed, with_type};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

#[derive(Serialize)]
struct Line {
    stream: String,
}

/// Reads the archive while it comes; nothing of it is kept in memory but its documents.
pub(super) async fn load(mut call: Call) -> Answer {
    let (sender, reader) = channel::to_thread();
    let engine = Arc::clone(&call.engine);
    let loading = tokio::spawn(async move { engine.image_load(reader).await });
    while let Some(frame) = call.body.frame().await {
        let chunk = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_trailers) => continue,
            },
            Err(error) => Err(std::io::Error::other(error)),
        };
        let broken = chunk.is_err();
        // The reader stops early at a broken archive: its error says more than this one.
        if sender.send(chunk).await.is_err() || broken {
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

/// Streams the archive. A failure after the head cuts the stream off, as with dockerd.
pub(super) fn save(call: &Call, names: &[String]) -> Answer {
    if names.is_empty() {
        return Err(ApiError::bad_request("no image was named"));
    }
    let images = call.engine.images_to_save(names)?;
    let (mut writer, mut chunks) = channel::from_thread();
    let engine = Arc::clone(&call.engine);
    tokio::task::spawn_blocking(move || {
        let saved = engine
            .image_save(&images, &mut writer)
            .map_err(|error| error.text());
        let flushed = saved.and_then(|()| writer.flush().map_err(|error| error.to_string()));
        if let Err(error) = flushed {
            tracing::warn!(error, "an archive could not be written to its end");
        }
    });
    let (sender, body) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        while let Some(chunk) = chunks.recv().await {
            if sender.send(chunk).await.is_err() {
                break;
            }
        }
    });
    Ok(with_type(
        StatusCode::OK,
        "application/x-tar",
        streamed(body),
    ))
}
