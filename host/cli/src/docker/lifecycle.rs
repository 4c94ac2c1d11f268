//! `stop`, `restart`, `kill`, `rm`, `wait`, `pause`, `unpause`, `rename`.

use clap::{Arg, ArgMatches, Command};

use super::api::{escape, with_query};
use super::flags::{Flag, Kind, flag, is_set, number, text, texts, with_flags};
use super::{Context, Verb, each, targets};
use crate::exit::{CliError, Code};

const STOP: &[Flag] = &[
    flag(
        "signal",
        Some('s'),
        Kind::Text,
        "",
        "Signal to send to the container",
    ),
    flag(
        "timeout",
        Some('t'),
        Kind::Int,
        "",
        "Seconds to wait before ending the container",
    ),
    flag("time", None, Kind::Int, "", "Older name of --timeout"),
];
const KILL: &[Flag] = &[flag(
    "signal",
    Some('s'),
    Kind::Text,
    "",
    "Signal to send to the container",
)];
const RM: &[Flag] = &[
    flag(
        "force",
        Some('f'),
        Kind::Switch,
        "",
        "End a running container first",
    ),
    flag(
        "volumes",
        Some('v'),
        Kind::Switch,
        "",
        "Remove its anonymous volumes as well",
    ),
];

fn simple(name: &'static str, about: &'static str, table: &'static [Flag]) -> Command {
    with_flags(Command::new(name).about(about), table).arg(targets("CONTAINER"))
}

fn rename_command() -> Command {
    let name =
        |name: &'static str, word: &'static str| Arg::new(name).required(true).value_name(word);
    Command::new("rename")
        .about("Rename a container")
        .arg(name("old", "CONTAINER"))
        .arg(name("new", "NEW_NAME"))
}

/// The verbs of this file.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "stop",
        command: || simple("stop", "Stop running containers", STOP),
        run: |c, a| Box::pin(stop(c, a, "stop")),
    },
    Verb {
        name: "restart",
        command: || simple("restart", "Restart containers", STOP),
        run: |c, a| Box::pin(stop(c, a, "restart")),
    },
    Verb {
        name: "kill",
        command: || simple("kill", "Send a signal to running containers", KILL),
        run: |c, a| Box::pin(kill(c, a)),
    },
    Verb {
        name: "rm",
        command: || simple("rm", "Remove containers", RM),
        run: |c, a| Box::pin(remove(c, a)),
    },
    Verb {
        name: "wait",
        command: || {
            simple(
                "wait",
                "Wait until containers stop, then print their exit codes",
                &[],
            )
        },
        run: |c, a| Box::pin(wait(c, a)),
    },
    Verb {
        name: "pause",
        command: || simple("pause", "Pause all processes of containers", &[]),
        run: |c, a| Box::pin(plain(c, a, "pause")),
    },
    Verb {
        name: "unpause",
        command: || simple("unpause", "Let the processes of containers run on", &[]),
        run: |c, a| Box::pin(plain(c, a, "unpause")),
    },
    Verb {
        name: "rename",
        command: rename_command,
        run: |c, a| Box::pin(rename(c, a)),
    },
];

async fn stop(
    context: &Context<'_>,
    arguments: &ArgMatches,
    verb: &'static str,
) -> Result<Code, CliError> {
    let time = match number(arguments, STOP, "timeout")? {
        Some(time) => Some(time),
        None => number(arguments, STOP, "time")?,
    };
    let time = time.map(|time| time.to_string()).unwrap_or_default();
    let query = [
        ("t", time),
        ("signal", text(arguments, "signal").unwrap_or_default()),
    ];
    let query = &query;
    each(context, &texts(arguments, "targets"), |name| async move {
        let path = format!("/containers/{}/{verb}", escape(&name));
        context.api.post(&with_query(&path, query)).await
    })
    .await
}

async fn kill(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let query = [(
        "signal",
        text(arguments, "signal").unwrap_or_else(|| "KILL".to_owned()),
    )];
    let query = &query;
    each(context, &texts(arguments, "targets"), |name| async move {
        let path = format!("/containers/{}/kill", escape(&name));
        context.api.post(&with_query(&path, query)).await
    })
    .await
}

async fn remove(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let set = |name| {
        if is_set(arguments, name) {
            "1".to_owned()
        } else {
            String::new()
        }
    };
    let query = [("force", set("force")), ("v", set("volumes"))];
    let (query, force) = (&query, is_set(arguments, "force"));
    each(context, &texts(arguments, "targets"), |name| async move {
        let path = format!("/containers/{}", escape(name.trim_start_matches('/')));
        match context.api.delete(&with_query(&path, query)).await {
            // Gone is what was wanted.
            Err(error) if force && error.is_not_found() => {
                context.printer.talk(&CliError::from(error).message);
                Err(super::skipped())
            }
            other => other,
        }
    })
    .await
}

async fn wait(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let mut code = Code::OK;
    for name in texts(arguments, "targets") {
        match context
            .api
            .post(&format!("/containers/{}/wait", escape(&name)))
            .await
        {
            Ok(answer) => context.printer.line(&answer["StatusCode"].to_string()),
            Err(error) => {
                context.printer.error(&error.into());
                code = Code::FAILURE;
            }
        }
    }
    Ok(code)
}

async fn plain(
    context: &Context<'_>,
    arguments: &ArgMatches,
    verb: &'static str,
) -> Result<Code, CliError> {
    each(context, &texts(arguments, "targets"), |name| async move {
        context
            .api
            .post(&format!("/containers/{}/{verb}", escape(&name)))
            .await
    })
    .await
}

async fn rename(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let (old, new) = (text(arguments, "old"), text(arguments, "new"));
    let old = old.unwrap_or_default();
    let path = format!("/containers/{}/rename", escape(&old));
    let query = [("name", new.unwrap_or_default())];
    if let Err(error) = context.api.post(&with_query(&path, &query)).await {
        context.printer.error(&error.into());
        return Err(CliError::new(format!(
            "failed to rename container named {old}"
        )));
    }
    Ok(Code::OK)
}
