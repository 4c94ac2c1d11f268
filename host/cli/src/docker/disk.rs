//! `system df`: what images, containers and volumes take of the disk.

use clap::{ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::flags::{Flag, Kind, flag, is_set, text, with_flags};
use super::table::{self, Column, Format};
use super::{Context, Verb, containers, image_list, units, volumes};
use crate::exit::{CliError, Code};

const DF: &[Flag] = &[
    flag(
        "format",
        None,
        Kind::Text,
        "",
        "`table`, `json`, or a template",
    ),
    flag(
        "verbose",
        Some('v'),
        Kind::Switch,
        "",
        "Show each image, container and volume",
    ),
];

/// What the noun leads to.
pub const BELOW_NOUNS: &[Verb] = &[Verb {
    name: "system-df",
    command: || {
        with_flags(
            Command::new("df").about("Show what takes room on the disk"),
            DF,
        )
    },
    run: |c, a| Box::pin(run(c, a)),
}];

const HEADINGS: &[Column] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];
const COLUMNS: &[&str] = &["Type", "TotalCount", "Active", "Size", "Reclaimable"];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let format = table::format(text(arguments, "format").as_deref())?;
    let usage = context.api.get("/system/df").await?;
    let shown = if is_set(arguments, "verbose") {
        verbose(&format, &usage)?
    } else {
        table::text(&format, COLUMNS, HEADINGS, &summary(&usage))?
    };
    context.printer.data(&shown);
    Ok(Code::OK)
}

fn list<'a>(usage: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + Clone {
    usage[field].as_array().into_iter().flatten()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// One line of the summary.
struct Kinded {
    name: &'static str,
    total: usize,
    active: usize,
    size: u64,
    unused: u64,
}

fn summary(usage: &Value) -> Vec<Map<String, Value>> {
    let (images, containers) = (list(usage, "Images"), list(usage, "Containers"));
    let volumes = list(usage, "Volumes");
    let is_used = |image: &&Value| number(&image["Containers"]) > 0;
    let own = |image: &Value| number(&image["Size"]).saturating_sub(number(&image["SharedSize"]));
    let layers = number(&usage["LayersSize"]);
    let used: u64 = images.clone().filter(is_used).map(own).sum();
    let is_active = |container: &&Value| {
        let state = container["State"].as_str().unwrap_or_default();
        ["running", "paused", "restarting"].contains(&state)
    };
    let written = |container: &Value| number(&container["SizeRw"]);
    let written_by_all: u64 = containers.clone().map(written).sum();
    let active: u64 = containers.clone().filter(is_active).map(written).sum();
    let has_users = |volume: &&Value| number(&volume["UsageData"]["RefCount"]) > 0;
    let held = |volume: &Value| number(&volume["UsageData"]["Size"]);
    let in_volumes: u64 = volumes.clone().map(held).sum();
    let in_use: u64 = volumes.clone().filter(has_users).map(held).sum();
    let lines = [
        Kinded {
            name: "Images",
            total: images.clone().count(),
            active: images.filter(is_used).count(),
            size: layers,
            unused: layers.saturating_sub(used),
        },
        Kinded {
            name: "Containers",
            total: containers.clone().count(),
            active: containers.filter(is_active).count(),
            size: written_by_all,
            unused: written_by_all - active,
        },
        Kinded {
            name: "Local Volumes",
            total: volumes.clone().count(),
            active: volumes.filter(has_users).count(),
            size: in_volumes,
            unused: in_volumes - in_use,
        },
        Kinded {
            name: "Build Cache",
            total: 0,
            active: 0,
            size: 0,
            unused: 0,
        },
    ];
    lines.iter().map(Kinded::row).collect()
}

impl Kinded {
    fn row(&self) -> Map<String, Value> {
        let unused = units::decimal_size_4(self.unused);
        let reclaimable = match self.size {
            0 => unused,
            size => format!("{unused} ({}%)", self.unused.saturating_mul(100) / size),
        };
        table::row(json!({
            "Type": self.name,
            "TotalCount": self.total.to_string(),
            "Active": self.active.to_string(),
            "Size": units::decimal_size_4(self.size),
            "Reclaimable": reclaimable,
        }))
    }
}

const IMAGE_HEADINGS: &[Column] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];
const CONTAINER_HEADINGS: &[Column] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
];
const VOLUME_HEADINGS: &[Column] = &[
    ("Name", "VOLUME NAME"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
];
const CACHE_HEADINGS: &[Column] = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

fn verbose(format: &Format, usage: &Value) -> Result<String, CliError> {
    let is_table = matches!(format, Format::Table);
    let images = list(usage, "Images").flat_map(|image| image_rows(image, !is_table));
    let images: Vec<_> = images.collect();
    let containers = list(usage, "Containers").map(|container| {
        let mut container = container.clone();
        // Only what it wrote itself.
        container["SizeRootFs"] = json!(0);
        containers::row(&container, !is_table)
    });
    let containers: Vec<_> = containers.collect();
    let volumes: Vec<_> = list(usage, "Volumes").map(volume_row).collect();
    let template = match format {
        Format::Table => {
            let part = |headings: &[Column], rows: &[Map<String, Value>]| {
                let columns: Vec<&str> = headings.iter().map(|(name, _)| *name).collect();
                table::text(&Format::Table, &columns, headings, rows)
            };
            return Ok(format!(
                "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n\
                 Build cache usage: 0B\n\n{}",
                part(IMAGE_HEADINGS, &images)?,
                part(CONTAINER_HEADINGS, &containers)?,
                part(VOLUME_HEADINGS, &volumes)?,
                part(CACHE_HEADINGS, &[])?,
            ));
        }
        Format::Json => None,
        Format::Lines(template) | Format::TableOf(template) => Some(template),
    };
    let rows = |all: Vec<Map<String, Value>>| -> Vec<Value> {
        let without = |mut row: Map<String, Value>| {
            row.remove(table::LABEL);
            Value::Object(row)
        };
        all.into_iter().map(without).collect()
    };
    let parts = [
        ("Images", json!(rows(images))),
        ("Containers", json!(rows(containers))),
        ("Volumes", json!(rows(volumes))),
        ("BuildCache", json!([])),
    ];
    let Some(template) = template else {
        // In the order docker has them, and without a line's end.
        let part = |(name, rows): &(&str, Value)| {
            format!("\"{name}\":{}", table::html_safe(&rows.to_string()))
        };
        let parts: Vec<String> = parts.iter().map(part).collect();
        return Ok(format!("{{{}}}", parts.join(",")));
    };
    let parts: Map<String, Value> = parts
        .into_iter()
        .map(|(name, rows)| (name.to_owned(), rows))
        .collect();
    template
        .render_as(&Value::Object(parts), "")
        .map_err(|error| CliError::new(format!("template parsing error: {error}")))
}

fn image_rows(image: &Value, whole: bool) -> Vec<Map<String, Value>> {
    let mut rows = image_list::rows(image, whole, false, false);
    let (size, shared) = (number(&image["Size"]), number(&image["SharedSize"]));
    for row in &mut rows {
        let unique = units::decimal_size_4(size.saturating_sub(shared));
        row.insert("UniqueSize".into(), json!(unique));
        row.insert("SharedSize".into(), json!(units::decimal_size_4(shared)));
        row.insert("Digest".into(), json!(""));
    }
    rows
}

fn volume_row(volume: &Value) -> Map<String, Value> {
    let mut row = volumes::row(volume);
    let size = number(&volume["UsageData"]["Size"]);
    row.insert("Size".into(), json!(units::decimal_size_4(size)));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_had_back_is_worked_out_as_docker_does() {
        let usage = json!({
            "LayersSize": 3000,
            "Images": [
                { "Containers": 1, "Size": 2000, "SharedSize": 500 },
                { "Containers": 0, "Size": 1500, "SharedSize": 500 },
            ],
            "Containers": [
                { "State": "running", "SizeRw": 10 }, { "State": "exited", "SizeRw": 30 }, { "State": "created" },
            ],
            "Volumes": [{ "UsageData": { "RefCount": 0, "Size": 10_006 } }],
            "BuildCache": [],
        });
        let lines: Vec<String> = summary(&usage)
            .iter()
            .map(|row| {
                let cells = COLUMNS.iter().map(|column| row[*column].as_str().unwrap());
                cells.collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(
            lines,
            [
                "Images 2 1 3kB 1.5kB (50%)",
                "Containers 3 1 40B 30B (75%)",
                "Local Volumes 1 0 10.01kB 10.01kB (100%)",
                "Build Cache 0 0 0B 0B",
            ]
        );
    }
}
