//! `/lighter/…`: what dockerd does not have, for our own command line.

use std::sync::Arc;

use crate::call::Call;
use crate::error::ApiError;
use crate::images;
use crate::router::Answer;

/// The routes.
pub(crate) async fn route(call: &Call) -> Answer {
    let parts: Vec<&str> = call.path.iter().skip(1).map(String::as_str).collect();
    match (call.method.as_str(), parts.as_slice()) {
        ("GET", ["images", "verify"]) => verify(call).await,
        _ => Err(ApiError::page_not_found()),
    }
}

/// Progress lines, and an error as the last of them where something is damaged. `name`, as often as
/// wanted, says which images; without one, all.
async fn verify(call: &Call) -> Answer {
    let names: Vec<String> = call.query.all("name").map(str::to_owned).collect();
    let engine = Arc::clone(&call.engine);
    images::lines("verification", async move |lines| {
        engine.image_verify(&names, lines).await
    })
    .await
}
