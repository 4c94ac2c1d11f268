//! `logs`: what a container wrote.

use clap::{ArgMatches, Command};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::api::{escape, with_query};
use super::flags::{Flag, Kind, flag, is_set, text, with_flags};
use super::{Context, Verb, now_unix, streams, values};
use crate::exit::{CliError, Code};

const LOGS: &[Flag] = &[
    flag(
        "details",
        None,
        Kind::Switch,
        "",
        "Show extra details given to the logging driver",
    ),
    flag(
        "follow",
        Some('f'),
        Kind::Switch,
        "",
        "Follow what is written from now on",
    ),
    flag(
        "since",
        None,
        Kind::Text,
        "",
        "Show what was written since a time (2026-01-02T13:23:37Z) or span (42m)",
    ),
    flag(
        "tail",
        Some('n'),
        Kind::Text,
        "",
        "Number of lines to show from the end (default: all)",
    ),
    flag("timestamps", Some('t'), Kind::Switch, "", "Show times"),
    flag(
        "until",
        None,
        Kind::Text,
        "",
        "Show what was written before a time or span",
    ),
];

fn command() -> Command {
    with_flags(
        Command::new("logs").about("Show what a container wrote"),
        LOGS,
    )
    .arg(super::target("CONTAINER"))
}

/// The verb of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "logs",
    command,
    run: |c, a| Box::pin(run(c, a)),
}];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let name = text(arguments, "target").unwrap_or_default();
    let target = format!("/containers/{}", escape(&name));
    let found = context.api.get(&format!("{target}/json")).await?;
    let set = |name| {
        if is_set(arguments, name) {
            "1".to_owned()
        } else {
            String::new()
        }
    };
    let moment = |name: &str| {
        let text = text(arguments, name).unwrap_or_default();
        values::moment(&text, now_unix()).map_err(CliError::usage)
    };
    let query = [
        ("stdout", "1".to_owned()),
        ("stderr", "1".to_owned()),
        ("follow", set("follow")),
        ("timestamps", set("timestamps")),
        ("details", set("details")),
        ("since", moment("since")?),
        ("until", moment("until")?),
        (
            "tail",
            text(arguments, "tail").unwrap_or_else(|| "all".to_owned()),
        ),
    ];
    let response = context
        .api
        .follow(&with_query(&format!("{target}/logs"), &query))
        .await?;
    let tty = found["Config"]["Tty"] == Value::Bool(true);
    let (reader, mut writer) = tokio::io::duplex(256 << 10);
    let feed = async {
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| CliError::of(&error))?;
            if let Ok(data) = frame.into_data()
                && writer.write_all(&data).await.is_err()
            {
                break;
            }
        }
        drop(writer);
        Ok::<(), CliError>(())
    };
    let (fed, printed) = tokio::join!(feed, streams::print(reader, tty));
    fed.and(printed)?;
    Ok(Code::OK)
}
