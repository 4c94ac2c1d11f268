//! `HEAD`, `GET` and `PUT /containers/{id}/archive`, and `GET /containers/{id}/export`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use lighter_engine::Error;
use lighter_engine::files::{PathStat, PutOptions};
use lighter_engine::images::channel;
use serde::Serialize;

use crate::body::empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;
use crate::transfer;

const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    name: &'a str,
    size: i64,
    mode: u32,
    mtime: String,
    link_target: &'a str,
}

/// The path that is asked for; the error is dockerd's, letter by letter.
fn path(call: &Call) -> Result<String, ApiError> {
    let path = call.query.filled("path").map(str::to_owned);
    path.ok_or_else(|| ApiError::bad_request("bad parameter: pathcannot be empty"))
}

fn put_stat(headers: &mut HeaderMap, stat: &PathStat) -> Result<(), ApiError> {
    let failed = |error| Error::internal("the answer cannot be encoded", error);
    let shape = Shape {
        name: &stat.name,
        size: stat.size,
        mode: stat.mode,
        mtime: stat.mtime.to_string(),
        link_target: &stat.link_target,
    };
    let text = serde_json::to_vec(&shape).map_err(failed)?;
    // The letters of base64 can all stand in a header.
    if let Ok(value) = HeaderValue::from_str(&STANDARD.encode(text)) {
        headers.insert(STAT, value);
    }
    Ok(())
}

pub(super) async fn head(call: &Call, name: &str) -> Answer {
    let stat = call.engine.container_stat(name, &path(call)?).await?;
    let mut response = empty(StatusCode::OK);
    put_stat(response.headers_mut(), &stat)?;
    Ok(response)
}

pub(super) async fn get(call: &Call, name: &str) -> Answer {
    let archive = call.engine.container_archive(name, &path(call)?).await?;
    let stat = archive.stat().clone();
    let mut response = transfer::from_thread(move |writer| {
        archive.write(writer).map_err(|error| error.to_string())
    });
    put_stat(response.headers_mut(), &stat)?;
    Ok(response)
}

/// Answers when everything is in its place, and has read the archive to its end by then.
pub(super) async fn put(mut call: Call, name: &str) -> Answer {
    let path = path(&call)?;
    let options = PutOptions {
        keep_kinds: call.query.flag("noOverwriteDirNonDir"),
        own: call.query.flag("copyUIDGID"),
    };
    let (sender, reader) = channel::to_thread();
    let (engine, name) = (call.engine.clone(), name.to_owned());
    let unpacking = tokio::spawn(async move {
        let unpacked = engine.container_extract(&name, &path, options, reader);
        unpacked.await
    });
    transfer::feed(&mut call.body, sender).await;
    unpacking
        .await
        .map_err(|error| Error::internal("unpacking the archive failed", error))??;
    Ok(empty(StatusCode::OK))
}

pub(super) async fn export(call: &Call, name: &str) -> Answer {
    let export = call.engine.container_export(name).await?;
    Ok(transfer::from_thread(move |writer| {
        export.write(writer).map_err(|error| error.to_string())
    }))
}
