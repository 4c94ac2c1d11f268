//! `import`, `commit`, `export`, `diff`: images from files and containers, and what they changed.

use std::fs::File;
use std::io::{self, IsTerminal, Read};

use clap::{Arg, ArgMatches, Command};
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use super::api::{self, empty, escape, request, with_query};
use super::flags::{Flag, Kind, flag, switch, text, texts, with_flags};
use super::pull::{self, Show};
use super::{Context, Verb, transfer};
use crate::exit::{CliError, Code, words};

const CHANGE: Flag = flag(
    "change",
    Some('c'),
    Kind::List,
    "",
    "Apply an instruction of a Dockerfile to the new image",
);
const IMPORT: &[Flag] = &[
    CHANGE,
    flag("message", Some('m'), Kind::Text, "", "The image's comment"),
    flag(
        "platform",
        None,
        Kind::Text,
        "",
        "What the image is for (linux/amd64)",
    ),
];
const COMMIT: &[Flag] = &[
    flag(
        "author",
        Some('a'),
        Kind::Text,
        "",
        "Who made it (\"Ann <ann@example.com>\")",
    ),
    CHANGE,
    flag("message", Some('m'), Kind::Text, "", "The image's comment"),
    flag(
        "pause",
        Some('p'),
        Kind::Switch,
        "",
        "Pause the container meanwhile (default true)",
    ),
];
const EXPORT: &[Flag] = &[flag(
    "output",
    Some('o'),
    Kind::Text,
    "",
    "Write to this file instead of STDOUT",
)];

fn import_command() -> Command {
    with_flags(
        Command::new("import").about("Make an image from an archive of files"),
        IMPORT,
    )
    .arg(super::target("FILE|URL|-"))
    .arg(name())
}

fn commit_command() -> Command {
    with_flags(
        Command::new("commit").about("Make an image from what a container has changed"),
        COMMIT,
    )
    .arg(super::target("CONTAINER"))
    .arg(name())
}

fn export_command() -> Command {
    with_flags(
        Command::new("export").about("Write a container's file system as a tar archive"),
        EXPORT,
    )
    .arg(super::target("CONTAINER"))
}

fn diff_command() -> Command {
    Command::new("diff")
        .about("Show what a container has changed of its image's files")
        .arg(super::target("CONTAINER"))
}

fn name() -> Arg {
    Arg::new("name").value_name("REPOSITORY[:TAG]")
}

/// The verbs of this file.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "import",
        command: import_command,
        run: |c, a| Box::pin(import(c, a)),
    },
    Verb {
        name: "commit",
        command: commit_command,
        run: |c, a| Box::pin(commit(c, a)),
    },
    Verb {
        name: "export",
        command: export_command,
        run: |c, a| Box::pin(export(c, a)),
    },
    Verb {
        name: "diff",
        command: diff_command,
        run: |c, a| Box::pin(diff(c, a)),
    },
];

/// The queries for a name: none if none was given.
fn named(arguments: &ArgMatches) -> [(&'static str, String); 2] {
    let (repo, tag) = match text(arguments, "name") {
        Some(name) => pull::split(&name),
        None => Default::default(),
    };
    [("repo", repo), ("tag", tag)]
}

fn changes(arguments: &ArgMatches) -> impl Iterator<Item = (&'static str, String)> {
    let changes = texts(arguments, "change");
    changes.into_iter().map(|change| ("changes", change))
}

async fn import(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let source = text(arguments, "target").unwrap_or_default();
    let input: Option<Box<dyn Read + Send>> = match source.as_str() {
        "-" => Some(Box::new(io::stdin())),
        // The engine fetches it.
        address if address.starts_with("http://") || address.starts_with("https://") => None,
        path => Some(Box::new(File::open(path).map_err(|error| {
            CliError::new(format!("open {path}: {}", words(&error)))
        })?)),
    };
    let from = if input.is_some() {
        "-"
    } else {
        source.as_str()
    };
    let mut query = vec![
        ("fromSrc", from.to_owned()),
        ("message", text(arguments, "message").unwrap_or_default()),
        ("platform", text(arguments, "platform").unwrap_or_default()),
    ];
    query.extend(named(arguments));
    query.extend(changes(arguments));
    let body = match input {
        Some(input) => api::streamed(transfer::read(input)?),
        None => empty(),
    };
    let mut request = request(Method::POST, &with_query("/images/create", &query), body);
    let kind = HeaderValue::from_static("application/x-tar");
    request.headers_mut().insert(CONTENT_TYPE, kind);
    let (response, _connection) = context.api.send(request).await?;
    pull::follow(context, response, Show::data(false)).await?;
    Ok(Code::OK)
}

async fn commit(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let pause = switch(arguments, "pause").unwrap_or(true);
    let mut query = vec![
        ("container", text(arguments, "target").unwrap_or_default()),
        ("author", text(arguments, "author").unwrap_or_default()),
        ("comment", text(arguments, "message").unwrap_or_default()),
        ("pause", if pause { "1" } else { "0" }.to_owned()),
    ];
    query.extend(named(arguments));
    query.extend(changes(arguments));
    let made = context.api.post(&with_query("/commit", &query)).await?;
    context
        .printer
        .line(made["Id"].as_str().unwrap_or_default());
    Ok(Code::OK)
}

async fn export(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let output = text(arguments, "output");
    if output.is_none() && io::stdout().is_terminal() {
        return Err(CliError::new("cowardly refusing to save to a terminal")
            .with_hint("use `-o FILE` or send the output elsewhere"));
    }
    let name = text(arguments, "target").unwrap_or_default();
    let path = format!("/containers/{}/export", escape(&name));
    let response = context.api.follow(&path).await?;
    transfer::write_to(response.into_body(), output).await?;
    Ok(Code::OK)
}

async fn diff(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let name = text(arguments, "target").unwrap_or_default();
    let path = format!("/containers/{}/changes", escape(&name));
    let changes = context.api.get(&path).await?;
    for change in changes.as_array().into_iter().flatten() {
        let letter = match change["Kind"].as_u64() {
            Some(1) => 'A',
            Some(2) => 'D',
            _ => 'C',
        };
        let path = change["Path"].as_str().unwrap_or_default();
        context.printer.line(&format!("{letter} {path}"));
    }
    Ok(Code::OK)
}
