//! `load` and `save`: images as files.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};

use bytes::Bytes;
use clap::{ArgMatches, Command};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc;

use super::api::{self, request, with_query};
use super::flags::{Flag, Kind, flag, is_set, text, texts, with_flags};
use super::pull::{self, Show};
use super::{Context, Verb};
use crate::exit::{CliError, Code, words};

const LOAD: &[Flag] = &[
    flag(
        "input",
        Some('i'),
        Kind::Text,
        "",
        "Read from this file instead of STDIN",
    ),
    flag(
        "platform",
        None,
        Kind::Text,
        "",
        "Load only this platform (linux/amd64)",
    ),
    flag("quiet", Some('q'), Kind::Switch, "", "Do not show progress"),
];
const SAVE: &[Flag] = &[
    flag(
        "output",
        Some('o'),
        Kind::Text,
        "",
        "Write to this file instead of STDOUT",
    ),
    flag(
        "platform",
        None,
        Kind::Text,
        "",
        "Save only this platform (linux/amd64)",
    ),
];

fn load_command() -> Command {
    with_flags(
        Command::new("load").about("Load images from a tar archive or STDIN"),
        LOAD,
    )
}

fn save_command() -> Command {
    with_flags(
        Command::new("save").about("Save images to a tar archive (STDOUT by default)"),
        SAVE,
    )
    .arg(super::targets("IMAGE"))
}

/// The verbs of this file.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "load",
        command: load_command,
        run: |c, a| Box::pin(load(c, a)),
    },
    Verb {
        name: "save",
        command: save_command,
        run: |c, a| Box::pin(save(c, a)),
    },
];

/// A platform as the API takes it.
fn platform(arguments: &ArgMatches) -> Result<String, CliError> {
    let Some(text) = text(arguments, "platform") else {
        return Ok(String::new());
    };
    let mut parts = text.split('/');
    let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
    match (os, architecture) {
        (Some(os), Some(architecture)) => Ok(serde_json::json!({
            "os": os, "architecture": architecture, "variant": variant.unwrap_or_default(),
        })
        .to_string()),
        _ => Err(CliError::usage(format!("invalid platform: {text}"))),
    }
}

async fn load(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let input: Box<dyn Read + Send> = match text(arguments, "input") {
        Some(path) => Box::new(
            File::open(&path)
                .map_err(|error| CliError::new(format!("open {path}: {}", words(&error))))?,
        ),
        None if io::stdin().is_terminal() => {
            return Err(
                CliError::new("requested load from stdin, but stdin is empty")
                    .with_hint("give a file: `lighter load -i FILE`"),
            );
        }
        None => Box::new(io::stdin()),
    };
    let quiet = is_set(arguments, "quiet");
    let set = if quiet { "1" } else { "0" };
    let query = [
        ("quiet", set.to_owned()),
        ("platform", platform(arguments)?),
    ];
    let path = with_query("/images/load", &query);
    let mut request = request(Method::POST, &path, api::streamed(read(input)?));
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    let (response, _connection) = context.api.send(request).await?;
    pull::follow(context, response, Show::data(false)).await?;
    Ok(Code::OK)
}

/// A file in parts, read by a thread of its own: files and terminals cannot be waited for.
pub fn read(mut input: Box<dyn Read + Send>) -> io::Result<mpsc::Receiver<io::Result<Bytes>>> {
    let (sender, receiver) = mpsc::channel(4);
    let work = move || {
        loop {
            let mut buffer = vec![0; 256 << 10];
            let part = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    buffer.truncate(count);
                    Ok(buffer.into())
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let last = part.is_err();
            if sender.blocking_send(part).is_err() || last {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(work)?;
    Ok(receiver)
}

async fn save(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let output = text(arguments, "output");
    if output.is_none() && io::stdout().is_terminal() {
        return Err(CliError::new("cowardly refusing to save to a terminal")
            .with_hint("use `-o FILE` or send the output elsewhere"));
    }
    let names = texts(arguments, "targets");
    let mut query: Vec<(&str, String)> = names.into_iter().map(|name| ("names", name)).collect();
    query.push(("platform", platform(arguments)?));
    let response = context
        .api
        .follow(&with_query("/images/get", &query))
        .await?;
    write_to(response.into_body(), output).await?;
    Ok(Code::OK)
}

/// Writes an answer to this file, or to standard output.
pub async fn write_to(body: hyper::body::Incoming, output: Option<String>) -> Result<(), CliError> {
    let Some(path) = output else {
        return write_body(body, &mut io::stdout().lock()).await;
    };
    // Under another name until it is whole: a cut archive must not look like one.
    let temporary = format!("{path}.{}", lighter_platform::dir::random_suffix());
    let failed = |error: io::Error| CliError::new(format!("write {path}: {}", words(&error)));
    let mut file = File::create_new(&temporary).map_err(failed)?;
    let written = match write_body(body, &mut file).await {
        Ok(()) => std::fs::rename(&temporary, &path).map_err(failed),
        Err(error) => Err(error),
    };
    if written.is_err() {
        // The first error is the one that matters.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Writes an answer as it comes.
pub async fn write_body(
    mut body: hyper::body::Incoming,
    out: &mut impl Write,
) -> Result<(), CliError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CliError::of(&error))?;
        if let Ok(data) = frame.into_data() {
            out.write_all(&data)?;
        }
    }
    Ok(out.flush()?)
}
