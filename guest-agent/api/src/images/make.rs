//! `POST /images/create?fromSrc=` (import) and `POST /commit`.

use hyper::StatusCode;
use lighter_engine::Error;
use lighter_engine::images::{
    CommitOptions, ImportOptions, Platform, ProgressEvent, channel, new_name,
};
use lighter_engine::model::Config;
use serde::Serialize;

use super::{progress, stream};
use crate::body::{full, json, with_type};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;
use crate::transfer;

/// Reads the archive while it comes: from the client, or from where the client says.
pub(super) async fn import(mut call: Call) -> Answer {
    let text = |name: &str| call.query.get(name).unwrap_or_default().to_owned();
    let platform = match call.query.filled("platform") {
        None => None,
        Some(text) => Some(
            Platform::parse(text)
                .ok_or_else(|| ApiError::bad_request(format!("{text:?} is an invalid platform")))?,
        ),
    };
    let options = ImportOptions {
        name: new_name(&text("repo"), &text("tag"))?,
        message: text("message"),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        platform,
    };
    let engine = call.engine.clone();
    let from = text("fromSrc");
    if from != "-" {
        return stream::answer("import", async move |lines| {
            engine.image_import_from(&from, options, lines).await
        })
        .await;
    }
    let (sender, reader) = channel::to_thread();
    let importing = tokio::spawn(async move { engine.image_import(reader, options).await });
    transfer::feed(&mut call.body, sender).await;
    let id = importing
        .await
        .map_err(|error| Error::internal("importing the archive failed", error))??;
    let line = progress::line(&ProgressEvent::message(id.to_string()));
    Ok(with_type(StatusCode::OK, "application/json", full(line)))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    id: String,
}

pub(crate) async fn commit(mut call: Call) -> Answer {
    let config: Option<Config> = call.optional_json().await?;
    let text = |name: &str| call.query.get(name).unwrap_or_default().to_owned();
    let options = CommitOptions {
        name: new_name(&text("repo"), &text("tag"))?,
        author: text("author"),
        comment: text("comment"),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        pause: call.query.filled("pause").is_none() || call.query.flag("pause"),
        config,
    };
    let id = call
        .engine
        .container_commit(&text("container"), options)
        .await?;
    json(StatusCode::CREATED, &Made { id: id.to_string() })
}
