//! `info` and `version`.

use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use super::flags::{Flag, Kind, flag, text, with_flags};
use super::template::Template;
use super::{Context, Verb, units};
use crate::exit::{CliError, Code};

const FORMAT: &[Flag] = &[flag(
    "format",
    Some('f'),
    Kind::Text,
    "",
    "`json`, or a template",
)];

fn info_command() -> Command {
    with_flags(
        Command::new("info").about("Show what the engine is and has"),
        FORMAT,
    )
}

fn version_command() -> Command {
    with_flags(
        Command::new("version").about("Show the versions of client and engine"),
        FORMAT,
    )
}

/// The verbs of this file.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "info",
        command: info_command,
        run: |c, a| Box::pin(info(c, a)),
    },
    Verb {
        name: "version",
        command: version_command,
        run: |c, a| Box::pin(version(c, a)),
    },
];

/// Prints as a template or JSON wants it; false if neither was asked for.
fn formatted(
    context: &Context<'_>,
    arguments: &ArgMatches,
    value: &Value,
) -> Result<bool, CliError> {
    match text(arguments, "format").as_deref() {
        None | Some("") => Ok(false),
        Some("json") => {
            context.printer.line(&value.to_string());
            Ok(true)
        }
        Some(template) => {
            let made = Template::parse(template).and_then(|template| template.render(value));
            let made = made.map_err(|error| CliError::usage(format!("template: {error}")))?;
            context.printer.line(&made);
            Ok(true)
        }
    }
}

async fn info(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let info = context.api.get("/info").await?;
    if formatted(context, arguments, &info)? {
        return Ok(Code::OK);
    }
    let text = |name: &str| match &info[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut lines = vec![format!(
        "Client:\n Version:    {}\n\nServer:",
        env!("CARGO_PKG_VERSION")
    )];
    let mut add = |name: &str, value: String| lines.push(format!(" {name}: {value}"));
    for (name, field) in [
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Paused", "ContainersPaused"),
        (" Stopped", "ContainersStopped"),
        ("Images", "Images"),
        ("Server Version", "ServerVersion"),
        ("Storage Driver", "Driver"),
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    ] {
        add(name, text(field));
    }
    if let Some(options) = info["SecurityOptions"].as_array() {
        let options = options.iter().filter_map(Value::as_str).collect::<Vec<_>>();
        add("Security Options", options.join(", "));
    }
    for (name, field) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        add(name, text(field));
    }
    add(
        "Total Memory",
        units::binary_size(info["MemTotal"].as_u64().unwrap_or(0)),
    );
    for (name, field) in [
        ("Name", "Name"),
        ("ID", "ID"),
        ("Docker Root Dir", "DockerRootDir"),
    ] {
        add(name, text(field));
    }
    context.printer.line(&lines.join("\n"));
    for warning in info["Warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        context.printer.talk(warning);
    }
    Ok(Code::OK)
}

/// This program's architecture by the name Go, and so docker, gives it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn version(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let server = context.api.get("/version").await?;
    let client = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": "1.51",
        "Os": std::env::consts::OS,
        "Arch": architecture(),
    });
    if formatted(
        context,
        arguments,
        &json!({ "Client": client, "Server": server }),
    )? {
        return Ok(Code::OK);
    }
    let line = |name: &str, value: &Value| {
        format!(
            " {:<19}{}\n",
            format!("{name}:"),
            value.as_str().unwrap_or_default()
        )
    };
    let os = |of: &Value| {
        json!(format!(
            "{}/{}",
            of["Os"].as_str().unwrap_or("?"),
            of["Arch"].as_str().unwrap_or("?")
        ))
    };
    let mut out = format!(
        "Client: Lighter\n{}{}{}\nServer: Engine\n",
        line("Version", &client["Version"]),
        line("API version", &client["ApiVersion"]),
        line("OS/Arch", &os(&client)),
    );
    let api = format!(
        "{} (minimum version {})",
        server["ApiVersion"].as_str().unwrap_or("?"),
        server["MinAPIVersion"].as_str().unwrap_or("?"),
    );
    out.push_str(&line("Version", &server["Version"]));
    out.push_str(&line("API version", &json!(api)));
    out.push_str(&line("Kernel", &server["KernelVersion"]));
    out.push_str(&line("OS/Arch", &os(&server)));
    context.printer.data(&out);
    Ok(Code::OK)
}
