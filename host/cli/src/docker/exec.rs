//! `exec`: another program in a running container.

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::api::{escape, start_code};
use super::detach::DetachKeys;
use super::flags::{Flag, Kind, fill, flag, is_set, put, text, texts, with_flags};
use super::streams::{self, Ended, Join};
use super::{Context, Verb, values};
use crate::exit::{CliError, Code};

const EXEC: &[Flag] = &[
    flag(
        "detach",
        Some('d'),
        Kind::Switch,
        "Detach",
        "Run the command in the background",
    ),
    flag(
        "detach-keys",
        None,
        Kind::Text,
        "DetachKeys",
        "Key sequence for detaching (default: ctrl-p,ctrl-q)",
    ),
    flag(
        "env",
        Some('e'),
        Kind::List,
        "",
        "Set environment variables",
    ),
    flag(
        "env-file",
        None,
        Kind::List,
        "",
        "Read environment variables from a file",
    ),
    flag(
        "interactive",
        Some('i'),
        Kind::Switch,
        "AttachStdin",
        "Keep STDIN open",
    ),
    flag(
        "privileged",
        None,
        Kind::Switch,
        "Privileged",
        "Give extended privileges to the command",
    ),
    flag(
        "tty",
        Some('t'),
        Kind::Switch,
        "Tty",
        "Allocate a pseudo-TTY",
    ),
    flag(
        "user",
        Some('u'),
        Kind::Text,
        "User",
        "User name or ID (name|uid[:group|gid])",
    ),
    flag(
        "workdir",
        Some('w'),
        Kind::Text,
        "WorkingDir",
        "Working folder of the command",
    ),
];

fn command() -> Command {
    let command = Command::new("exec")
        .about("Run a command in a running container")
        .arg(
            Arg::new("args")
                .value_name("CONTAINER COMMAND [ARG...]")
                .num_args(0..)
                .trailing_var_arg(true)
                .help("Container, then the command inside and its arguments"),
        );
    with_flags(command, EXEC)
}

/// The verb of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "exec",
    command,
    run: |c, a| Box::pin(run(c, a)),
}];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let words = texts(arguments, "args");
    let Some((container, command)) = words.split_first().filter(|(_, rest)| !rest.is_empty())
    else {
        return Err(
            CliError::new("'lighter exec' requires at least 2 arguments")
                .with_hint("see `lighter exec --help`"),
        );
    };
    let (detach, tty) = (is_set(arguments, "detach"), is_set(arguments, "tty"));
    let stdin = is_set(arguments, "interactive") && !detach;
    if stdin && tty && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        let path = format!("/containers/{}/json", escape(container));
        context.api.get(&path).await?;
        return Err(CliError::new("the input device is not a TTY"));
    }
    let body = request(arguments, command, detach)?;
    let path = format!("/containers/{}/exec", escape(container));
    let made = context.api.post_json(&path, &body).await?;
    let target = format!("/exec/{}", made["Id"].as_str().unwrap_or_default());
    let mut how = json!({ "Detach": detach, "Tty": tty });
    if let Some(size) = body.get("ConsoleSize") {
        how["ConsoleSize"] = size.clone();
    }
    if detach {
        context
            .api
            .post_json(&format!("{target}/start"), &how)
            .await
            .map_err(start_failed)?;
        return Ok(Code::OK);
    }
    let keys = DetachKeys::parse(text(arguments, "detach-keys").as_deref())?;
    let hijacked = context
        .api
        .hijack(&format!("{target}/start"), Some(&how))
        .await
        .map_err(start_failed)?;
    let joined = streams::join(hijacked, Join { stdin, tty, keys });
    let size = async {
        if tty && lighter_platform::sys::terminal_size().is_some() {
            streams::follow_size(&context.api, &target).await;
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = joined => ended?,
        () = size => Ended::Remote,
        signal = lighter_platform::sys::told_to_end() => Ended::Told(signal?),
    };
    if let Some(code) = ended.left() {
        return Ok(code);
    }
    let state = context.api.get(&format!("{target}/json")).await?;
    Ok(Code::of_container(state["ExitCode"].as_i64().unwrap_or(0)))
}

fn start_failed(error: super::api::Failed) -> CliError {
    let error = CliError::from(error);
    let code = start_code(&error.message);
    error.with_code(code)
}

fn request(arguments: &ArgMatches, command: &[String], detach: bool) -> Result<Value, CliError> {
    let mut body = json!({ "Cmd": command, "AttachStdout": !detach, "AttachStderr": !detach });
    fill(&mut body, EXEC, arguments)?;
    if detach {
        put(&mut body, "AttachStdin", json!(false));
    }
    let mut environment = Vec::new();
    for path in texts(arguments, "env-file") {
        environment.extend(values::read_lines(&path).map_err(CliError::usage)?);
    }
    environment.extend(texts(arguments, "env"));
    if !environment.is_empty() {
        put(&mut body, "Env", json!(values::environment(&environment)));
    }
    if is_set(arguments, "tty")
        && let Some((rows, columns)) = lighter_platform::sys::terminal_size()
    {
        put(&mut body, "ConsoleSize", json!([rows, columns]));
    }
    Ok(body)
}
