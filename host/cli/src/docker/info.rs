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
            let made =
                made.map_err(|error| CliError::new(format!("template parsing error: {error}")))?;
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
    let client = format!(
        "Client: Lighter\n Version:    {}\n\n",
        env!("CARGO_PKG_VERSION")
    );
    context.printer.data(&client);
    context.printer.data(&server_text(&info));
    for warning in list(&info["Warnings"]) {
        context.printer.talk(&warning);
    }
    Ok(Code::OK)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn list(values: &Value) -> Vec<String> {
    let all = values.as_array().into_iter().flatten();
    all.map(plain).collect()
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

/// What the engine says of itself, in docker's order and words.
fn server_text(info: &Value) -> String {
    let mut out = String::from("Server:\n");
    let mut add = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    let field = |name: &str, field: &str| format!(" {name}: {}", plain(&info[field]));
    add(field("Containers", "Containers"));
    for state in ["Running", "Paused", "Stopped"] {
        add(format!(
            "  {state}: {}",
            plain(&info[format!("Containers{state}")])
        ));
    }
    add(field("Images", "Images"));
    add(field("Server Version", "ServerVersion"));
    add(field("Storage Driver", "Driver"));
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        add(format!("  {}: {}", plain(&pair[0]), plain(&pair[1])));
    }
    add(field("Logging Driver", "LoggingDriver"));
    add(field("Cgroup Driver", "CgroupDriver"));
    add(field("Cgroup Version", "CgroupVersion"));
    add(" Plugins:".to_owned());
    for kind in ["Volume", "Network", "Authorization", "Log"] {
        let all = list(&info["Plugins"][kind]);
        if !all.is_empty() {
            add(format!("  {kind}: {}", all.join(" ")));
        }
    }
    add(format!(
        " Swarm: {}",
        plain(&info["Swarm"]["LocalNodeState"])
    ));
    let runtimes = info["Runtimes"].as_object();
    let runtimes: Vec<&str> = runtimes
        .into_iter()
        .flat_map(|all| all.keys().map(String::as_str))
        .collect();
    add(format!(" Runtimes: {}", runtimes.join(" ")));
    add(field("Default Runtime", "DefaultRuntime"));
    add(field("Init Binary", "InitBinary"));
    for (name, of) in [
        ("containerd", "ContainerdCommit"),
        ("runc", "RuncCommit"),
        ("init", "InitCommit"),
    ] {
        add(format!(" {name} version: {}", plain(&info[of]["ID"])));
    }
    add(" Security Options:".to_owned());
    for option in list(&info["SecurityOptions"]) {
        for (at, part) in option.split(',').enumerate() {
            let (name, value) = part.split_once('=').unwrap_or(("", part));
            add(match at {
                0 => format!("  {value}"),
                _ => format!("   {}: {value}", capitalised(name)),
            });
        }
    }
    for (name, of) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        add(field(name, of));
    }
    let memory = info["MemTotal"].as_u64().unwrap_or(0);
    add(format!(" Total Memory: {}", units::binary_size(memory)));
    for (name, of) in [
        ("Name", "Name"),
        ("ID", "ID"),
        ("Docker Root Dir", "DockerRootDir"),
        ("Debug Mode", "Debug"),
    ] {
        add(field(name, of));
    }
    last_part(info, &mut add);
    out.push('\n');
    out
}

/// A heading and its lines, where there are any.
fn block(add: &mut impl FnMut(String), name: &str, all: Vec<String>) {
    if !all.is_empty() {
        add(format!(" {name}:"));
        all.into_iter().for_each(|one| add(format!("  {one}")));
    }
}

/// What only some engines have to say.
fn last_part(info: &Value, add: &mut impl FnMut(String)) {
    for (name, of) in [
        ("HTTP Proxy", "HttpProxy"),
        ("HTTPS Proxy", "HttpsProxy"),
        ("No Proxy", "NoProxy"),
    ] {
        let proxy = plain(&info[of]);
        if !proxy.is_empty() {
            add(format!(" {name}: {proxy}"));
        }
    }
    block(add, "Labels", list(&info["Labels"]));
    add(format!(
        " Experimental: {}",
        plain(&info["ExperimentalBuild"])
    ));
    let registry = &info["RegistryConfig"];
    let insecure = registry["IndexConfigs"].as_object();
    let mut all: Vec<String> = insecure
        .into_iter()
        .flatten()
        .filter(|(_, index)| index["Secure"] == false)
        .map(|(name, _)| name.clone())
        .collect();
    all.extend(list(&registry["InsecureRegistryCIDRs"]));
    block(add, "Insecure Registries", all);
    block(add, "Registry Mirrors", list(&registry["Mirrors"]));
    add(format!(
        " Live Restore Enabled: {}",
        plain(&info["LiveRestoreEnabled"])
    ));
    let pools = info["DefaultAddressPools"].as_array();
    let pools: Vec<String> = pools
        .into_iter()
        .flatten()
        .map(|pool| {
            format!(
                "Base: {}, Size: {}",
                plain(&pool["Base"]),
                plain(&pool["Size"])
            )
        })
        .collect();
    if !pools.is_empty() {
        add(" Default Address Pools:".to_owned());
        pools.into_iter().for_each(|pool| add(format!("   {pool}")));
    }
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
    let line = |name: &str, value: &str| format!(" {:<19}{value}\n", format!("{name}:"));
    let mut out = format!(
        "Client: Lighter\n{}{}{}\nServer: {}\n",
        line("Version", env!("CARGO_PKG_VERSION")),
        line("API version", "1.51"),
        line(
            "OS/Arch",
            &format!("{}/{}", std::env::consts::OS, architecture())
        ),
        plain(&server["Platform"]["Name"]),
    );
    for component in server["Components"].as_array().into_iter().flatten() {
        out.push_str(&component_text(component));
    }
    context.printer.data(&out);
    Ok(Code::OK)
}

/// A part of the engine, as docker shows one.
fn component_text(component: &Value) -> String {
    let details = &component["Details"];
    let mut out = format!(" {}:\n", plain(&component["Name"]));
    let mut add = |name: &str, value: String| {
        out.push_str(&format!("  {:<18}{value}\n", format!("{name}:")));
    };
    add("Version", plain(&component["Version"]));
    if component["Name"] == "Engine" {
        let (version, least) = (
            plain(&details["ApiVersion"]),
            plain(&details["MinAPIVersion"]),
        );
        add(
            "API version",
            format!("{version} (minimum version {least})"),
        );
        for (name, of) in [
            ("Go version", "GoVersion"),
            ("Git commit", "GitCommit"),
            ("Built", "BuildTime"),
        ] {
            add(name, plain(&details[of]));
        }
        add(
            "OS/Arch",
            format!("{}/{}", plain(&details["Os"]), plain(&details["Arch"])),
        );
        add("Experimental", plain(&details["Experimental"]));
    } else if let Some(all) = details.as_object() {
        for (name, value) in all {
            add(name, plain(value));
        }
    }
    out
}
