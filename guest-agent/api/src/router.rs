//! From the path to the resource. Every resource matches the rest of the path itself.

use hyper::Response;

use crate::body::Body;
use crate::call::Call;
use crate::error::ApiError;
use crate::{containers, system};

/// What every handler answers.
pub(crate) type Answer = Result<Response<Body>, ApiError>;

/// Hands the call to the resource that its path names.
pub(crate) async fn route(call: Call) -> Answer {
    match call.path.first().map(String::as_str) {
        Some("_ping" | "version" | "info" | "events" | "auth" | "system") => {
            system::route(call).await
        }
        Some("containers" | "exec") => containers::route(call).await,
        _ => Err(ApiError::page_not_found()),
    }
}
