//! `inspect`: anything in detail.

use clap::{ArgMatches, Command};
use serde::Serialize;
use serde_json::Value;

use super::api::{Failed, escape, with_query};
use super::flags::{Flag, Kind, flag, is_set, text, texts, with_flags};
use super::template::Template;
use super::{Context, Verb};
use crate::exit::{CliError, Code};

const INSPECT: &[Flag] = &[
    flag("format", Some('f'), Kind::Text, "", "`json`, or a template"),
    flag(
        "size",
        Some('s'),
        Kind::Switch,
        "",
        "Show the sizes of containers",
    ),
    flag(
        "type",
        None,
        Kind::Text,
        "",
        "Look only for this kind (container|image|volume|network)",
    ),
];

fn command() -> Command {
    let about = "Show containers, images, volumes and networks in detail";
    with_flags(Command::new("inspect").about(about), INSPECT).arg(super::targets("NAME|ID"))
}

/// The verb of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "inspect",
    command,
    run: |c, a| Box::pin(run(c, a)),
}];

const KINDS: &[&str] = &["container", "image", "network", "volume"];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let kind = text(arguments, "type").unwrap_or_default();
    if !kind.is_empty() && !KINDS.contains(&kind.as_str()) {
        return Err(CliError::usage(format!(
            "\"{kind}\" is not a valid value for --type"
        )));
    }
    let size = if is_set(arguments, "size") { "1" } else { "" };
    let names = texts(arguments, "targets");
    let kind = kind.as_str();
    show(
        context,
        &names,
        text(arguments, "format").as_deref(),
        |name| find(context, name, kind, size),
    )
    .await
}

/// Looks for a name among all kinds, or in one.
async fn find(
    context: &Context<'_>,
    name: String,
    kind: &str,
    size: &str,
) -> Result<Value, Failed> {
    let escaped = escape(&name);
    for (this, path) in [
        (
            "container",
            with_query(
                &format!("/containers/{escaped}/json"),
                &[("size", size.to_owned())],
            ),
        ),
        ("image", format!("/images/{escaped}/json")),
        ("network", format!("/networks/{escaped}")),
        ("volume", format!("/volumes/{escaped}")),
    ] {
        if !kind.is_empty() && this != kind {
            continue;
        }
        match context.api.get(&path).await {
            Err(error) if error.is_not_found() && kind.is_empty() => {}
            other => return other,
        }
    }
    Err(Failed::Link(CliError::new(format!(
        "No such object: {name}"
    ))))
}

/// Prints what is found of each name; the rest is said, and fails the command.
pub async fn show<F, W>(
    context: &Context<'_>,
    names: &[String],
    format: Option<&str>,
    find: F,
) -> Result<Code, CliError>
where
    F: Fn(String) -> W,
    W: Future<Output = Result<Value, Failed>>,
{
    let template = match format {
        None | Some("json" | "") => None,
        Some(text) => Some(
            Template::parse(text)
                .map_err(|error| CliError::usage(format!("template parsing error: {error}")))?,
        ),
    };
    let (mut found, mut missed) = (Vec::new(), Vec::new());
    for name in names {
        match find(name.clone()).await {
            Ok(value) => found.push(value),
            Err(error) => missed.push(CliError::from(error)),
        }
    }
    match &template {
        None if format == Some("json") => context.printer.line(&Value::Array(found).to_string()),
        None => context.printer.line(&pretty(&Value::Array(found))?),
        Some(template) => {
            for value in &found {
                let text = template
                    .render(value)
                    .map_err(|error| CliError::new(format!("template: {error}")))?;
                context.printer.line(&text);
            }
        }
    }
    for error in &missed {
        context.printer.error(error);
    }
    Ok(if missed.is_empty() {
        Code::OK
    } else {
        Code::FAILURE
    })
}

/// JSON with docker's indentation.
pub fn pretty(value: &Value) -> Result<String, CliError> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    value
        .serialize(&mut serializer)
        .map_err(|error| CliError::of(&error))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
