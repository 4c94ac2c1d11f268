//! `inspect`: anything in detail.

use bytes::Bytes;
use clap::{ArgMatches, Command};
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

/// Docker's `container inspect` and `image inspect`, which look for one kind; reached by their nouns.
pub const BELOW_NOUNS: &[Verb] = &[
    Verb {
        name: "container-inspect",
        command: || {
            let about = "Show containers in detail";
            let flags = &INSPECT[..2];
            with_flags(Command::new("inspect").about(about), flags).arg(super::targets("CONTAINER"))
        },
        run: |c, a| Box::pin(inspect(c, a, "container", is_set(a, "size"))),
    },
    Verb {
        name: "image-inspect",
        command: || {
            let about = "Show images in detail";
            let flags = &INSPECT[..1];
            with_flags(Command::new("inspect").about(about), flags).arg(super::targets("IMAGE"))
        },
        run: |c, a| Box::pin(inspect(c, a, "image", false)),
    },
];

const KINDS: &[&str] = &["container", "image", "network", "volume"];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let kind = text(arguments, "type").unwrap_or_default();
    if !kind.is_empty() && !KINDS.contains(&kind.as_str()) {
        return Err(CliError::new(format!(
            "unknown type: {kind:?}: must be one of \"container\", \"image\", \"network\", \"volume\""
        )));
    }
    inspect(context, arguments, &kind, is_set(arguments, "size")).await
}

async fn inspect(
    context: &Context<'_>,
    arguments: &ArgMatches,
    kind: &str,
    size: bool,
) -> Result<Code, CliError> {
    let size = if size { "1" } else { "" };
    let names = texts(arguments, "targets");
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
) -> Result<Bytes, Failed> {
    let escaped = escape(&name);
    let container = format!("/containers/{escaped}/json");
    for (this, path) in [
        (
            "container",
            with_query(&container, &[("size", size.to_owned())]),
        ),
        ("image", format!("/images/{escaped}/json")),
        ("network", format!("/networks/{escaped}")),
        ("volume", format!("/volumes/{escaped}")),
    ] {
        if !kind.is_empty() && this != kind {
            continue;
        }
        match context.api.get_bytes(&path).await {
            Err(error) if error.is_not_found() && kind.is_empty() => {}
            other => return other,
        }
    }
    Err(Failed::Link(CliError::new(format!(
        "No such object: {name}"
    ))))
}

/// Prints what is found of each name, as the engine wrote it; the rest is said, and fails the
/// command.
pub async fn show<F, W>(
    context: &Context<'_>,
    names: &[String],
    format: Option<&str>,
    find: F,
) -> Result<Code, CliError>
where
    F: Fn(String) -> W,
    W: Future<Output = Result<Bytes, Failed>>,
{
    let template = match format {
        None | Some("json" | "") => None,
        Some(text) => Some(
            Template::parse(text)
                .map_err(|error| CliError::new(format!("template parsing error: {error}")))?,
        ),
    };
    let (mut found, mut missed) = (Vec::new(), Vec::new());
    for name in names {
        match find(name.clone()).await {
            Ok(bytes) => found.push(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(error) => missed.push(CliError::from(error)),
        }
    }
    match &template {
        None => {
            let list = format!("[{}]", found.join(","));
            let text = if format == Some("json") {
                list
            } else {
                indented(&list)
            };
            context.printer.line(&text);
        }
        Some(template) => {
            for text in &found {
                let value: Value =
                    serde_json::from_str(text).map_err(|error| CliError::of(&error))?;
                let text = template.render_as(&value, text).map_err(|error| {
                    // What docker has printed by then.
                    context.printer.line("");
                    CliError::new(format!("template parsing error: {error}"))
                })?;
                context.printer.line(&text);
            }
        }
    }
    for error in &missed {
        context.printer.error(error);
    }
    let code = if missed.is_empty() {
        Code::OK
    } else {
        Code::FAILURE
    };
    Ok(code)
}

/// JSON with four spaces a level; its order and its numbers stay as the engine wrote them.
fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut letters = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    };
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                out.push('"');
                let mut escaped = false;
                for letter in letters.by_ref() {
                    out.push(letter);
                    match letter {
                        '"' if !escaped => break,
                        '\\' => escaped = !escaped,
                        _ => escaped = false,
                    }
                }
            }
            '{' | '[' => {
                out.push(letter);
                while letters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(close) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            space if space.is_ascii_whitespace() => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_otherwise_unchanged() {
        let json = r#"[{"b":1.50, "a":{},"c":[ ],"d":["x,:{\"}",null]}]"#;
        let expected = "[\n    {\n        \"b\": 1.50,\n        \"a\": {},\n        \"c\": [],\n        \
                        \"d\": [\n            \"x,:{\\\"}\",\n            null\n        ]\n    }\n]";
        assert_eq!(indented(json), expected);
        assert_eq!(indented("[]"), "[]");
    }
}
