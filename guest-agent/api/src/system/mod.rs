//! `/_ping`, `/version`, `/info`, `/events`, `/system/df`, `/build/prune`.

mod df;
mod events;
mod info;
mod version;

use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderValue, PRAGMA};
use hyper::{Method, Response, StatusCode};

use crate::body::{Body, full, with_type};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

/// The routes.
pub(crate) async fn route(call: &Call) -> Answer {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    match (call.method.as_str(), path.as_slice()) {
        ("GET" | "HEAD", ["_ping"]) => Ok(ping(call)),
        ("GET", ["version"]) => version::version(call),
        ("GET", ["info"]) => info::info(call),
        ("GET", ["events"]) => events::events(call),
        ("GET", ["system", "df"]) => df::df(call).await,
        ("POST", ["build", "prune"]) => df::prune_cache(call),
        _ => Err(ApiError::page_not_found()),
    }
}

fn ping(call: &Call) -> Response<Body> {
    let head = call.method == Method::HEAD;
    let body = full(if head { "" } else { "OK" });
    let mut response = with_type(StatusCode::OK, "text/plain; charset=utf-8", body);
    let headers = response.headers_mut();
    headers.insert("builder-version", HeaderValue::from_static("2"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    if head {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}
