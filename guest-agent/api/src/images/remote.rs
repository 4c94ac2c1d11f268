//! `GET /distribution/{name}/json` and `GET /images/search`.

use hyper::Method;
use lighter_engine::filters::Filters;
use lighter_engine::images::{Digest, SEARCH_FILTERS};
use serde::Serialize;

use super::registry_auth;
use crate::body::ok;
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    descriptor: Descriptor,
    platforms: Option<Vec<Platform>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
}

#[derive(Serialize)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    os_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
}

/// What a registry has under a name.
pub(crate) async fn distribution(call: &Call) -> Answer {
    let [_, name @ .., last] = call.path.as_slice() else {
        return Err(ApiError::page_not_found());
    };
    if call.method != Method::GET || last != "json" || name.is_empty() {
        return Err(ApiError::page_not_found());
    }
    let credentials = registry_auth::of(call);
    let name = name.join("/");
    let found = call.engine.image_describe(&name, credentials).await?;
    let platforms = found.platforms.into_iter().map(|platform| Platform {
        architecture: platform.architecture,
        os: platform.os,
        os_version: platform.os_version,
        variant: platform.variant,
    });
    let platforms: Vec<Platform> = platforms.collect();
    ok(&Described {
        descriptor: Descriptor {
            media_type: found.media_type,
            digest: found.digest,
            size: found.size,
        },
        platforms: (!platforms.is_empty()).then_some(platforms),
    })
}

#[derive(Serialize)]
struct Found {
    star_count: i64,
    is_official: bool,
    name: String,
    /// Of before; nothing is any more.
    is_automated: bool,
    description: String,
}

/// Repositories by their words.
pub(super) async fn search(call: &Call) -> Answer {
    let term = call.query.get("term").unwrap_or_default();
    let limit = match call.query.filled("limit") {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "invalid limit specified: strconv.Atoi: parsing {text:?}: invalid syntax"
            ))
        })?,
    };
    let filters = Filters::parse(call.query.get("filters"), SEARCH_FILTERS)?;
    let credentials = registry_auth::of(call);
    let asked = call.engine.image_search(term, limit, &filters, credentials);
    let found = asked.await?.into_iter().map(|one| Found {
        star_count: one.star_count,
        is_official: one.is_official,
        name: one.name,
        is_automated: false,
        description: one.description,
    });
    ok(&found.collect::<Vec<_>>())
}
