//! `/images/…`.
//!
//! Names of images contain slashes: what stands between the first and the last part of the path
//! is the name.

mod inspect;
mod list;
mod load;
mod make;
mod progress;
mod pull;
mod push;
mod registry_auth;
mod remote;
mod remove;
mod stream;

pub(crate) use list::{Shape as Listed, shape};
pub(crate) use make::commit;
pub(crate) use registry_auth::login;
pub(crate) use remote::distribution;
pub(crate) use stream::answer as lines;

use crate::body::empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

/// The routes.
pub(crate) async fn route(call: Call) -> Answer {
    let path = call.path.clone();
    let parts: Vec<&str> = path.iter().skip(1).map(String::as_str).collect();
    match (call.method.as_str(), parts.as_slice()) {
        ("GET", ["json"]) => list::list(&call),
        ("GET", ["search"]) => remote::search(&call).await,
        ("GET", ["get"]) => load::save(&call, &all(&call, "names")),
        ("POST", ["create"]) if is_import(&call) => make::import(call).await,
        ("POST", ["create"]) => pull::create(&call).await,
        ("POST", ["load"]) => load::load(call).await,
        ("POST", ["prune"]) => remove::prune(&call).await,
        ("GET", [name @ .., "json"]) if !name.is_empty() => {
            inspect::inspect(&call, &name.join("/"))
        }
        ("GET", [name @ .., "history"]) if !name.is_empty() => {
            inspect::history(&call, &name.join("/"))
        }
        ("GET", [name @ .., "get"]) if !name.is_empty() => load::save(&call, &[name.join("/")]),
        ("POST", [name @ .., "push"]) if !name.is_empty() => {
            push::push(&call, &name.join("/")).await
        }
        ("POST", [name @ .., "tag"]) if !name.is_empty() => tag(&call, &name.join("/")).await,
        ("DELETE", name) if !name.is_empty() => remove::remove(&call, &name.join("/")).await,
        _ => Err(ApiError::page_not_found()),
    }
}

/// Whether what is to be created comes from an archive and not from a registry.
fn is_import(call: &Call) -> bool {
    call.query.filled("fromImage").is_none() && call.query.filled("fromSrc").is_some()
}

/// A parameter that may be given more than once, or once with commas.
fn all(call: &Call, key: &str) -> Vec<String> {
    call.query
        .all(key)
        .flat_map(|value| value.split(','))
        .map(str::to_owned)
        .collect()
}

async fn tag(call: &Call, name: &str) -> Answer {
    let repository = call.query.get("repo").unwrap_or_default();
    let tag = call.query.get("tag").unwrap_or_default();
    call.engine.image_tag(name, repository, tag).await?;
    Ok(empty(hyper::StatusCode::CREATED))
}
