//! Which containers there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Container, Record, State, Status};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filters::{Filters, name_matches};
use crate::ports::key;
use crate::usage;

/// Filters of list.
pub const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// Only the newest so many, whether they run or not.
    pub limit: Option<usize>,
    /// With their sizes.
    pub size: bool,
    /// Which.
    pub filters: Filters,
}

/// One container of a list.
pub struct Listed {
    /// What create made.
    pub record: Arc<Record>,
    /// Its state.
    pub state: State,
    /// Bytes it has written, and bytes of all it sees.
    pub size: Option<(u64, u64)>,
    /// Further names, by the links that lead to it: `owner/alias`.
    pub links: Vec<String>,
}

impl Engine {
    /// The containers that `options` names, newest first.
    pub fn container_list(&self, options: &ListOptions) -> Result<Vec<Listed>> {
        let filters = &options.filters;
        check(filters)?;
        let time = |key: &str| -> Result<_> {
            let times = filters.values(key).iter().map(|reference| {
                self.containers()
                    .find(reference)
                    .map(|container| container.record().created)
            });
            times.collect::<Result<Vec<_>>>()
        };
        let (before, since) = (time("before")?, time("since")?);
        let ancestors = self.ancestors(filters);
        let mut all: Vec<Listed> = self.containers().all().iter().map(listed).collect();
        all.sort_by_key(|listed| std::cmp::Reverse(listed.record.created));
        let every = options.all || options.limit.is_some() || filters.has("status");
        let shown = all.into_iter().filter(|listed| {
            let created = listed.record.created;
            let status = listed.state.run.status;
            (every || status.is_running() || status == Status::Restarting)
                && before.iter().all(|time| created < *time)
                && since.iter().all(|time| created > *time)
                && (!filters.has("ancestor") || ancestors.contains(&listed.record.image_id))
                && matches(listed, filters)
        });
        let mut shown: Vec<Listed> = shown.take(options.limit.unwrap_or(usize::MAX)).collect();
        for listed in &mut shown {
            listed.links = self.containers().links_to(&listed.record.id);
        }
        if options.size {
            shown
                .iter_mut()
                .for_each(|listed| listed.size = Some(self.size(&listed.record)));
        }
        Ok(shown)
    }

    /// One container.
    pub fn container(&self, reference: &str) -> Result<Arc<Container>> {
        self.containers().find(reference)
    }

    /// Bytes a container has written, and bytes of all it sees.
    pub fn size(&self, record: &Record) -> (u64, u64) {
        let own = usage::directory(&self.upper(&record.id));
        let layers = record
            .layers
            .iter()
            .filter_map(|layer| self.store().layer(layer));
        (own, own + layers.map(|layer| layer.tar_bytes).sum::<u64>())
    }

    /// How many run, are paused, and do not run.
    pub fn container_counts(&self) -> (usize, usize, usize) {
        let (mut running, mut paused, mut stopped) = (0, 0, 0);
        for container in self.containers().all() {
            match container.status() {
                Status::Running | Status::Restarting => running += 1,
                Status::Paused => paused += 1,
                _ => stopped += 1,
            }
        }
        (running, paused, stopped)
    }

    /// The images whose containers descend from those that the filter names.
    fn ancestors(&self, filters: &Filters) -> BTreeSet<String> {
        let named = filters.values("ancestor").iter();
        // What is no image is the ancestor of nothing.
        let ids = named.filter_map(|name| self.image(name).ok().map(|image| image.id));
        let all = self.with_descendants(ids.collect());
        all.iter().map(ToString::to_string).collect()
    }
}

fn listed(container: &Arc<Container>) -> Listed {
    Listed {
        record: container.record(),
        state: container.state(),
        size: None,
        links: Vec::new(),
    }
}

fn check(filters: &Filters) -> Result<()> {
    const STATUSES: [&str; 7] = [
        "created",
        "running",
        "paused",
        "restarting",
        "removing",
        "exited",
        "dead",
    ];
    for value in filters.values("status") {
        if !STATUSES.contains(&value.as_str()) {
            return Err(Error::invalid(format!(
                "invalid filter 'status={value}': invalid value for state ({value}): must be one \
                 of {}",
                STATUSES.join(", ")
            )));
        }
    }
    for value in filters.values("exited") {
        value.parse::<i32>().map_err(|_| {
            Error::invalid(format!(
                "invalid filter 'exited={value}': strconv.Atoi: parsing \"{value}\": invalid \
                     syntax"
            ))
        })?;
    }
    for value in filters.values("health") {
        if !["none", "starting", "healthy", "unhealthy"].contains(&value.as_str()) {
            return Err(Error::invalid(format!(
                "invalid filter 'health={value}': invalid value for health ({value}): must be one \
                 of none, starting, healthy, unhealthy"
            )));
        }
    }
    filters.boolean("is-task")?;
    for key in ["expose", "publish"] {
        for value in filters.values(key) {
            ports(value).map_err(|text| {
                Error::invalid(format!("error while looking up for {key} {value}: {text}"))
            })?;
        }
    }
    Ok(())
}

/// The ports that `80`, `80/udp` or `80-90/tcp` stands for.
fn ports(text: &str) -> Result<(std::ops::RangeInclusive<u16>, &str), String> {
    let (numbers, kind) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |text: &str| {
        text.parse::<u16>()
            .map_err(|_| format!("strconv.ParseUint: parsing \"{text}\": invalid syntax"))
    };
    Ok((number(first)?..=number(last)?, kind))
}

fn matches(listed: &Listed, filters: &Filters) -> bool {
    let (record, run) = (&listed.record, &listed.state.run);
    let exited = |code: &str| run.status == Status::Exited && code.parse() == Ok(run.exit_code);
    let health = run
        .health
        .as_ref()
        .map_or("none", |health| health.status.as_str());
    // Only a container that runs has ports.
    let has_port = |wanted: &str, known: &[(u16, String)]| {
        ports(wanted).is_ok_and(|(numbers, kind)| {
            let same = |(number, its): &(u16, String)| *its == kind && numbers.contains(number);
            run.status.is_running() && known.iter().any(same)
        })
    };
    filters.any("id", |id| record.id.starts_with(id))
        && filters.any("name", |pattern| {
            name_matches(pattern, &record.name)
                || name_matches(pattern, &format!("/{}", record.name))
        })
        && filters.exact("status", run.status.name())
        && filters.any("exited", exited)
        && filters.exact("health", health)
        && filters.any("is-task", |wanted| matches!(wanted, "false" | "0"))
        && filters.labels(&record.config.labels)
        && filters.any("network", |wanted| {
            let known = |name: &String| {
                let place = run.places.get(name);
                name == wanted || place.is_some_and(|place| place.network_id.starts_with(wanted))
            };
            record.endpoints.keys().any(known)
        })
        && filters.any("volume", |wanted| {
            record
                .mounts
                .iter()
                .any(|mount| mount.destination == wanted || mount.volume() == Some(wanted))
        })
        && filters.any("expose", |wanted| {
            let ports = record.config.exposed_ports.iter().flatten();
            let ports: Vec<_> = ports.map(|(port, _)| key(port)).collect();
            has_port(wanted, &ports)
        })
        && filters.any("publish", |wanted| {
            // By the host's port, as in dockerd.
            let ports = run.ports.iter();
            let ports: Vec<_> = ports
                .map(|one| (one.host_port, one.kind().to_owned()))
                .collect();
            has_port(wanted, &ports)
        })
}
