//! `GET /system/df`, and `POST /build/prune` of an engine whose build cache is empty.

use std::collections::BTreeMap;

use lighter_engine::disk_usage::Kinds;
use lighter_engine::events::Subject;
use lighter_engine::filters::{self, Filters};
use serde::Serialize;

use crate::body::ok;
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;
use crate::{containers, images, volumes};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    layers_size: u64,
    images: Option<Vec<images::Listed>>,
    containers: Option<Vec<containers::Listed>>,
    volumes: Option<Vec<volumes::Shape>>,
    build_cache: Option<[(); 0]>,
}

pub(super) async fn df(call: &Call) -> Answer {
    let kinds = ["image", "container", "volume", "build-cache"];
    // Before 1.42 all of it was always told.
    let wanted: Vec<&str> = call
        .query
        .all("type")
        .filter(|_| call.version.since(42))
        .collect();
    if let Some(unknown) = wanted.iter().find(|kind| !kinds.contains(kind)) {
        let text = format!("unknown object type: {unknown}");
        return Err(ApiError::bad_request(text));
    }
    let is_wanted = |kind: &str| wanted.is_empty() || wanted.contains(&kind);
    let kinds = Kinds {
        images: is_wanted("image"),
        containers: is_wanted("container"),
        volumes: is_wanted("volume"),
    };
    let usage = call.engine.disk_usage(kinds).await?;
    let (images, layers_size) = usage.images.unzip();
    let images = images.map(|all| all.into_iter().map(|one| images::shape(call, &one)));
    let containers = usage.containers;
    let containers = containers.map(|all| all.into_iter().map(|one| containers::shape(call, &one)));
    let volumes = usage.volumes.map(|all| {
        let shape = |one| volumes::measured(&call.engine, &one);
        all.into_iter().map(shape).collect()
    });
    ok(&Shape {
        layers_size: layers_size.unwrap_or(0),
        // Where a list has no names, this says that there are none.
        images: images.map(|all| all.map(images::Listed::without_empty_names).collect()),
        containers: containers.map(Iterator::collect),
        volumes,
        build_cache: is_wanted("build-cache").then_some([]),
    })
}

/// Filters of build prune.
const CACHE_FILTERS: &[&str] = &[
    "description",
    "id",
    "inuse",
    "label",
    "label!",
    "parent",
    "private",
    "shared",
    "type",
    "until",
    "unused-for",
];

pub(super) fn prune_cache(call: &Call) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        caches_deleted: Option<Vec<String>>,
        space_reclaimed: u64,
    }
    let failed = |error: lighter_engine::Error| {
        ApiError::bad_request(format!("failed to prune build cache: {}", error.text()))
    };
    let filters = Filters::parse(call.query.get("filters"), CACHE_FILTERS).map_err(failed)?;
    for text in filters.values("until") {
        filters::until(text).map_err(|_| {
            ApiError::bad_request(format!(
                "failed to prune build cache: \"until\" filter expects a duration (e.g., '24h') or a timestamp: \
                 failed to parse value as time or duration: \"{text}\""
            ))
        })?;
    }
    let reclaimed = BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]);
    let events = call.engine.events();
    events.emit(Subject::Builder, "prune", "", reclaimed);
    ok(&Pruned {
        caches_deleted: None,
        space_reclaimed: 0,
    })
}
