//! `GET /images/json`.

use std::collections::BTreeMap;

use lighter_engine::filters::Filters;
use lighter_engine::images::{FILTERS, ListOptions, Summary};
use serde::Serialize;

use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    containers: i64,
    created: i64,
    id: String,
    labels: Option<BTreeMap<String, String>>,
    parent_id: &'static str,
    repo_digests: Vec<String>,
    repo_tags: Vec<String>,
    shared_size: i64,
    size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<i64>,
}

pub(super) fn list(call: &Call) -> Answer {
    let options = ListOptions {
        filters: Filters::parse(call.query.get("filters"), FILTERS)?,
        shared_size: call.query.flag("shared-size"),
    };
    let listed = call.engine.image_list(&options)?;
    let shapes: Vec<Shape> = listed.iter().map(|summary| shape(call, summary)).collect();
    ok(&shapes)
}

fn shape(call: &Call, summary: &Summary) -> Shape {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let size = bytes(summary.image.size);
    Shape {
        containers: i64::try_from(summary.containers).unwrap_or(-1),
        created: summary.created,
        id: summary.image.id.to_string(),
        labels: summary.image.config.config.labels.clone(),
        parent_id: "",
        repo_digests: summary.digests.iter().map(|name| name.familiar()).collect(),
        repo_tags: summary.tags.iter().map(|name| name.familiar()).collect(),
        shared_size: summary.shared.map_or(-1, bytes),
        size,
        // Gone from the API with 1.44.
        virtual_size: (!call.version.since(44)).then_some(size),
    }
}
