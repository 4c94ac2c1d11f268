//! `volume ls|create|rm|inspect|prune`.

use clap::{Arg, ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::api::{escape, with_query};
use super::flags::{Flag, Kind, fill, flag, is_set, put, text, texts, with_flags};
use super::table::{self, Column};
use super::{Context, Verb, each, filters, inspect, labels, nouns, units};
use crate::exit::{CliError, Code};

const LS: &[Flag] = &[
    flag(
        "filter",
        Some('f'),
        Kind::List,
        "",
        "Show only what fits the conditions",
    ),
    flag(
        "format",
        None,
        Kind::Text,
        "",
        "`table`, `json`, or a template",
    ),
    flag("quiet", Some('q'), Kind::Switch, "", "Show only names"),
];
const CREATE: &[Flag] = &[
    flag(
        "driver",
        Some('d'),
        Kind::Text,
        "Driver",
        "Volume driver (default: local)",
    ),
    flag(
        "label",
        None,
        Kind::Pairs,
        "Labels",
        "Set metadata on the volume",
    ),
    flag(
        "opt",
        Some('o'),
        Kind::Pairs,
        "DriverOpts",
        "Options of the driver",
    ),
];
const RM: &[Flag] = &[flag(
    "force",
    Some('f'),
    Kind::Switch,
    "",
    "Do not mind volumes that are not there",
)];
const INSPECT: &[Flag] = &[flag(
    "format",
    Some('f'),
    Kind::Text,
    "",
    "`json`, or a template",
)];
fn command() -> Command {
    Command::new("volume")
        .about("Manage volumes")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_flags(Command::new("ls").about("List volumes"), LS))
        .subcommand(
            with_flags(Command::new("create").about("Create a volume"), CREATE)
                .arg(Arg::new("target").value_name("VOLUME")),
        )
        .subcommand(
            with_flags(Command::new("rm").about("Remove volumes"), RM)
                .arg(super::targets("VOLUME")),
        )
        .subcommand(
            with_flags(
                Command::new("inspect").about("Show volumes in detail"),
                INSPECT,
            )
            .arg(super::targets("VOLUME")),
        )
        .subcommands(nouns::find(PRUNE).map(|verb| (verb.command)()))
}

/// The verb that `prune` leads to.
const PRUNE: &str = "volume-prune";

/// The noun of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "volume",
    command,
    run: |c, a| Box::pin(run(c, a)),
}];

const HEADINGS: &[Column] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    match arguments.subcommand() {
        Some(("create", arguments)) => create(context, arguments).await,
        Some(("rm", arguments)) => remove(context, arguments).await,
        Some(("inspect", arguments)) => {
            let names = texts(arguments, "targets");
            inspect::show(
                context,
                &names,
                text(arguments, "format").as_deref(),
                |name| async move {
                    context
                        .api
                        .get_bytes(&format!("/volumes/{}", escape(&name)))
                        .await
                },
            )
            .await
        }
        Some(("prune", arguments)) => match nouns::find(PRUNE) {
            Some(verb) => (verb.run)(context, arguments).await,
            None => Ok(Code::USAGE),
        },
        Some((_, arguments)) => list(context, arguments).await,
        None => Ok(Code::USAGE),
    }
}

async fn list(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let query = [("filters", filters(&texts(arguments, "filter"))?)];
    let found = context.api.get(&with_query("/volumes", &query)).await?;
    let mut rows: Vec<_> = found["Volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(row)
        .collect();
    rows.sort_by_key(|row| row["Name"].as_str().unwrap_or_default().to_owned());
    let format = text(arguments, "format");
    if table::is_quiet(arguments) {
        for row in &rows {
            context
                .printer
                .line(row["Name"].as_str().unwrap_or_default());
        }
        return Ok(Code::OK);
    }
    let format = table::format(format.as_deref())?;
    table::print(
        context.printer,
        &format,
        &["Driver", "Name"],
        HEADINGS,
        &rows,
    )?;
    Ok(Code::OK)
}

/// What templates and tables see of a volume.
pub fn row(volume: &Value) -> Map<String, Value> {
    let text = |name: &str| volume[name].as_str().unwrap_or_default();
    let size = volume["UsageData"]["Size"]
        .as_u64()
        .map_or_else(|| "N/A".to_owned(), units::decimal_size);
    let links = volume["UsageData"]["RefCount"]
        .as_i64()
        .map_or_else(|| "N/A".to_owned(), |n| n.to_string());
    let fields = json!({
        "Availability": "N/A",
        "Driver": text("Driver"),
        "Group": "N/A",
        "Labels": labels(&volume["Labels"]),
        table::LABEL: volume["Labels"],
        "Links": links,
        "Mountpoint": text("Mountpoint"),
        "Name": text("Name"),
        "Scope": text("Scope"),
        "Size": size,
        "Status": "N/A",
    });
    table::row(fields)
}

async fn create(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let mut body = json!({});
    fill(&mut body, CREATE, arguments)?;
    if let Some(name) = text(arguments, "target") {
        put(&mut body, "Name", json!(name));
    }
    let made = context.api.post_json("/volumes/create", &body).await?;
    context
        .printer
        .line(made["Name"].as_str().unwrap_or_default());
    Ok(Code::OK)
}

async fn remove(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let force = if is_set(arguments, "force") {
        "1".to_owned()
    } else {
        String::new()
    };
    let query = [("force", force)];
    let query = &query;
    each(context, &texts(arguments, "targets"), |name| async move {
        context
            .api
            .delete(&with_query(&format!("/volumes/{}", escape(&name)), query))
            .await
    })
    .await
}
