//! `cp`: files into and out of containers.
//!
//! The rules of what goes where under which name are docker's ([`rules`]); archives are made and
//! unpacked here ([`pack`], [`unpack`]), and what comes from a container is not trusted to stay in
//! its place.

mod pack;
mod rules;
mod unpack;

use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use base64::Engine as _;
use bytes::Bytes;
use clap::{ArgMatches, Command};
use http_body_util::BodyExt;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response};
use serde_json::Value;
use tokio::sync::mpsc;

use super::api::{self, empty, escape, request, with_query};
use super::flags::{Flag, Kind, flag, is_set, with_flags};
use super::{Context, Verb};
use crate::exit::{CliError, Code};
use rules::{Destination, Side, Source};

const CP: &[Flag] = &[
    flag(
        "archive",
        Some('a'),
        Kind::Switch,
        "",
        "Archive mode: what is copied into a container belongs to its user",
    ),
    flag(
        "follow-link",
        Some('L'),
        Kind::Switch,
        "",
        "Follow a symbolic link in the source path",
    ),
    flag(
        "quiet",
        Some('q'),
        Kind::Switch,
        "",
        "Do not say what was copied",
    ),
];

fn command() -> Command {
    with_flags(
        Command::new("cp")
            .about("Copy files between a container and this computer")
            .override_usage(
                "lighter cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       \
                 lighter cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
            ),
        CP,
    )
    .arg(super::target("SOURCE"))
    .arg(
        clap::Arg::new("to")
            .required(true)
            .value_name("DESTINATION"),
    )
}

/// The verb of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "cp",
    command,
    run: |c, a| Box::pin(cp(c, a)),
}];

/// What the flags ask for.
struct Wishes {
    archive: bool,
    follow: bool,
    /// Say on a terminal what was copied.
    say: bool,
}

async fn cp(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let word = |name: &str| {
        arguments
            .get_one::<String>(name)
            .cloned()
            .unwrap_or_default()
    };
    let (source, target) = (Side::parse(&word("target")), Side::parse(&word("to")));
    let wishes = Wishes {
        archive: is_set(arguments, "archive"),
        follow: is_set(arguments, "follow-link"),
        say: !is_set(arguments, "quiet") && context.printer.err_is_terminal,
    };
    match (source, target) {
        (Side::Container { name, path }, Side::Here(to)) => {
            out(context, &name, &path, &to, &wishes).await
        }
        (Side::Here(from), Side::Container { name, path }) => {
            into(context, &from, &name, &path, &wishes).await
        }
        (Side::Container { .. }, Side::Container { .. }) => {
            Err(CliError::new("copying between containers is not supported"))
        }
        (Side::Here(_), Side::Here(_)) => {
            Err(CliError::new("must specify at least one container source"))
        }
    }
}

fn archive_path(name: &str, query: &[(&str, String)]) -> String {
    with_query(&format!("/containers/{}/archive", escape(name)), query)
}

/// What a path of a container is.
struct Stat {
    directory: bool,
    link: bool,
    device: bool,
    link_target: String,
}

impl Stat {
    fn of<T>(response: &Response<T>) -> Option<Self> {
        let value = response.headers().get("x-docker-container-path-stat")?;
        let text = base64::engine::general_purpose::STANDARD
            .decode(value.as_bytes())
            .ok()?;
        let value: Value = serde_json::from_slice(&text).ok()?;
        let mode = value["mode"].as_u64()?;
        let bit = |at: u32| mode & (1 << at) != 0;
        Some(Self {
            directory: bit(31),
            link: bit(27),
            device: bit(26) || bit(25) || bit(24) || bit(19),
            link_target: value["linkTarget"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

async fn stat(context: &Context<'_>, name: &str, path: &str) -> Result<Stat, CliError> {
    let path = archive_path(name, &[("path", path.to_owned())]);
    let sent = context
        .api
        .send(request(Method::HEAD, &path, empty()))
        .await;
    Stat::of(&sent?.0).ok_or_else(|| CliError::new("the engine does not say what the path is"))
}

async fn into(
    context: &Context<'_>,
    from: &str,
    name: &str,
    path: &str,
    wishes: &Wishes,
) -> Result<Code, CliError> {
    let mut to = Destination::new(path);
    // What cannot be asked about may still be made.
    if let Ok(mut found) = stat(context, name, &to.path).await {
        if found.link {
            to.path = rules::joined_target(&to.path, &found.link_target);
            match stat(context, name, &to.path).await {
                Ok(behind) => found = behind,
                Err(_) => return send(context, from, name, &to, path, wishes).await,
            }
        }
        if found.device {
            return Err(CliError::new(format!(
                "destination \"{name}:{path}\" must be a directory or a regular file"
            )));
        }
        (to.exists, to.directory) = (true, found.directory);
    }
    send(context, from, name, &to, path, wishes).await
}

async fn send(
    context: &Context<'_>,
    from: &str,
    name: &str,
    to: &Destination,
    shown: &str,
    wishes: &Wishes,
) -> Result<Code, CliError> {
    let (body, at) = if from == "-" {
        if !to.directory {
            return Err(CliError::new(format!(
                "destination \"{name}:{shown}\" must be a directory"
            )));
        }
        (
            super::transfer::read(Box::new(io::stdin()))?,
            to.path.clone(),
        )
    } else {
        let source = rules::local_source(from, wishes.follow)?;
        let plan = rules::plan(&source, to).map_err(CliError::new)?;
        (
            pack::start(source.path, source.base, plan.rename)?,
            plan.directory,
        )
    };
    let query = [
        ("path", at),
        ("noOverwriteDirNonDir", "true".to_owned()),
        (
            "copyUIDGID",
            if wishes.archive { "true" } else { "" }.to_owned(),
        ),
    ];
    let path = archive_path(name, &query);
    let mut put = request(Method::PUT, &path, api::streamed(body));
    let kind = HeaderValue::from_static("application/x-tar");
    put.headers_mut().insert(CONTENT_TYPE, kind);
    context.api.send(put).await?;
    if wishes.say {
        context
            .printer
            .talk(&format!("Successfully copied to {name}:{shown}"));
    }
    Ok(Code::OK)
}

async fn out(
    context: &Context<'_>,
    name: &str,
    path: &str,
    to: &str,
    wishes: &Wishes,
) -> Result<Code, CliError> {
    let stream = to == "-";
    if stream && io::stdout().is_terminal() {
        return Err(
            CliError::new("cowardly refusing to write an archive to a terminal")
                .with_hint("give a path, or send the output elsewhere"),
        );
    }
    if !stream {
        rules::check_output(to)?;
    }
    let mut asked = path.to_owned();
    let mut name_of_link = None;
    if wishes.follow {
        // If it is missing, the request below says so.
        if let Ok(found) = stat(context, name, &asked).await
            && found.link
        {
            let target = rules::joined_target(&asked, &found.link_target);
            name_of_link = rules::name_of_link(&asked, &target);
            asked = target;
        }
    }
    let url = archive_path(name, &[("path", asked.clone())]);
    let response = context.api.follow(&url).await?;
    let found = Stat::of(&response)
        .ok_or_else(|| CliError::new("the engine does not say what the path is"))?;
    let body = response.into_body();
    if stream {
        let mut out = io::stdout().lock();
        super::transfer::write_body(body, &mut out).await?;
        return Ok(Code::OK);
    }
    let source = Source {
        base: rules::base(&asked),
        directory: found.directory,
        name: name_of_link,
        path: asked.into(),
    };
    let plan = rules::plan(&source, &Destination::here(to)).map_err(CliError::new)?;
    let (sender, reader) = channel();
    let unpacking = tokio::task::spawn_blocking(move || {
        unpack::unpack(
            reader,
            Path::new(&plan.directory),
            &source.base,
            plan.rename.as_deref(),
        )
    });
    feed(body, sender).await;
    let left_out = unpacking
        .await
        .map_err(|error| CliError::new(format!("unpacking broke off: {error}")))??;
    for path in left_out {
        context.printer.warning(&format!(
            "{path} is a device or a pipe, which is not copied"
        ));
    }
    if wishes.say {
        context
            .printer
            .talk(&format!("Successfully copied to {to}"));
    }
    Ok(Code::OK)
}

/// Hands the answer on; an answer that breaks off is an error of the reader's.
async fn feed(mut body: hyper::body::Incoming, sender: mpsc::Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let part = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_trailers) => continue,
            },
            Err(error) => Err(io::Error::other(error)),
        };
        if sender.send(part).await.is_err() {
            return;
        }
    }
}

/// Bytes from a task to a thread that blocks.
struct Reader {
    parts: mpsc::Receiver<io::Result<Bytes>>,
    part: Bytes,
}

fn channel() -> (mpsc::Sender<io::Result<Bytes>>, Reader) {
    let (sender, parts) = mpsc::channel(4);
    let part = Bytes::new();
    (sender, Reader { parts, part })
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.parts.blocking_recv() {
                Some(part) => self.part = part?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.part.len());
        buffer[..count].copy_from_slice(&self.part.split_to(count));
        Ok(count)
    }
}

/// Bytes from a thread that blocks to a task.
struct Writer {
    parts: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = Ok(Bytes::copy_from_slice(bytes));
        let sent = self.parts.blocking_send(part);
        sent.map(|()| bytes.len())
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
