//! `history`: how an image came to be.

use clap::{ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::api::escape;
use super::flags::{Flag, Kind, flag, is_set, switch, text, with_flags};
use super::table::{self, Column};
use super::{Context, Verb, containers, now_unix, units};
use crate::exit::{CliError, Code};

const HISTORY: &[Flag] = &[
    flag(
        "format",
        None,
        Kind::Text,
        "",
        "`table`, `json`, or a template",
    ),
    flag(
        "human",
        Some('H'),
        Kind::Switch,
        "",
        "Sizes and times for people (default true)",
    ),
    flag(
        "no-trunc",
        None,
        Kind::Switch,
        "",
        "Do not shorten the output",
    ),
    flag("quiet", Some('q'), Kind::Switch, "", "Show only IDs"),
];

fn command() -> Command {
    with_flags(
        Command::new("history").about("Show how an image came to be"),
        HISTORY,
    )
    .arg(super::target("IMAGE"))
}

/// The verb of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "history",
    command,
    run: |c, a| Box::pin(history(c, a)),
}];

const HEADINGS: &[Column] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

async fn history(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let name = text(arguments, "target").unwrap_or_default();
    let path = format!("/images/{}/history", escape(&name));
    let steps = context.api.get(&path).await?;
    let human = switch(arguments, "human").unwrap_or(true);
    let whole = is_set(arguments, "no-trunc");
    let now = now_unix();
    let rows: Vec<_> = steps
        .as_array()
        .into_iter()
        .flatten()
        .map(|step| row(step, human, whole, now))
        .collect();
    if table::is_quiet(arguments) {
        for row in &rows {
            context.printer.line(row["ID"].as_str().unwrap_or_default());
        }
        return Ok(Code::OK);
    }
    let when = if human { "CreatedSince" } else { "CreatedAt" };
    table::print(
        context.printer,
        &table::format(text(arguments, "format").as_deref())?,
        &["ID", when, "CreatedBy", "Size", "Comment"],
        HEADINGS,
        &rows,
    )?;
    Ok(Code::OK)
}

fn row(step: &Value, human: bool, whole: bool, now: i64) -> Map<String, Value> {
    let text = |field: &str| step[field].as_str().unwrap_or_default().to_owned();
    let id = text("Id");
    let id = match id.strip_prefix("sha256:") {
        Some(hex) if !whole => hex.chars().take(12).collect(),
        _ => id,
    };
    let by = text("CreatedBy").replace('\t', " ");
    let created = step["Created"].as_i64().unwrap_or_default();
    let at = containers::rfc3339_local(created);
    let age = u64::try_from(now.saturating_sub(created)).unwrap_or(0);
    let size = step["Size"].as_u64().unwrap_or_default();
    let fields = json!({
        "ID": id,
        "CreatedAt": at,
        "CreatedSince": if human { format!("{} ago", units::duration(age)) } else { at.clone() },
        "CreatedBy": if whole { by } else { containers::ellipsis(&by, 45) },
        "Size": if human { units::decimal_size(size) } else { size.to_string() },
        "Comment": text("Comment"),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_shown_as_docker_shows_them() {
        let step = json!({
            "Id": format!("sha256:{}", "a".repeat(64)), "Created": 1_795_657_980,
            "CreatedBy": "sh -c touch /new; mkdir -p /a/b; touch /a/b/c; rm", "Size": 1_982_401,
            "Comment": "why",
        });
        let shown = row(&step, true, false, 1_795_657_981);
        assert_eq!(shown["ID"], "aaaaaaaaaaaa");
        assert_eq!(shown["CreatedSince"], "1 second ago");
        assert_eq!(
            shown["CreatedBy"],
            "sh -c touch /new; mkdir -p /a/b; touch /a/b/…"
        );
        assert_eq!(shown["Size"], "1.98MB");
        let plain = row(&step, false, true, 0);
        assert_eq!(plain["Size"], "1982401");
        assert_eq!(plain["ID"].as_str().map(str::len), Some(71));
        let missing = row(&json!({"Id": "<missing>"}), true, false, 0);
        assert_eq!(missing["ID"], "<missing>");
    }
}
