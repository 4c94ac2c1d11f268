//! `POST /images/create`: pull.

use std::sync::Arc;

use lighter_engine::images::Platform;
use lighter_engine::images::reference::Reference;

use super::{registry_auth, stream};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

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
    let engine = Arc::clone(&call.engine);
    stream::answer("pull", async move |lines| {
        let asked = engine.image_pull(&reference, platform, credentials, lines);
        asked.await
    })
    .await
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
pub(super) fn invalid(error: lighter_engine::images::reference::ReferenceError) -> ApiError {
    ApiError::bad_request(error.to_string())
}
