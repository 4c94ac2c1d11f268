//! `POST /images/{name}/push`.

use std::sync::Arc;

use lighter_engine::images::Platform;
use lighter_engine::images::reference::Reference;
use serde::Deserialize;

use super::pull::invalid;
use super::{registry_auth, stream};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
}

/// Without `tag`, every tag of the repository is meant.
pub(super) async fn push(call: &Call, name: &str) -> Answer {
    let named: Reference = name.parse().map_err(invalid)?;
    let reference = match call.query.filled("tag") {
        None => named,
        Some(tag) => named.with_tag(tag).map_err(invalid)?,
    };
    let platform = call.query.filled("platform");
    if let Some(text) = platform.filter(|_| call.version.since(46)) {
        call.engine
            .require_platform(&reference, &platform_of(text)?)?;
    }
    let credentials = registry_auth::of(call);
    let engine = Arc::clone(&call.engine);
    stream::answer("push", async move |lines| {
        engine.image_push(&reference, credentials, lines).await
    })
    .await
}

/// OCI's platform, as JSON.
fn platform_of(text: &str) -> Result<Platform, ApiError> {
    let wanted: Wanted = serde_json::from_str(text)
        .map_err(|error| ApiError::bad_request(format!("failed to parse platform: {error}")))?;
    if wanted.os.is_empty() || wanted.architecture.is_empty() {
        return Err(ApiError::bad_request(
            "both OS and Architecture must be provided",
        ));
    }
    Ok(Platform {
        os: wanted.os,
        architecture: wanted.architecture,
        variant: wanted.variant,
    })
}
