//! `run`, `create`, `start`, `attach`: a container and the person in front of it.

use clap::{Arg, ArgMatches, Command};
use hyper::Method;
use serde_json::Value;

use super::api::{self, Api, Failed, escape, request, with_query};
use super::container_flags::{CREATE, RUN};
use super::create::{self, Attach};
use super::detach::DetachKeys;
use super::flags::{Flag, Kind, flag, is_set, text, texts, with_flags};
use super::streams::{self, Ended, Join};
use super::{Context, Verb, endpoints, pull};
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
    with_flags(with_flags(command, CREATE), endpoints::FLAGS)
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

/// Docker's code for a `run` that failed before the container could.
fn before_start(error: impl Into<CliError>) -> CliError {
    error.into().with_code(Code::USAGE)
}

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

fn start_failed(error: Failed) -> CliError {
    match &error {
        Failed::Api(api) => {
            let code = api::start_code(&api.message);
            CliError::from(error).with_code(code)
        }
        Failed::Link(_) => before_start(error),
    }
}

/// A container whose streams are the caller's.
struct Foreground {
    /// The container's path.
    target: String,
    streams: Attach,
    tty: bool,
    keys: DetachKeys,
    signals: bool,
    /// What `wait` waits for.
    until: &'static str,
    /// Whether it is still to be started.
    start: bool,
}

impl Foreground {
    /// Attaches, waits, starts: in this order, so that neither output nor exit can be missed.
    async fn run(self, context: &Context<'_>) -> Result<Code, CliError> {
        let api = &context.api;
        let flag = |set: bool| if set { "1".to_owned() } else { String::new() };
        let query = [
            ("stream", flag(true)),
            ("stdin", flag(self.streams.stdin)),
            ("stdout", flag(self.streams.stdout)),
            ("stderr", flag(self.streams.stderr)),
        ];
        let path = with_query(&format!("{}/attach", self.target), &query);
        let hijacked = api.hijack(&path, None).await.map_err(before_start)?;
        let path = with_query(
            &format!("{}/wait", self.target),
            &[("condition", self.until.to_owned())],
        );
        // The answer's head comes at once: from here on no exit is missed.
        let (waiting, _connection) = api
            .send(request(Method::POST, &path, api::empty()))
            .await
            .map_err(before_start)?;
        let join = Join {
            stdin: self.streams.stdin,
            tty: self.tty,
            keys: self.keys.clone(),
        };
        let joined = streams::join(hijacked, join);
        tokio::pin!(joined);
        if self.start {
            let path = format!("{}/start", self.target);
            let started = api.post(&path);
            tokio::pin!(started);
            // Output may come, and block us, before the answer to the start does.
            let mut early = None;
            let outcome = loop {
                tokio::select! {
                    outcome = &mut started => break outcome,
                    ended = &mut joined, if early.is_none() => early = Some(ended),
                }
            };
            outcome.map_err(start_failed)?;
            if let Some(ended) = early {
                return self.ended(ended?, waiting).await;
            }
        }
        let ended = self.attend(api, joined).await?;
        self.ended(ended, waiting).await
    }

    /// Until the streams end: sizes and signals go in meanwhile.
    async fn attend(
        &self,
        api: &Api,
        joined: impl Future<Output = Result<Ended, CliError>>,
    ) -> Result<Ended, CliError> {
        let size = async {
            if self.tty && lighter_platform::sys::terminal_size().is_some() {
                streams::follow_size(api, &self.target).await;
            }
            std::future::pending::<()>().await;
        };
        let signals = async {
            match self.signals && pass_signals(api, &self.target).await {
                true => (),
                false => std::future::pending().await,
            }
        };
        let told = async {
            match self.signals {
                true => std::future::pending().await,
                false => lighter_platform::sys::told_to_end().await,
            }
        };
        tokio::select! {
            ended = joined => ended,
            () = size => Ok(Ended::Remote),
            () = signals => Err(CliError::new(format!(
                "got {MOST_ENDS} SIGTERM/SIGINTs, forcefully exiting: the container runs on"
            ))),
            signal = told => Ok(Ended::Told(signal?)),
        }
    }

    async fn ended(
        &self,
        ended: Ended,
        waiting: hyper::Response<hyper::body::Incoming>,
    ) -> Result<Code, CliError> {
        match ended {
            Ended::Detached => {
                // The cursor is wherever the container left it.
                eprintln!("\r\nread escape sequence");
                return Ok(Code::OK);
            }
            // The container runs on, as it does when docker is ended.
            Ended::Told(signal) => return Ok(Code::of_signal(signal)),
            Ended::Remote => {}
        }
        let body = api::whole_body(waiting.into_body(), 1 << 20).await?;
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|error| CliError::new(format!("the engine's answer is no JSON: {error}")))?;
        if let Some(message) = answer["Error"]["Message"]
            .as_str()
            .filter(|text| !text.is_empty())
        {
            return Err(CliError::new(message).with_code(Code::USAGE));
        }
        Ok(Code::of_container(
            answer["StatusCode"].as_i64().unwrap_or(0),
        ))
    }
}

/// Signals to end after which docker's client leaves a program that does not listen to them.
const MOST_ENDS: u32 = 3;

/// Passes signals on; true once it was told to end so often that it should.
async fn pass_signals(api: &Api, target: &str) -> bool {
    let Ok(mut signals) = lighter_platform::sys::forwarded_signals() else {
        return false;
    };
    let mut ends = 0;
    while let Some(name) = signals.recv().await {
        ends += u32::from(matches!(name, "INT" | "TERM"));
        if ends == MOST_ENDS {
            return true;
        }
        let path = with_query(&format!("{target}/kill"), &[("signal", name.to_owned())]);
        // One that ended just now has no use for it.
        let _ = api.post(&path).await;
    }
    false
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
