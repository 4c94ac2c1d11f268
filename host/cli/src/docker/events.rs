//! `events`: what happens, as it happens.

use clap::{ArgMatches, Command};
use serde_json::Value;

use super::api::with_query;
use super::flags::{Flag, Kind, flag, text, texts, with_flags};
use super::pull::Lines;
use super::template::Template;
use super::{Context, Verb, filters, now_unix, values};
use crate::exit::{CliError, Code};

const EVENTS: &[Flag] = &[
    flag(
        "filter",
        Some('f'),
        Kind::List,
        "",
        "Show only what fits the conditions",
    ),
    flag("format", None, Kind::Text, "", "`json`, or a template"),
    flag(
        "since",
        None,
        Kind::Text,
        "",
        "Show what happened since a time or span",
    ),
    flag("until", None, Kind::Text, "", "End at a time or span"),
];

fn command() -> Command {
    with_flags(
        Command::new("events").about("Show what happens, as it happens"),
        EVENTS,
    )
}

/// The verb of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "events",
    command,
    run: |c, a| Box::pin(run(c, a)),
}];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let moment = |name: &str| {
        let text = text(arguments, name).unwrap_or_default();
        values::moment(&text, now_unix()).map_err(CliError::new)
    };
    let query = [
        ("filters", filters(&texts(arguments, "filter"))?),
        ("since", moment("since")?),
        ("until", moment("until")?),
    ];
    let format = text(arguments, "format");
    let template = match format.as_deref() {
        None | Some("json" | "") => None,
        Some(text) => Some(
            Template::parse(text)
                .map_err(|error| CliError::new(format!("template parsing error: {error}")))?,
        ),
    };
    let response = context.api.follow(&with_query("/events", &query)).await?;
    let mut lines = Lines::new(response.into_body());
    while let Some(line) = lines.next().await? {
        let event: Value = serde_json::from_slice(&line)
            .map_err(|error| CliError::new(format!("the engine's answer is no JSON: {error}")))?;
        let text = match (&template, format.as_deref()) {
            (Some(template), _) => template
                .render_as(&event, String::from_utf8_lossy(&line).trim())
                .map_err(|error| CliError::new(format!("template parsing error: {error}")))?,
            (None, Some("json")) => String::from_utf8_lossy(&line).trim_end().to_owned(),
            (None, _) => shown(&event),
        };
        context.printer.line(&text);
    }
    Ok(Code::OK)
}

/// A moment in this host's time zone, its fraction with all nine digits.
fn local(time: time::OffsetDateTime) -> Option<String> {
    let zone = lighter_platform::sys::time_zone_at(time.unix_timestamp());
    let offset = time::UtcOffset::from_whole_seconds(zone.seconds_east).ok()?;
    let time = time.to_offset(offset);
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]"
    );
    let east = time::macros::format_description!("[offset_hour sign:mandatory]:[offset_minute]");
    let zone = match zone.seconds_east {
        0 => "Z".to_owned(),
        _ => time.format(east).ok()?,
    };
    Some(format!("{}{zone}", time.format(format).ok()?))
}

/// An event as docker writes it.
fn shown(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nanos = event["timeNano"].as_i64().map_or_else(
        || i128::from(event["time"].as_i64().unwrap_or(0)) * 1_000_000_000,
        i128::from,
    );
    let when = time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(local)
        .unwrap_or_default();
    let attributes = event["Actor"]["Attributes"].as_object();
    let mut parts: Vec<String> = attributes
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", text(value)))
        .collect();
    parts.sort();
    let tail = if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    };
    format!(
        "{when} {} {} {}{tail}",
        text(&event["Type"]),
        text(&event["Action"]),
        text(&event["Actor"]["ID"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_one_line() {
        let event = json!({
            "Type": "container", "Action": "die", "timeNano": 1_500_000_000,
            "Actor": { "ID": "abc", "Attributes": { "name": "x", "exitCode": "0" } },
        });
        let text = shown(&event);
        assert!(text.contains(":01.500000000"), "{text}");
        assert!(
            text.ends_with(" container die abc (exitCode=0, name=x)"),
            "{text}"
        );
    }
}
