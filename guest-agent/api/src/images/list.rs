//! `GET /images/json`.

use std::collections::BTreeMap;

use lighter_engine::filters::Filters;
use lighter_engine::images::{FILTERS, ListOptions, Summary};
use serde::Serialize;

use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

/// An image as lists tell of it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Shape {
    containers: i64,
    created: i64,
    id: String,
    labels: Option<BTreeMap<String, String>>,
    parent_id: String,
    repo_digests: Option<Vec<String>>,
    repo_tags: Option<Vec<String>>,
    shared_size: i64,
    size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<i64>,
}

pub(super) fn list(call: &Call) -> Answer {
    let options = ListOptions {
        filters: Filters::parse(call.query.get("filters"), FILTERS)?,
        all: call.query.flag("all"),
        shared_size: call.query.flag("shared-size"),
    };
    let listed = call.engine.image_list(&options)?;
    let shapes: Vec<Shape> = listed.iter().map(|summary| shape(call, summary)).collect();
    ok(&shapes)
}

impl Shape {
    /// As usage of the disk has it: null where there is no name.
    pub(crate) fn without_empty_names(mut self) -> Self {
        for names in [&mut self.repo_digests, &mut self.repo_tags] {
            *names = names.take().filter(|names| !names.is_empty());
        }
        self
    }
}

/// What is told of an image.
pub(crate) fn shape(call: &Call, summary: &Summary) -> Shape {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let size = bytes(summary.image.size);
    Shape {
        containers: i64::try_from(summary.containers).unwrap_or(-1),
        created: summary.created,
        id: summary.image.id.to_string(),
        labels: summary.image.config.config.labels.clone(),
        parent_id: summary
            .image
            .parent
            .map_or_else(String::new, |id| id.to_string()),
        repo_digests: Some(summary.digests.iter().map(|name| name.familiar()).collect()),
        repo_tags: Some(summary.tags.iter().map(|name| name.familiar()).collect()),
        shared_size: summary.shared.map_or(-1, bytes),
        size,
        // Gone from the API with 1.44.
        virtual_size: (!call.version.since(44)).then_some(size),
    }
}
