//! `ps`: the list of containers.

use std::time::SystemTime;

use clap::{ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::api::with_query;
use super::flags::{Flag, Kind, flag, is_set, number, text, texts, with_flags};
use super::table::{self, Column, Format};
use super::{Context, Verb, filters, units};
use crate::exit::{CliError, Code};

const PS: &[Flag] = &[
    flag(
        "all",
        Some('a'),
        Kind::Switch,
        "",
        "Show all containers, not only running ones",
    ),
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
    flag(
        "last",
        Some('n'),
        Kind::Int,
        "",
        "Show the n last created containers, whatever their state",
    ),
    flag(
        "latest",
        Some('l'),
        Kind::Switch,
        "",
        "Show the last created container, whatever its state",
    ),
    flag(
        "no-trunc",
        None,
        Kind::Switch,
        "",
        "Do not shorten the output",
    ),
    flag("quiet", Some('q'), Kind::Switch, "", "Show only IDs"),
    flag("size", Some('s'), Kind::Switch, "", "Show file sizes"),
];

fn command() -> Command {
    with_flags(Command::new("ps").about("List containers"), PS)
}

/// The verb of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "ps",
    command,
    run: |c, a| Box::pin(run(c, a)),
}];

const HEADINGS: &[Column] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let format = text(arguments, "format");
    // A template that shows sizes has them asked for, unless they are refused.
    let size = match arguments.contains_id("size") {
        true => is_set(arguments, "size"),
        false => shows_size(&table::format(format.as_deref())?, format.as_deref()),
    };
    let set = |on: bool| if on { "1".to_owned() } else { String::new() };
    let last = match number(arguments, PS, "last")? {
        Some(last) => Some(last),
        None => is_set(arguments, "latest").then_some(1),
    };
    let query = [
        ("all", set(is_set(arguments, "all"))),
        (
            "limit",
            last.filter(|n| *n > 0)
                .map(|n| n.to_string())
                .unwrap_or_default(),
        ),
        ("size", set(size)),
        ("filters", filters(&texts(arguments, "filter"))?),
    ];
    let list = context
        .api
        .get(&with_query("/containers/json", &query))
        .await?;
    let whole = is_set(arguments, "no-trunc");
    let rows: Vec<_> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| row(container, whole))
        .collect();
    if is_set(arguments, "quiet") {
        if format.is_some() {
            context.printer.talk(
                "WARNING: Ignoring custom format, because both --format and --quiet are set.",
            );
        }
        for row in &rows {
            context.printer.line(row["ID"].as_str().unwrap_or_default());
        }
        return Ok(Code::OK);
    }
    let mut columns = vec![
        "ID",
        "Image",
        "Command",
        "RunningFor",
        "Status",
        "Ports",
        "Names",
    ];
    if size {
        columns.push("Size");
    }
    table::print(
        context.printer,
        &table::format(format.as_deref())?,
        &columns,
        HEADINGS,
        &rows,
    )?;
    Ok(Code::OK)
}

/// Whether a template makes use of the size, which the engine measures only when it is asked to.
fn shows_size(format: &Format, text: Option<&str>) -> bool {
    const MARK: &str = "\u{1}";
    let (Format::Lines(template) | Format::TableOf(template)) = format else {
        return false;
    };
    let row: Map<String, Value> = HEADINGS
        .iter()
        .map(|(name, _)| ((*name).to_owned(), Value::String(String::new())))
        .collect();
    let whole = template.render_as(&Value::Object(row), MARK);
    whole.is_ok_and(|shown| shown.contains(MARK)) || text.is_some_and(|t| t.contains(".Size"))
}

/// What templates and tables see of a container.
pub fn row(container: &Value, whole: bool) -> Map<String, Value> {
    let text = |name: &str| container[name].as_str().unwrap_or_default().to_owned();
    let created = container["Created"].as_i64().unwrap_or(0);
    let mounts = container["Mounts"].as_array().cloned().unwrap_or_default();
    let mount_names = mounts.iter().map(|mount| {
        let name = mount["Name"].as_str().filter(|name| !name.is_empty());
        let name = name.or(mount["Source"].as_str()).unwrap_or_default();
        if whole {
            name.to_owned()
        } else {
            ellipsis(name, 15)
        }
    });
    let local = mounts
        .iter()
        .filter(|mount| mount["Driver"] == "local")
        .count();
    let networks = container["NetworkSettings"]["Networks"].as_object();
    let command = if whole {
        text("Command")
    } else {
        ellipsis(&text("Command"), 20)
    };
    let names: Vec<String> = container["Names"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|name| name.trim_start_matches('/').to_owned())
        // Names with a slash are links of other containers.
        .filter(|name| whole || !name.contains('/'))
        .collect();
    let image = match text("Image") {
        image if image.is_empty() => "<no image>".to_owned(),
        image => short_image(&image, whole),
    };
    let size = |name: &str| container[name].as_u64().unwrap_or(0);
    let mut shown = units::decimal_size(size("SizeRw"));
    if size("SizeRootFs") > 0 {
        shown = format!(
            "{shown} (virtual {})",
            units::decimal_size(size("SizeRootFs"))
        );
    }
    let id = text("Id");
    let fields = json!({
        "ID": if whole { id } else { id.chars().take(12).collect() },
        "Image": image,
        "Command": format!("{command:?}"),
        "CreatedAt": local_time(created),
        "RunningFor": format!("{} ago", units::duration(age(created))),
        "Ports": super::port_list::shown(&container["Ports"]),
        "State": text("State"),
        "Status": text("Status"),
        "Size": shown,
        "Names": names.join(","),
        "Labels": super::labels(&container["Labels"]),
        table::LABEL: container["Labels"],
        "Mounts": mount_names.collect::<Vec<_>>().join(","),
        "LocalVolumes": local.to_string(),
        "Networks": networks.into_iter().flat_map(|n| n.keys().cloned()).collect::<Vec<_>>().join(","),
        "Platform": container.get("ImageManifestDescriptor").map_or(Value::Null, |d| d["platform"].clone()),
    });
    table::row(fields)
}

/// An image that is only an id is shortened as ids are.
fn short_image(image: &str, whole: bool) -> String {
    match image.strip_prefix("sha256:") {
        Some(id) if !whole => id.chars().take(12).collect(),
        _ => image.to_owned(),
    }
}

/// At most `most` characters, the last of them an ellipsis where something was left out.
pub fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn age(created: i64) -> u64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    now.saturating_sub(u64::try_from(created).unwrap_or(0))
}

/// A moment in the form of RFC 3339, in this host's time zone.
pub fn rfc3339_local(unix: i64) -> String {
    let zone = lighter_platform::sys::time_zone_at(unix);
    let local = |time: time::OffsetDateTime| {
        let offset = time::UtcOffset::from_whole_seconds(zone.seconds_east).ok()?;
        let format = &time::format_description::well_known::Rfc3339;
        time.to_offset(offset).format(format).ok()
    };
    let time = time::OffsetDateTime::from_unix_timestamp(unix).ok();
    time.and_then(local).unwrap_or_default()
}

/// A moment as docker writes it, in this host's time zone.
pub fn local_time(unix: i64) -> String {
    let zone = lighter_platform::sys::time_zone_at(unix);
    let format = time::macros::format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second] [offset_hour sign:mandatory][offset_minute]"
    );
    let local = |time: time::OffsetDateTime| {
        let offset = time::UtcOffset::from_whole_seconds(zone.seconds_east).ok()?;
        time.to_offset(offset).format(format).ok()
    };
    time::OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(local)
        .map(|text| format!("{text} {}", zone.name))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_asked_for_where_they_are_shown() {
        for (text, shown) in [
            ("{{.Size}}", true),
            ("{{json .}}", true),
            ("table {{.ID}}\t{{.Size}}", true),
            ("{{json .ID}}", false),
            ("{{.Names}}", false),
            ("json", false),
            ("table", false),
        ] {
            let format = table::format(Some(text)).unwrap();
            assert_eq!(shows_size(&format, Some(text)), shown, "{text}");
        }
    }

    #[test]
    fn a_container_is_shown_as_docker_shows_it() {
        let container = json!({
            "Id": "26df5039dbc3712e48137666c7158b60558ff2671e4177544ae89e920b5cfcb0",
            "Names": ["/s1", "/other/alias"], "Image": "busybox", "Created": 0,
            "Command": "sh -c 'echo out; echo err >&2'",
            "Labels": { "k": "v", "img": "busybox:latest" }, "State": "running", "Status": "Up 2 seconds",
            "Mounts": [{ "Type": "volume", "Name": "a-name-longer-than-most", "Driver": "local" }],
            "NetworkSettings": { "Networks": { "bridge": {} } },
        });
        let row = row(&container, false);
        assert_eq!(row["ID"], "26df5039dbc3");
        assert_eq!(row["Command"], "\"sh -c 'echo out; ec…\"");
        assert_eq!(row["Names"], "s1");
        assert_eq!(row["Mounts"], "a-name-longer-…");
        assert_eq!(row["Labels"], "img=busybox:latest,k=v");
        assert!(
            row["CreatedAt"].as_str().unwrap().contains(":00:00 "),
            "{row:?}"
        );
    }
}
