//! Doors for `tests/fuzz`: the head of a request.

use lighter_engine::filters::{self, Filters};

use crate::query::{Query, decode_path};
use crate::version;

/// Reads `text` as the target of a request: version, path, query and the filters in it.
pub fn head(text: &str) {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if let Ok((_, rest)) = version::split(path) {
        drop(decode_path(rest));
    }
    let query = Query::parse(Some(query));
    drop(query.number::<i64>("t"));
    let _ = query.flag("all");
    let known = ["label", "name", "until", "dangling"];
    let Ok(filters) = Filters::parse(query.get("filters"), &known) else {
        return;
    };
    drop(filters.boolean("dangling"));
    for value in filters.values("until") {
        drop(filters::until(value));
    }
    for pattern in filters.values("name") {
        let _ = filters::name_matches(pattern, "/a-container_1");
    }
}
