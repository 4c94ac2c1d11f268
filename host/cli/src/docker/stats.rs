//! `stats`: what containers use, once or as it changes.
//!
//! Each container is followed by a stream of its own; the table is made of the last that each
//! said, twice a second. Without names, containers come and go with the events.

use std::pin::Pin;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use lighter_platform::text::without_controls;
use serde_json::{Map, Value, json};

use super::api::{Api, Failed, escape, with_query};
use super::flags::{Flag, Kind, flag, is_set, text, texts, with_flags};
use super::pull::Lines;
use super::table::{self, Column, Format};
use super::{Context, Verb, units};
use crate::exit::{CliError, Code};

/// From one picture to the next.
const EVERY: Duration = Duration::from_millis(500);

const STATS: &[Flag] = &[
    flag(
        "all",
        Some('a'),
        Kind::Switch,
        "",
        "Show all containers, not only running ones",
    ),
    flag(
        "format",
        None,
        Kind::Text,
        "",
        "`table`, `json`, or a template",
    ),
    flag(
        "no-stream",
        None,
        Kind::Switch,
        "",
        "Show what is used now, and end",
    ),
    flag(
        "no-trunc",
        None,
        Kind::Switch,
        "",
        "Do not shorten the output",
    ),
];

const HEADINGS: &[Column] = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];
const COLUMNS: &[&str] = &[
    "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs",
];

fn command() -> Command {
    let about = "Show what containers use of the machine, as it changes";
    let names = Arg::new("targets").num_args(0..).value_name("CONTAINER");
    with_flags(Command::new("stats").about(about), STATS).arg(names)
}

/// The verb of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "stats",
    command,
    run: |c, a| Box::pin(run(c, a)),
}];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let shown = Shown {
        format: table::format(text(arguments, "format").as_deref())?,
        whole: is_set(arguments, "no-trunc"),
        all: is_set(arguments, "all"),
    };
    let names = texts(arguments, "targets");
    if is_set(arguments, "no-stream") {
        once(context, &shown, names).await
    } else if names.is_empty() {
        follow_all(context, &shown).await
    } else {
        follow(context, &shown, &names).await
    }
}

/// How it is to be shown.
struct Shown {
    format: Format,
    whole: bool,
    all: bool,
}

impl Shown {
    fn text<'a>(
        &self,
        all: impl Iterator<Item = (&'a String, &'a Value)>,
    ) -> Result<String, CliError> {
        let rows: Vec<_> = all
            .map(|(name, stats)| row(name, stats, self.whole))
            .collect();
        table::text(&self.format, COLUMNS, HEADINGS, &rows)
    }
}

async fn list(api: &Api, all: bool) -> Result<Vec<String>, Failed> {
    let all = if all { "1".to_owned() } else { String::new() };
    let list = api
        .get(&with_query("/containers/json", &[("all", all)]))
        .await?;
    let ids = list.as_array().into_iter().flatten();
    Ok(ids
        .filter_map(|one| Some(one["Id"].as_str()?.to_owned()))
        .collect())
}

fn path(name: &str, stream: &str) -> String {
    with_query(
        &format!("/containers/{}/stats", escape(name)),
        &[("stream", stream.to_owned())],
    )
}

async fn once(context: &Context<'_>, shown: &Shown, names: Vec<String>) -> Result<Code, CliError> {
    let named = !names.is_empty();
    let names = match named {
        true => names,
        false => list(&context.api, shown.all).await?,
    };
    let asked = names.iter().map(|name| async move {
        match context.api.get(&path(name, "0")).await {
            // Gone since it was listed.
            Err(error) if !named && error.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    });
    let found = try_join_all(asked).await?;
    let found: Vec<_> = names.iter().zip(found).collect();
    let there = found
        .iter()
        .filter_map(|(name, stats)| Some((*name, stats.as_ref()?)));
    context.printer.data(&shown.text(there)?);
    Ok(Code::OK)
}

/// A container whose stream said something, or has ended.
type Next<'a> =
    Pin<Box<dyn Future<Output = Result<(String, Lines, Option<Value>), CliError>> + 'a>>;

/// Those that are followed, in the order of the table.
#[derive(Default)]
struct Followed<'a> {
    all: Vec<(String, Option<Value>)>,
    next: FuturesUnordered<Next<'a>>,
}

impl Followed<'_> {
    async fn add(&mut self, api: &Api, name: &str) -> Result<(), Failed> {
        if self.all.iter().any(|(known, _)| known == name) {
            return Ok(());
        }
        let response = api.follow(&path(name, "1")).await?;
        self.all.push((name.to_owned(), None));
        let lines = Lines::new(response.into_body());
        self.next.push(Box::pin(read(name.to_owned(), lines)));
        Ok(())
    }

    fn remove(&mut self, name: &str) {
        self.all.retain(|(known, _)| known != name);
    }

    /// Takes what one of them said.
    fn take(
        &mut self,
        said: Result<(String, Lines, Option<Value>), CliError>,
    ) -> Result<(), CliError> {
        let (name, lines, stats) = said?;
        let known = self.all.iter_mut().find(|(known, _)| *known == name);
        match (known, stats) {
            (Some(known), Some(stats)) => {
                known.1 = Some(stats);
                self.next.push(Box::pin(read(name, lines)));
            }
            (Some(_), None) => self.remove(&name),
            (None, _) => {}
        }
        Ok(())
    }

    /// Whether each has said something.
    fn is_whole(&self) -> bool {
        self.all.iter().all(|(_, stats)| stats.is_some())
    }

    /// The picture: over the one before, and nothing of that left behind it.
    fn picture(&self, shown: &Shown) -> Result<String, CliError> {
        let there = self.all.iter();
        let there = there.filter_map(|(name, stats)| Some((name, stats.as_ref()?)));
        let mut picture = String::from("\x1b[H");
        for line in shown.text(there)?.lines() {
            picture.push_str(&without_controls(line));
            picture.push_str("\x1b[K\n");
        }
        picture.push_str("\x1b[J");
        Ok(picture)
    }
}

async fn read(name: String, mut lines: Lines) -> Result<(String, Lines, Option<Value>), CliError> {
    let line = lines.next().await?;
    let stats = line.and_then(|line| serde_json::from_slice(&line).ok());
    Ok((name, lines, stats))
}

async fn follow(context: &Context<'_>, shown: &Shown, names: &[String]) -> Result<Code, CliError> {
    let mut followed = Followed::default();
    for name in names {
        followed.add(&context.api, name).await?;
    }
    let mut tick = tokio::time::interval(EVERY);
    let mut begun = false;
    while !followed.all.is_empty() {
        tokio::select! {
            Some(said) = followed.next.next() => followed.take(said)?,
            _ = tick.tick() => {
                begun = begun || followed.is_whole();
                if begun {
                    context.printer.bytes(followed.picture(shown)?.as_bytes());
                }
            }
        }
    }
    Ok(Code::OK)
}

async fn follow_all(context: &Context<'_>, shown: &Shown) -> Result<Code, CliError> {
    let api = &context.api;
    // Before the list: what comes in between is then in both.
    let filter = [("filters", json!({"type": {"container": true}}).to_string())];
    let events = api.follow(&with_query("/events", &filter)).await?;
    let mut events = Lines::new(events.into_body());
    let mut followed = Followed::default();
    for name in list(api, shown.all).await? {
        add_listed(&mut followed, api, &name).await?;
    }
    let mut tick = tokio::time::interval(EVERY);
    let mut begun = false;
    loop {
        tokio::select! {
            Some(said) = followed.next.next() => followed.take(said)?,
            event = events.next() => {
                let Some(event) = event? else { return Ok(Code::OK) };
                let event: Value = serde_json::from_slice(&event).unwrap_or_default();
                let id = event["Actor"]["ID"].as_str().unwrap_or_default();
                match event["Action"].as_str().unwrap_or_default() {
                    "create" if shown.all => add_listed(&mut followed, api, id).await?,
                    "start" => add_listed(&mut followed, api, id).await?,
                    "die" if !shown.all => followed.remove(id),
                    "destroy" => followed.remove(id),
                    _ => {}
                }
            }
            _ = tick.tick() => {
                begun = begun || followed.is_whole();
                if begun {
                    context.printer.bytes(followed.picture(shown)?.as_bytes());
                }
            }
        }
    }
}

/// Follows a container that may be gone by now.
async fn add_listed(followed: &mut Followed<'_>, api: &Api, name: &str) -> Result<(), Failed> {
    match followed.add(api, name).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// What templates and tables see of one container; `typed` is how it was asked for.
fn row(typed: &str, stats: &Value, whole: bool) -> Map<String, Value> {
    let text = |name: &str| stats[name].as_str().unwrap_or_default();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let id = text("id");
    let memory = &stats["memory_stats"];
    let (used, limit) = (without_cache(memory), number(&memory["limit"]));
    let share = match limit {
        0 => 0.0,
        limit => used as f64 / limit as f64 * 100.0,
    };
    let networks = stats["networks"].as_object().into_iter().flatten();
    let (received, sent) = networks.fold((0, 0), |(received, sent), (_, network)| {
        let bytes = |name: &str| number(&network[name]);
        (received + bytes("rx_bytes"), sent + bytes("tx_bytes"))
    });
    let pair = |a, b| format!("{} / {}", units::decimal_size(a), units::decimal_size(b));
    let fields = json!({
        "Container": typed,
        "ID": if whole { id.to_owned() } else { id.chars().take(12).collect() },
        "Name": match text("name") { "" | "/" => "--", name => name.trim_start_matches('/') },
        "CPUPerc": format!("{:.2}%", processor(stats)),
        "MemUsage": format!("{} / {}", units::binary_size(used), units::binary_size(limit)),
        "MemPerc": format!("{share:.2}%"),
        "NetIO": pair(received, sent),
        "BlockIO": pair(blocks(stats, 'r'), blocks(stats, 'w')),
        "PIDs": number(&stats["pids_stats"]["current"]).to_string(),
    });
    table::row(fields)
}

/// Memory that could not be given back at once.
fn without_cache(memory: &Value) -> u64 {
    let usage = memory["usage"].as_u64().unwrap_or(0);
    let of = |name: &str| memory["stats"][name].as_u64();
    let idle = of("total_inactive_file").filter(|idle| *idle < usage);
    let idle = idle.or_else(|| of("inactive_file").filter(|idle| *idle < usage));
    usage - idle.unwrap_or(0)
}

/// Percent of one processor.
fn processor(stats: &Value) -> f64 {
    let number = |value: &Value| value.as_u64().unwrap_or(0) as f64;
    let (now, before) = (&stats["cpu_stats"], &stats["precpu_stats"]);
    let since = |name: fn(&Value) -> &Value| number(name(now)) - number(name(before));
    let used = since(|cpu| &cpu["cpu_usage"]["total_usage"]);
    let all = since(|cpu| &cpu["system_cpu_usage"]);
    if used > 0.0 && all > 0.0 {
        used / all * number(&now["online_cpus"]) * 100.0
    } else {
        0.0
    }
}

fn blocks(stats: &Value, letter: char) -> u64 {
    let entries = stats["blkio_stats"]["io_service_bytes_recursive"].as_array();
    let of_kind = |entry: &&Value| {
        let kind = entry["op"].as_str().unwrap_or_default();
        kind.to_ascii_lowercase().starts_with(letter)
    };
    let bytes = entries.into_iter().flatten().filter(of_kind);
    bytes.filter_map(|entry| entry["value"].as_u64()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_worked_out_as_docker_does() {
        let stats = json!({
            "name": "/web", "id": "26df5039dbc3712e48137666c7158b60",
            "pids_stats": { "current": 3, "limit": u64::MAX },
            "cpu_stats": { "cpu_usage": { "total_usage": 3_000_000_000_u64 },
                "system_cpu_usage": 20_000_000_000_u64, "online_cpus": 2 },
            "precpu_stats": { "cpu_usage": { "total_usage": 2_000_000_000_u64 },
                "system_cpu_usage": 16_000_000_000_u64 },
            "memory_stats": { "usage": 3 << 20, "limit": 64 << 20, "stats": { "inactive_file": 1 << 20 } },
            "blkio_stats": { "io_service_bytes_recursive": [
                { "op": "read", "value": 4096 }, { "op": "write", "value": 1 }, { "op": "read", "value": 4 } ] },
        });
        let row = row("w", &stats, false);
        let expected = json!({
            "Container": "w", "ID": "26df5039dbc3", "Name": "web", "CPUPerc": "50.00%",
            "MemUsage": "2MiB / 64MiB", "MemPerc": "3.12%", "NetIO": "0B / 0B",
            "BlockIO": "4.1kB / 1B", "PIDs": "3",
        });
        assert_eq!(Value::Object(row), expected);
    }
}
