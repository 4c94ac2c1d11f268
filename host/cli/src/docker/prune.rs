//! `container prune`, `image prune`, `volume prune`, `network prune`, `builder prune` and `system
//! prune`: what is not in use is removed, once the person has said yes.

use std::io::BufRead as _;

use clap::{ArgMatches, Command};
use serde_json::Value;

use super::api::with_query;
use super::flags::{Flag, Kind, flag, is_set, text, texts, with_flags};
use super::{Context, Running, Verb, filters, units, values};
use crate::exit::{CliError, Code};

const FILTER: Flag = flag(
    "filter",
    None,
    Kind::List,
    "",
    "Remove only what fits the conditions",
);
const FORCE: Flag = flag("force", Some('f'), Kind::Switch, "", "Do not ask");

const CONTAINERS: &[Flag] = &[FILTER, FORCE];
const IMAGES: &[Flag] = &[
    flag(
        "all",
        Some('a'),
        Kind::Switch,
        "",
        "Remove all images that no container has, not only those without a name",
    ),
    FILTER,
    FORCE,
];
const VOLUMES: &[Flag] = &[
    flag(
        "all",
        Some('a'),
        Kind::Switch,
        "",
        "Remove unused volumes with a name as well",
    ),
    FILTER,
    FORCE,
];
const NETWORKS: &[Flag] = &[FILTER, FORCE];
const KEEP: Flag = flag(
    "keep-storage",
    None,
    Kind::Bytes,
    "",
    "Leave so much of the cache",
);
const CACHE: &[Flag] = &[
    flag(
        "all",
        Some('a'),
        Kind::Switch,
        "",
        "Remove all of the cache that is not used, not only what nothing leads to",
    ),
    FILTER,
    FORCE,
    KEEP,
];
const SYSTEM: &[Flag] = &[
    flag(
        "all",
        Some('a'),
        Kind::Switch,
        "",
        "Remove all images that no container has, not only those without a name",
    ),
    FILTER,
    FORCE,
    flag(
        "volumes",
        None,
        Kind::Switch,
        "",
        "Remove unused anonymous volumes as well",
    ),
];

/// What the nouns lead to.
pub const BELOW_NOUNS: &[Verb] = &[
    Verb {
        name: "container-prune",
        command: || command("Remove all containers that do not run", CONTAINERS),
        run: |c, a| one(c, a, CONTAINER_QUESTION, containers),
    },
    Verb {
        name: "image-prune",
        command: || command("Remove images that are not used", IMAGES),
        run: |c, a| one(c, a, image_question(a), images),
    },
    Verb {
        name: "volume-prune",
        command: || command("Remove volumes that are not used", VOLUMES),
        run: |c, a| one(c, a, volume_question(a), volumes),
    },
    Verb {
        name: "network-prune",
        command: || command("Remove networks that are not used", NETWORKS),
        run: |c, a| Box::pin(networks(c, a)),
    },
    Verb {
        name: "builder-prune",
        command: || command("Remove what builds have left", CACHE),
        run: |c, a| Box::pin(cache(c, a)),
    },
    Verb {
        name: "system-prune",
        command: || command("Remove everything that is not used", SYSTEM),
        run: |c, a| Box::pin(system(c, a)),
    },
];

fn command(about: &'static str, table: &'static [Flag]) -> Command {
    with_flags(Command::new("prune").about(about), table)
}

const CONTAINER_QUESTION: &str = "This will remove all stopped containers.";

fn image_question(arguments: &ArgMatches) -> &'static str {
    match is_set(arguments, "all") {
        true => "This will remove all images without at least one container associated to them.",
        false => "This will remove all dangling images.",
    }
}

fn volume_question(arguments: &ArgMatches) -> &'static str {
    match is_set(arguments, "all") {
        true => "This will remove all local volumes not used by at least one container.",
        false => "This will remove anonymous local volumes not used by at least one container.",
    }
}

/// What a prune removed, in docker's words, and the bytes it gave back.
type Done = (String, u64);
type Prune = for<'a> fn(&'a Context<'a>, &'a ArgMatches) -> Pruning<'a>;
type Pruning<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Done, CliError>> + 'a>>;

/// Asks, prunes one kind of thing, and tells of it.
fn one<'a>(
    context: &'a Context<'a>,
    arguments: &'a ArgMatches,
    question: &'static str,
    prune: Prune,
) -> Running<'a> {
    Box::pin(async move {
        check_volumes(arguments)?;
        if !is_set(arguments, "force") && !agreed(context, question, "\n") {
            return Ok(Code::OK);
        }
        let (said, bytes) = prune(context, arguments).await?;
        tell(context, &said);
        total(context, bytes);
        Ok(Code::OK)
    })
}

/// Docker's refusal of `--all` beside its own filter.
fn check_volumes(arguments: &ArgMatches) -> Result<(), CliError> {
    // Containers have no such flag.
    let all = arguments.try_get_one::<bool>("all");
    let all = all.is_ok_and(|all| all.is_some());
    let named = texts(arguments, "filter");
    match named.iter().find(|text| text.starts_with("all=")) {
        Some(filter) if all => Err(CliError::new(format!(
            "conflicting options: cannot specify both --all and --filter {filter}"
        ))),
        _ => Ok(()),
    }
}

/// Whether the person says yes; docker asks on a line of its own, or on the same.
fn agreed(context: &Context<'_>, question: &str, between: &str) -> bool {
    let text = format!("WARNING! {question}{between}Are you sure you want to continue? [y/N] ");
    context.printer.data(&text);
    let mut answer = String::new();
    // What cannot be read is no yes.
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && answer.trim_end().eq_ignore_ascii_case("y")
}

fn tell(context: &Context<'_>, said: &str) {
    if !said.is_empty() {
        context.printer.line(said);
    }
}

fn total(context: &Context<'_>, bytes: u64) {
    let size = units::decimal_size_4(bytes);
    context
        .printer
        .line(&format!("Total reclaimed space: {size}"));
}

async fn post(context: &Context<'_>, path: &str, conditions: &[String]) -> Result<Value, CliError> {
    let query = [("filters", filters(conditions)?)];
    Ok(context.api.post(&with_query(path, &query)).await?)
}

/// A heading and the names below it, if there are any.
fn deleted(heading: &str, names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("{heading}\n{}\n", names.join("\n")),
    }
}

fn names(done: &Value, field: &str) -> Vec<String> {
    let names = done[field].as_array().into_iter().flatten();
    names
        .filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect()
}

fn reclaimed(done: &Value) -> u64 {
    done["SpaceReclaimed"].as_u64().unwrap_or(0)
}

fn containers<'a>(context: &'a Context<'a>, arguments: &'a ArgMatches) -> Pruning<'a> {
    Box::pin(async move {
        let done = post(context, "/containers/prune", &texts(arguments, "filter")).await?;
        let gone = names(&done, "ContainersDeleted");
        Ok((deleted("Deleted Containers:", &gone), reclaimed(&done)))
    })
}

fn images<'a>(context: &'a Context<'a>, arguments: &'a ArgMatches) -> Pruning<'a> {
    Box::pin(async move {
        let mut conditions = texts(arguments, "filter");
        conditions.push(format!("dangling={}", !is_set(arguments, "all")));
        let done = post(context, "/images/prune", &conditions).await?;
        let gone = done["ImagesDeleted"].as_array().into_iter().flatten();
        let line = |step: &Value| match (step["Untagged"].as_str(), step["Deleted"].as_str()) {
            (Some(name), _) => Some(format!("untagged: {name}")),
            (None, Some(id)) => Some(format!("deleted: {id}")),
            (None, None) => None,
        };
        let gone: Vec<String> = gone.filter_map(line).collect();
        Ok((deleted("Deleted Images:", &gone), reclaimed(&done)))
    })
}

fn volumes<'a>(context: &'a Context<'a>, arguments: &'a ArgMatches) -> Pruning<'a> {
    Box::pin(async move {
        let mut conditions = texts(arguments, "filter");
        if is_set(arguments, "all") {
            conditions.push("all=true".to_owned());
        }
        volumes_that(context, &conditions).await
    })
}

async fn volumes_that(context: &Context<'_>, conditions: &[String]) -> Result<Done, CliError> {
    let done = post(context, "/volumes/prune", conditions).await?;
    let gone = names(&done, "VolumesDeleted");
    Ok((deleted("Deleted Volumes:", &gone), reclaimed(&done)))
}

async fn networks(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let question = "This will remove all custom networks not used by at least one container.";
    if is_set(arguments, "force") || agreed(context, question, "\n") {
        tell(
            context,
            &networks_that(context, &texts(arguments, "filter")).await?,
        );
    }
    Ok(Code::OK)
}

async fn networks_that(context: &Context<'_>, conditions: &[String]) -> Result<String, CliError> {
    let done = post(context, "/networks/prune", conditions).await?;
    let gone = names(&done, "NetworksDeleted");
    Ok(deleted("Deleted Networks:", &gone))
}

async fn cache(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let keep = match text(arguments, KEEP.long) {
        None => String::new(),
        Some(size) => {
            let bytes = values::bytes(&size).map_err(|what| KEEP.wrong(&size, &what))?;
            bytes.to_string()
        }
    };
    let all = is_set(arguments, "all");
    let question = match all {
        true => "This will remove all build cache.",
        false => "This will remove all dangling build cache.",
    };
    if !is_set(arguments, "force") && !agreed(context, question, " ") {
        return Ok(Code::OK);
    }
    let (said, bytes) = cache_that(context, all, keep, &texts(arguments, "filter")).await?;
    tell(context, &said);
    total(context, bytes);
    Ok(Code::OK)
}

async fn cache_that(
    context: &Context<'_>,
    all: bool,
    keep: String,
    conditions: &[String],
) -> Result<Done, CliError> {
    let all = if all { "1" } else { "" };
    let query = [
        ("all", all.to_owned()),
        ("keep-storage", keep),
        ("filters", filters(conditions)?),
    ];
    let path = with_query("/build/prune", &query);
    let done = context.api.post(&path).await?;
    let gone = names(&done, "CachesDeleted");
    let said = deleted("Deleted build cache objects:", &gone);
    Ok((said, reclaimed(&done)))
}

async fn system(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let conditions = texts(arguments, "filter");
    let with_volumes = is_set(arguments, "volumes");
    if with_volumes && conditions.iter().any(|text| text.starts_with("until=")) {
        return Err(CliError::new(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    if !is_set(arguments, "force") && !agreed(context, &everything(arguments, &conditions), "\n") {
        return Ok(Code::OK);
    }
    let mut bytes = 0;
    let mut note = |(said, more): Done| {
        tell(context, &said);
        bytes += more;
    };
    note(containers(context, arguments).await?);
    note((networks_that(context, &conditions).await?, 0));
    if with_volumes {
        note(volumes_that(context, &conditions).await?);
    }
    note(images(context, arguments).await?);
    let all = is_set(arguments, "all");
    note(cache_that(context, all, String::new(), &conditions).await?);
    total(context, bytes);
    Ok(Code::OK)
}

/// The list of what goes, for the question.
fn everything(arguments: &ArgMatches, conditions: &[String]) -> String {
    let all = is_set(arguments, "all");
    let mut lines = vec![
        "This will remove:".to_owned(),
        "  - all stopped containers".into(),
        "  - all networks not used by at least one container".into(),
    ];
    if is_set(arguments, "volumes") {
        lines.push("  - all anonymous volumes not used by at least one container".into());
    }
    let (images, cache) = match all {
        true => (
            "  - all images without at least one container associated to them",
            "  - all build cache",
        ),
        false => ("  - all dangling images", "  - unused build cache"),
    };
    lines.extend([images.to_owned(), cache.into(), String::new()]);
    if !conditions.is_empty() {
        lines.push("  Items to be pruned will be filtered with:".into());
        let mut sorted = conditions.to_vec();
        sorted.sort();
        lines.extend(sorted.iter().map(|text| format!("  - {text}")));
        lines.push(String::new());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_question_names_what_goes() {
        let ask = |words: &[&str]| {
            let arguments = command("", SYSTEM).no_binary_name(true);
            let arguments = arguments.try_get_matches_from(words).unwrap();
            everything(&arguments, &texts(&arguments, "filter"))
        };
        assert_eq!(
            ask(&[]),
            "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  \
             - all dangling images\n  - unused build cache\n"
        );
        let long = ask(&[
            "-a",
            "--volumes",
            "--filter",
            "label=x",
            "--filter",
            "label!=y",
        ]);
        assert!(long.ends_with(
            "  - all anonymous volumes not used by at least one container\n  \
             - all images without at least one container associated to them\n  - all build cache\n\n  \
             Items to be pruned will be filtered with:\n  - label!=y\n  - label=x\n"
        ));
    }

    #[test]
    fn what_is_gone_is_listed() {
        let done = json!({ "ContainersDeleted": ["a", "b"] });
        let gone = names(&done, "ContainersDeleted");
        assert_eq!(deleted("Deleted:", &gone), "Deleted:\na\nb\n");
        assert_eq!(deleted("Deleted:", &names(&Value::Null, "X")), "");
    }
}
