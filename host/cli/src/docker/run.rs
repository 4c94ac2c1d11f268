//! `run`, `create`, `start`, `attach`: a container and the person in front of it.

use clap::{Arg, ArgMatches, Command};
use serde_json::Value;

use super::api::{Failed, escape, with_query};
use super::container_flags::{CREATE, RUN};
use super::create::{self, Attach};
use super::detach::DetachKeys;
use super::flags::{Flag, Kind, flag, is_set, text, texts, with_flags};
use super::foreground::{Foreground, before_start, start_failed};
use super::limit_flags::{HEALTH, LIMITS};
use super::network_flags::NETWORKS;
use super::{Context, Verb, pull};
use crate::exit::{CliError, Code};

/// Image and command: flags after the image are the command's.
pub fn positional() -> Arg {
    Arg::new("args")
        .value_name("IMAGE [COMMAND] [ARG...]")
        .num_args(0..)
        .trailing_var_arg(true)
        .help("Image to run, then the command inside and its arguments")
}

fn container_command(name: &'static str, about: &'static str) -> Command {
    let command = Command::new(name).about(about).arg(positional());
    // As docker shows them: in the order of their names, from whichever table.
    let command = command.next_display_order(None);
    let tables = [CREATE, LIMITS, HEALTH, NETWORKS];
    tables
        .into_iter()
        .fold(command, with_flags)
        // What they were called first, and most tutorials still say.
        .mut_arg("network", |arg| arg.alias("net"))
        .mut_arg("network-alias", |arg| arg.alias("net-alias"))
        // `-h` is the host name here.
        .disable_help_flag(true)
        .arg(
            Arg::new("help")
                .long("help")
                .action(clap::ArgAction::Help)
                .help("Print help"),
        )
}

fn run_command() -> Command {
    with_flags(
        container_command("run", "Create and run a new container from an image"),
        RUN,
    )
}

fn create_command() -> Command {
    container_command("create", "Create a new container")
}

const START: &[Flag] = &[
    flag(
        "attach",
        Some('a'),
        Kind::Switch,
        "",
        "Attach STDOUT and STDERR and pass signals on",
    ),
    flag(
        "detach-keys",
        None,
        Kind::Text,
        "",
        "Key sequence for detaching (default: ctrl-p,ctrl-q)",
    ),
    flag(
        "interactive",
        Some('i'),
        Kind::Switch,
        "",
        "Attach the container's STDIN",
    ),
];

const ATTACH: &[Flag] = &[
    flag(
        "detach-keys",
        None,
        Kind::Text,
        "",
        "Key sequence for detaching (default: ctrl-p,ctrl-q)",
    ),
    flag("no-stdin", None, Kind::Switch, "", "Do not attach STDIN"),
    flag(
        "sig-proxy",
        None,
        Kind::Switch,
        "",
        "Pass signals on to the process (default: true)",
    ),
];

fn start_command() -> Command {
    with_flags(
        Command::new("start").about("Start stopped containers"),
        START,
    )
    .arg(super::targets("CONTAINER"))
}

fn attach_command() -> Command {
    let about = "Attach the terminal to a running container";
    with_flags(Command::new("attach").about(about), ATTACH).arg(super::target("CONTAINER"))
}

/// The verbs of this file.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "run",
        command: run_command,
        run: |c, a| Box::pin(run(c, a)),
    },
    Verb {
        name: "create",
        command: create_command,
        run: |c, a| Box::pin(create_verb(c, a)),
    },
    Verb {
        name: "start",
        command: start_command,
        run: |c, a| Box::pin(start_verb(c, a)),
    },
    Verb {
        name: "attach",
        command: attach_command,
        run: |c, a| Box::pin(attach_verb(c, a)),
    },
];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let detach = is_set(arguments, "detach");
    let attach = Attach::of(arguments, detach)?;
    let tty = is_set(arguments, "tty");
    if attach.stdin && tty && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(CliError::new("the input device is not a TTY"));
    }
    let keys = DetachKeys::parse(text(arguments, "detach-keys").as_deref())?;
    if texts(arguments, "args").is_empty() {
        return Err(CliError::new("'lighter run' requires at least 1 argument")
            .with_hint("see `lighter run --help`"));
    }
    let id = create_container(context, arguments, &attach)
        .await
        .map_err(before_start)?;
    let target = format!("/containers/{id}");
    if detach {
        context
            .api
            .post(&format!("{target}/start"))
            .await
            .map_err(start_failed)?;
        context.printer.line(&id);
        return Ok(Code::OK);
    }
    let foreground = Foreground {
        target,
        streams: attach,
        tty,
        keys,
        // A terminal's keys are the container's already; what is sent to us is for us.
        signals: create::passes_signals(arguments) && !tty,
        // A container that removes itself has ended only when its name is free again.
        until: if is_set(arguments, "rm") {
            "removed"
        } else {
            "next-exit"
        },
        start: true,
    };
    foreground.run(context).await
}

async fn create_verb(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let mut attach = Attach::of(arguments, false)?;
    if texts(arguments, "attach").is_empty() {
        attach.stdin = is_set(arguments, "interactive");
    }
    let id = create_container(context, arguments, &attach).await?;
    context.printer.line(&id);
    Ok(Code::OK)
}

/// Creates it, pulling the image first where it is not there; its id.
async fn create_container(
    context: &Context<'_>,
    arguments: &ArgMatches,
    attach: &Attach,
) -> Result<String, CliError> {
    let body = create::request(arguments, attach)?;
    let policy = create::pull_policy(arguments)?;
    let cidfile = text(arguments, "cidfile");
    if let Some(path) = cidfile
        .as_ref()
        .filter(|path| std::path::Path::new(path).exists())
    {
        return Err(CliError::new(format!("container ID file found: {path}"))
            .with_hint("another container may be running; else remove the file"));
    }
    let image = body["Image"].as_str().unwrap_or_default().to_owned();
    let platform = text(arguments, "platform").unwrap_or_default();
    let quiet = is_set(arguments, "quiet");
    if policy == "always" {
        pull::pull(context, &image, &platform, pull::Show::talk(quiet)).await?;
    }
    let query = [
        ("name", text(arguments, "name").unwrap_or_default()),
        ("platform", platform.clone()),
    ];
    let path = with_query("/containers/create", &query);
    let made = match context.api.post_json(&path, &body).await {
        Err(error) if policy == "missing" && image_is_missing(&error) => {
            context.printer.talk(&format!(
                "Unable to find image '{}' locally",
                pull::familiar(&image)
            ));
            pull::pull(context, &image, &platform, pull::Show::talk(quiet)).await?;
            context.api.post_json(&path, &body).await?
        }
        other => other?,
    };
    for warning in made["Warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        context.printer.warning(warning);
    }
    let id = made["Id"].as_str().unwrap_or_default().to_owned();
    if let Some(path) = cidfile {
        std::fs::write(&path, &id)?;
    }
    Ok(id)
}

fn image_is_missing(error: &Failed) -> bool {
    matches!(error, Failed::Api(api) if error.is_not_found() && api.message.contains("No such image"))
}

async fn start_verb(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let names = texts(arguments, "targets");
    let attach = is_set(arguments, "attach");
    let interactive = is_set(arguments, "interactive");
    if attach || interactive {
        let [name] = names.as_slice() else {
            return Err(CliError::usage(
                "you cannot start and attach multiple containers at once",
            ));
        };
        let found = context
            .api
            .get(&format!("/containers/{}/json", escape(name)))
            .await?;
        let wants_input = interactive && found["Config"]["OpenStdin"] == true;
        let removes = found["HostConfig"]["AutoRemove"] == true;
        let foreground = Foreground {
            target: format!("/containers/{}", found["Id"].as_str().unwrap_or(name)),
            streams: Attach {
                stdin: wants_input,
                stdout: true,
                stderr: true,
            },
            tty: found["Config"]["Tty"] == true,
            keys: DetachKeys::parse(text(arguments, "detach-keys").as_deref())?,
            signals: found["Config"]["Tty"] != true,
            until: if removes { "removed" } else { "next-exit" },
            start: found["State"]["Running"] != true,
        };
        return foreground.run(context).await;
    }
    let mut failed = Vec::new();
    for name in &names {
        let path = format!("/containers/{}/start", escape(name));
        match context.api.post(&path).await {
            Ok(_) => context.printer.line(name),
            Err(error) => {
                context.printer.error(&error.into());
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(Code::OK);
    }
    let failed = failed.join(", ");
    Err(CliError::new(format!(
        "failed to start containers: {failed}"
    )))
}

async fn attach_verb(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let name = text(arguments, "target").unwrap_or_default();
    let found = context
        .api
        .get(&format!("/containers/{}/json", escape(&name)))
        .await?;
    let refuse = |text: &str| Err(CliError::new(text));
    if found["State"]["Running"] != true {
        return refuse("You cannot attach to a stopped container, start it first");
    }
    if found["State"]["Paused"] == true {
        return refuse("You cannot attach to a paused container, unpause it first");
    }
    if found["State"]["Restarting"] == true {
        return refuse("You cannot attach to a restarting container, wait until it is running");
    }
    let tty = found["Config"]["Tty"] == true;
    let stdin = found["Config"]["OpenStdin"] == true && !is_set(arguments, "no-stdin");
    if tty && stdin && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return refuse("the input device is not a TTY");
    }
    let foreground = Foreground {
        target: format!("/containers/{}", found["Id"].as_str().unwrap_or(&name)),
        streams: Attach {
            stdin,
            stdout: true,
            stderr: true,
        },
        tty,
        keys: DetachKeys::parse(text(arguments, "detach-keys").as_deref())?,
        signals: create::passes_signals(arguments) && !tty,
        until: "not-running",
        start: false,
    };
    foreground.run(context).await
}
