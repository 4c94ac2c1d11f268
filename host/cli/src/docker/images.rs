//! `images`, `pull`, `push`, `tag`, `rmi`.

use clap::{Arg, ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::api::{escape, with_query};
use super::flags::{Flag, Kind, flag, is_set, text, texts, with_flags};
use super::pull::{self, Show};
use super::table::{self, Column};
use super::{Context, Verb, containers, filters, now_unix, units};
use crate::exit::{CliError, Code};

const IMAGES: &[Flag] = &[
    flag(
        "all",
        Some('a'),
        Kind::Switch,
        "",
        "Show all images, intermediate ones too",
    ),
    flag("digests", None, Kind::Switch, "", "Show digests"),
    flag(
        "filter",
        Some('f'),
        Kind::List,
        "",
        "Show only what fits the conditions",
    ),
    flag(
        "format",
        None,
        Kind::Text,
        "",
        "`table`, `json`, or a template",
    ),
    flag(
        "no-trunc",
        None,
        Kind::Switch,
        "",
        "Do not shorten the output",
    ),
    flag("quiet", Some('q'), Kind::Switch, "", "Show only IDs"),
];
const PULL: &[Flag] = &[
    flag(
        "platform",
        None,
        Kind::Text,
        "",
        "Platform of the image (linux/amd64)",
    ),
    flag(
        "quiet",
        Some('q'),
        Kind::Switch,
        "",
        "Show only the name of what was pulled",
    ),
];
const PUSH: &[Flag] = &[
    flag(
        "all-tags",
        Some('a'),
        Kind::Switch,
        "",
        "Upload every tag of the repository",
    ),
    flag(
        "platform",
        None,
        Kind::Text,
        "",
        "Upload only an image of this platform (linux/amd64)",
    ),
    flag(
        "quiet",
        Some('q'),
        Kind::Switch,
        "",
        "Show only the name of what was uploaded",
    ),
];
const RMI: &[Flag] = &[
    flag(
        "force",
        Some('f'),
        Kind::Switch,
        "",
        "Remove the image even if it is used or has other names",
    ),
    flag(
        "no-prune",
        None,
        Kind::Switch,
        "",
        "Keep parents without a name",
    ),
];

fn images_command() -> Command {
    with_flags(Command::new("images").about("List images"), IMAGES)
        .arg(Arg::new("target").value_name("REPOSITORY[:TAG]"))
}

fn pull_command() -> Command {
    with_flags(
        Command::new("pull").about("Download an image from a registry"),
        PULL,
    )
    .arg(super::target("NAME[:TAG|@DIGEST]"))
}

fn push_command() -> Command {
    with_flags(
        Command::new("push").about("Upload an image to a registry"),
        PUSH,
    )
    .arg(super::target("NAME[:TAG]"))
}

fn tag_command() -> Command {
    let name =
        |name: &'static str, word: &'static str| Arg::new(name).required(true).value_name(word);
    Command::new("tag")
        .about("Give an image another name")
        .arg(name("source", "SOURCE_IMAGE[:TAG]"))
        .arg(name("new", "TARGET_IMAGE[:TAG]"))
}

fn rmi_command() -> Command {
    with_flags(Command::new("rmi").about("Remove images"), RMI).arg(super::targets("IMAGE"))
}

/// The verbs of this file.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "images",
        command: images_command,
        run: |c, a| Box::pin(list(c, a)),
    },
    Verb {
        name: "pull",
        command: pull_command,
        run: |c, a| Box::pin(pull_verb(c, a)),
    },
    Verb {
        name: "push",
        command: push_command,
        run: |c, a| Box::pin(push_verb(c, a)),
    },
    Verb {
        name: "tag",
        command: tag_command,
        run: |c, a| Box::pin(tag(c, a)),
    },
    Verb {
        name: "rmi",
        command: rmi_command,
        run: |c, a| Box::pin(remove(c, a)),
    },
];

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

async fn list(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
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
    match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

async fn pull_verb(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let reference = text(arguments, "target").unwrap_or_default();
    let (name, tag) = pull::split(&reference);
    let quiet = is_set(arguments, "quiet");
    pull::check_reference(&reference).map_err(|error| error.with_code(Code::FAILURE))?;
    if tag == "latest" && name == reference && !quiet {
        context.printer.line("Using default tag: latest");
    }
    let platform = text(arguments, "platform").unwrap_or_default();
    pull::pull(context, &reference, &platform, Show::data(quiet)).await?;
    context.printer.line(&canonical(&reference));
    Ok(Code::OK)
}

async fn push_verb(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let reference = text(arguments, "target").unwrap_or_default();
    let (quiet, all) = (is_set(arguments, "quiet"), is_set(arguments, "all-tags"));
    pull::check_reference(&reference).map_err(|error| error.with_code(Code::FAILURE))?;
    let (name, tag) = pull::split(&reference);
    let bare = name == reference;
    if all && !bare {
        return Err(CliError::new("tag can't be used with --all-tags/-a"));
    }
    if tag.contains(':') {
        return Err(CliError::new("cannot push a digest reference"));
    }
    if bare && !all && !quiet {
        context.printer.line("Using default tag: latest");
    }
    let platform = match text(arguments, "platform") {
        Some(text) => platform(&text)?,
        None => String::new(),
    };
    let tag = if all { String::new() } else { tag };
    pull::push(context, &name, &tag, &platform, Show::data(quiet)).await?;
    if quiet {
        let pushed = if all {
            whole(name)
        } else {
            canonical(&reference)
        };
        context.printer.line(&pushed);
    }
    Ok(Code::OK)
}

/// `linux/arm64/v8`, in the form of the API.
fn platform(text: &str) -> Result<String, CliError> {
    let mut parts = text.split('/');
    let (os, architecture) = match (parts.next(), parts.next()) {
        (Some(os), Some(architecture)) => (os, architecture),
        _ => {
            return Err(CliError::usage(format!(
                "{text:?} is no platform: it is written like linux/amd64"
            )));
        }
    };
    let mut platform = json!({ "os": os, "architecture": architecture });
    if let Some(variant) = parts.next() {
        platform["variant"] = variant.into();
    }
    Ok(platform.to_string())
}

/// The whole name of what was pulled or pushed.
fn canonical(reference: &str) -> String {
    whole(pull::familiar(reference))
}

/// The name with its registry.
fn whole(familiar: String) -> String {
    match (pull::host_and_path(&familiar), familiar.contains('/')) {
        (Some(_), _) => familiar,
        (None, true) => format!("docker.io/{familiar}"),
        (None, false) => format!("docker.io/library/{familiar}"),
    }
}

async fn tag(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let source = text(arguments, "source").unwrap_or_default();
    let (repo, tag) = pull::split(&text(arguments, "new").unwrap_or_default());
    let path = format!("/images/{}/tag", escape(&source));
    context
        .api
        .post(&with_query(&path, &[("repo", repo), ("tag", tag)]))
        .await?;
    Ok(Code::OK)
}

async fn remove(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let set = |name| {
        if is_set(arguments, name) {
            "1".to_owned()
        } else {
            String::new()
        }
    };
    let query = [("force", set("force")), ("noprune", set("no-prune"))];
    let mut code = Code::OK;
    for name in texts(arguments, "targets") {
        match context
            .api
            .delete(&with_query(&format!("/images/{}", escape(&name)), &query))
            .await
        {
            Ok(done) => {
                for step in done.as_array().into_iter().flatten() {
                    if let Some(id) = step["Deleted"].as_str() {
                        context.printer.line(&format!("Deleted: {id}"));
                    } else if let Some(name) = step["Untagged"].as_str() {
                        context.printer.line(&format!("Untagged: {name}"));
                    }
                }
            }
            Err(error) => {
                let forgiven = is_set(arguments, "force") && error.is_not_found();
                context.printer.error(&error.into());
                if !forgiven {
                    code = Code::FAILURE;
                }
            }
        }
    }
    Ok(code)
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

    #[test]
    fn whole_names_have_their_registry() {
        assert_eq!(canonical("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(canonical("a/b:1"), "docker.io/a/b:1");
        assert_eq!(canonical("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(canonical("HOST/a:1"), "HOST/a:1");
    }
}
