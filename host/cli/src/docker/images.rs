//! `images`, `pull`, `push`, `tag`, `rmi`.

use clap::{Arg, ArgMatches, Command};
use serde_json::json;

use super::api::{escape, with_query};
use super::flags::{Flag, Kind, flag, is_set, text, texts, with_flags};
use super::pull::{self, Show};
use super::{Context, Verb, image_list};
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
        run: |c, a| Box::pin(image_list::list(c, a)),
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
    fn whole_names_have_their_registry() {
        assert_eq!(canonical("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(canonical("a/b:1"), "docker.io/a/b:1");
        assert_eq!(canonical("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(canonical("HOST/a:1"), "HOST/a:1");
    }
}
