//! The verbs below `network`; `network prune` is with the other prunes.

mod connect;
mod create;

use clap::{Arg, ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::api::{escape, with_query};
use super::flags::{Flag, Kind, flag, is_set, text, texts, with_flags};
use super::table::{self, Column};
use super::{Context, Verb, filters, inspect, labels};
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
    flag("no-trunc", None, Kind::Switch, "", "Show whole IDs"),
    flag("quiet", Some('q'), Kind::Switch, "", "Show only IDs"),
];
const INSPECT: &[Flag] = &[
    flag("format", Some('f'), Kind::Text, "", "`json`, or a template"),
    flag(
        "verbose",
        Some('v'),
        Kind::Switch,
        "",
        "Show what helps to find faults as well",
    ),
];

/// What the noun leads to.
pub const BELOW_NOUNS: &[Verb] = &[
    Verb {
        name: "network-ls",
        command: || with_flags(Command::new("ls").about("List networks"), LS),
        run: |c, a| Box::pin(list(c, a)),
    },
    Verb {
        name: "network-inspect",
        command: || {
            let command = Command::new("inspect").about("Show networks in detail");
            with_flags(command, INSPECT).arg(super::targets("NETWORK"))
        },
        run: |c, a| Box::pin(show(c, a)),
    },
    Verb {
        name: "network-create",
        command: || {
            let command = Command::new("create").about("Create a network");
            with_flags(command, create::FLAGS).arg(name("target", "NETWORK"))
        },
        run: |c, a| Box::pin(create::run(c, a)),
    },
    Verb {
        name: "network-rm",
        command: || {
            let command = Command::new("rm").about("Remove networks");
            with_flags(command, connect::RM).arg(super::targets("NETWORK"))
        },
        run: |c, a| Box::pin(connect::remove(c, a)),
    },
    Verb {
        name: "network-connect",
        command: || {
            let command = Command::new("connect").about("Connect a container to a network");
            ends(with_flags(command, connect::CONNECT))
        },
        run: |c, a| Box::pin(connect::connect(c, a)),
    },
    Verb {
        name: "network-disconnect",
        command: || {
            let command = Command::new("disconnect").about("Disconnect a container from a network");
            ends(with_flags(command, connect::DISCONNECT))
        },
        run: |c, a| Box::pin(connect::disconnect(c, a)),
    },
];

fn name(id: &'static str, word: &'static str) -> Arg {
    Arg::new(id).required(true).value_name(word)
}

fn ends(command: Command) -> Command {
    let command = command.arg(name("network", "NETWORK"));
    command.arg(name("container", "CONTAINER"))
}

const HEADINGS: &[Column] = &[
    ("CreatedAt", "CREATED AT"),
    ("Driver", "DRIVER"),
    ("ID", "NETWORK ID"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("Name", "NAME"),
    ("Scope", "SCOPE"),
];

async fn list(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let query = [("filters", filters(&texts(arguments, "filter"))?)];
    let found = context.api.get(&with_query("/networks", &query)).await?;
    let whole = is_set(arguments, "no-trunc");
    let found = found.as_array().into_iter().flatten();
    let mut rows: Vec<_> = found.map(|network| row(network, whole)).collect();
    rows.sort_by_key(|row| row["Name"].as_str().unwrap_or_default().to_owned());
    if table::is_quiet(arguments) {
        for row in &rows {
            context.printer.line(row["ID"].as_str().unwrap_or_default());
        }
        return Ok(Code::OK);
    }
    table::print(
        context.printer,
        &table::format(text(arguments, "format").as_deref())?,
        &["ID", "Name", "Driver", "Scope"],
        HEADINGS,
        &rows,
    )?;
    Ok(Code::OK)
}

/// What templates and tables see of a network.
fn row(network: &Value, whole: bool) -> Map<String, Value> {
    let text = |name: &str| network[name].as_str().unwrap_or_default();
    let flag = |name: &str| network[name].as_bool().unwrap_or_default().to_string();
    let id = match text("Id") {
        id if whole => id,
        id => id.get(..12).unwrap_or(id),
    };
    let fields = json!({
        "CreatedAt": utc(text("Created")),
        "Driver": text("Driver"),
        "ID": id,
        "IPv4": flag("EnableIPv4"),
        "IPv6": flag("EnableIPv6"),
        "Internal": flag("Internal"),
        "Labels": labels(&network["Labels"]),
        table::LABEL: network["Labels"],
        "Name": text("Name"),
        "Scope": text("Scope"),
    });
    table::row(fields)
}

/// A time as Go writes one; the engine's are in UTC.
fn utc(text: &str) -> String {
    match text.strip_suffix('Z') {
        Some(plain) => format!("{} +0000 UTC", plain.replacen('T', " ", 1)),
        None => text.to_owned(),
    }
}

async fn show(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let names = texts(arguments, "targets");
    let verbose = match is_set(arguments, "verbose") {
        true => "true".to_owned(),
        false => String::new(),
    };
    let query = [("verbose", verbose)];
    let query = &query;
    let format = text(arguments, "format");
    inspect::show(context, &names, format.as_deref(), |name| async move {
        let path = format!("/networks/{}", escape(&name));
        context.api.get_bytes(&with_query(&path, query)).await
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_docker_shows_of_a_network() {
        let network = json!({
            "Name": "bridge", "Id": "0123456789abcdef", "Created": "1970-01-01T00:00:00.5Z",
            "Scope": "local", "Driver": "bridge", "EnableIPv4": true, "EnableIPv6": false,
            "Internal": false, "Labels": { "b": "2", "a": "1" },
        });
        let row = row(&network, false);
        assert_eq!(row["ID"], "0123456789ab");
        assert_eq!(row["CreatedAt"], "1970-01-01 00:00:00.5 +0000 UTC");
        assert_eq!(
            (&row["IPv4"], &row["IPv6"]),
            (&json!("true"), &json!("false"))
        );
        assert_eq!(row["Labels"], "a=1,b=2");
        assert_eq!(super::row(&network, true)["ID"], "0123456789abcdef");
    }
}
