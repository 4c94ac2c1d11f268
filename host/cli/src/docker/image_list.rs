//! The list of `images`: what is asked of the engine, and a row for each name.
//!
//! Called by `images`, and by `system df` for its rows.

use clap::ArgMatches;
use serde_json::{Map, Value, json};

use super::api::with_query;
use super::flags::{is_set, text, texts};
use super::table::{self, Column};
use super::{Context, containers, filters, now_unix, pull, units};
use crate::exit::{CliError, Code};

const HEADINGS: &[Column] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];

/// Prints the images that there are.
///
/// # Errors
/// In docker's words.
pub async fn list(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let mut conditions = texts(arguments, "filter");
    conditions.extend(text(arguments, "target").map(|name| format!("reference={name}")));
    let all = if is_set(arguments, "all") {
        "1".to_owned()
    } else {
        String::new()
    };
    let query = [("all", all), ("filters", filters(&conditions)?)];
    let found = context.api.get(&with_query("/images/json", &query)).await?;
    let whole = is_set(arguments, "no-trunc");
    let digests = is_set(arguments, "digests");
    let format = text(arguments, "format");
    let mut images: Vec<&Value> = found.as_array().into_iter().flatten().collect();
    images.sort_by_key(|image| std::cmp::Reverse(image["Created"].as_i64()));
    let dangling = conditions.iter().any(|c| c == "dangling=true");
    let rows: Vec<_> = images
        .iter()
        .flat_map(|image| rows(image, whole, digests, dangling))
        .collect();
    if table::is_quiet(arguments) {
        // One line a name, as docker does: an image with two names is there twice.
        for row in &rows {
            context.printer.line(row["ID"].as_str().unwrap_or_default());
        }
        return Ok(Code::OK);
    }
    let mut columns = vec!["Repository", "Tag", "ID", "CreatedSince", "Size"];
    if digests {
        columns.insert(2, "Digest");
    }
    table::print(
        context.printer,
        &table::format(format.as_deref())?,
        &columns,
        HEADINGS,
        &rows,
    )?;
    Ok(Code::OK)
}

/// An image is a row for each of its names.
pub fn rows(image: &Value, whole: bool, digests: bool, dangling: bool) -> Vec<Map<String, Value>> {
    let names = |field: &str| -> Vec<String> {
        let all = image[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        all.filter(|name| !name.starts_with("<none>"))
            .map(str::to_owned)
            .collect()
    };
    let (tags, digest_names) = (names("RepoTags"), names("RepoDigests"));
    let none = || "<none>".to_owned();
    let digest_of = |repository: &str| {
        digest_names
            .iter()
            .filter_map(|name| name.split_once('@'))
            .find(|(name, _)| *name == repository)
            .map_or_else(none, |(_, digest)| digest.to_owned())
    };
    let mut found = Vec::new();
    for tag in &tags {
        let (repository, tag) = pull::split(tag);
        let digest = digest_of(&repository);
        found.push((repository, tag, digest));
    }
    if tags.is_empty() {
        for name in &digest_names {
            let (repository, digest) = name.split_once('@').unwrap_or((name, ""));
            found.push((repository.to_owned(), none(), digest.to_owned()));
        }
    }
    if found.is_empty() {
        found.push((none(), none(), none()));
    }
    if dangling {
        found.truncate(1);
    }
    found
        .into_iter()
        .map(|(repository, tag, digest)| {
            row(
                image,
                whole,
                &repository,
                &tag,
                if digests { &digest } else { "<none>" },
            )
        })
        .collect()
}

fn row(
    image: &Value,
    whole: bool,
    repository: &str,
    tag: &str,
    digest: &str,
) -> Map<String, Value> {
    let id = image["Id"].as_str().unwrap_or_default();
    let short: String = id
        .strip_prefix("sha256:")
        .unwrap_or(id)
        .chars()
        .take(12)
        .collect();
    let created = image["Created"].as_i64().unwrap_or(0);
    let age = u64::try_from(now_unix() - created).unwrap_or(0);
    let size = |field: &str| match image[field].as_i64() {
        Some(bytes) if bytes >= 0 => units::decimal_size(bytes.unsigned_abs()),
        _ => "N/A".to_owned(),
    };
    let containers = match image["Containers"].as_i64() {
        Some(count) if count >= 0 => count.to_string(),
        _ => "N/A".to_owned(),
    };
    let fields = json!({
        "ID": if whole { id } else { &short },
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "CreatedSince": format!("{} ago", units::duration(age)),
        "CreatedAt": containers::local_time(created),
        "Size": size("Size"),
        "VirtualSize": units::decimal_size_4(image["Size"].as_u64().unwrap_or_default()),
        "Containers": containers,
        "SharedSize": size("SharedSize"),
        "UniqueSize": "N/A",
    });
    table::row(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_a_row_for_each_name() {
        let image = json!({
            "Id": "sha256:6a16158a8063b2b49f8d1f4318fe2a3dd878be36b41abe60b8b39cc6b375a322",
            "RepoTags": ["busybox:latest", "localhost:5000/b:1"], "RepoDigests": ["busybox@sha256:11"],
            "Created": 0, "Size": 4_261_502, "SharedSize": -1, "Containers": -1,
        });
        let rows = rows(&image, false, true, false);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (&rows[0]["Repository"], &rows[0]["Digest"]),
            (&json!("busybox"), &json!("sha256:11"))
        );
        assert_eq!(
            (&rows[1]["Repository"], &rows[1]["Tag"]),
            (&json!("localhost:5000/b"), &json!("1"))
        );
        assert_eq!(
            (&rows[0]["ID"], &rows[0]["Size"]),
            (&json!("6a16158a8063"), &json!("4.26MB"))
        );
    }
}
