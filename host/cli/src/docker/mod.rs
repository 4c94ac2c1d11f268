//! The docker verbs: a client of the Docker API on the daemon's socket, one file a noun.
//!
//! Flags are rows of tables ([`flags`]), which make help, parsing and the request. Called by
//! `main`; calls the API through [`api`] and never the daemon, but to have it started.

mod api;
mod container_flags;
mod containers;
mod copy;
mod create;
mod credential_helper;
mod detach;
mod disk;
mod endpoints;
mod events;
mod exec;
pub mod flags;
mod foreground;
mod history;
mod image_list;
mod images;
mod info;
mod inspect;
mod lifecycle;
mod limit_flags;
mod login;
mod logs;
mod making;
mod mounts;
mod network_flags;
mod networks;
mod nouns;
mod port;
mod port_list;
mod ports;
mod prune;
mod pull;
mod refused;
mod run;
mod search;
mod stats;
mod streams;
mod table;
mod template;
mod top;
mod transfer;
pub mod units;
mod values;
mod verify;
mod volumes;

use std::collections::BTreeMap;
use std::pin::Pin;

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use api::{Api, Failed};

use crate::daemon;
use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// What every verb works with.
pub struct Context<'a> {
    /// The engine.
    pub api: Api,
    /// The person.
    pub printer: &'a Printer,
}

/// What a verb does, as a future.
type Running<'a> = Pin<Box<dyn Future<Output = Result<Code, CliError>> + 'a>>;

/// One verb.
pub struct Verb {
    /// The word that is typed.
    pub name: &'static str,
    /// Its flags and help.
    pub command: fn() -> Command,
    /// What it does.
    pub run: for<'a> fn(&'a Context<'a>, &'a ArgMatches) -> Running<'a>,
}

fn verbs() -> impl Iterator<Item = &'static Verb> {
    let tables: [&'static [Verb]; 20] = [
        run::VERBS,
        exec::VERBS,
        containers::VERBS,
        copy::VERBS,
        making::VERBS,
        history::VERBS,
        top::VERBS,
        port::VERBS,
        stats::VERBS,
        logs::VERBS,
        lifecycle::VERBS,
        inspect::VERBS,
        images::VERBS,
        search::VERBS,
        transfer::VERBS,
        nouns::VERBS,
        volumes::VERBS,
        events::VERBS,
        info::VERBS,
        login::VERBS,
    ];
    tables.into_iter().flatten()
}

/// The verbs' part of the command line.
pub fn commands() -> Vec<Command> {
    verbs()
        .map(|verb| (verb.command)().max_term_width(100))
        .collect()
}

/// The words of docker's below `system`, which has some of ours as well.
pub fn system_commands() -> impl Iterator<Item = Command> {
    nouns::system_commands().map(|command| command.max_term_width(100))
}

/// The verb that such a word means.
pub fn system_verb(word: &str) -> Option<&'static str> {
    nouns::verb_of("system", word)
}

/// Runs a verb, starting the daemon where it does not run.
pub fn run(name: &str, arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    let Some(verb) = nouns::find(name) else {
        return Err(CliError::usage(format!(
            "there is no command `lighter {name}`"
        )));
    };
    let paths = daemon::paths()?;
    let runtime = daemon::runtime()?;
    let outcome = runtime.block_on(async {
        let socket = daemon::ensure(&paths).await?;
        let context = Context {
            api: Api::new(socket),
            printer,
        };
        (verb.run)(&context, arguments).await
    });
    // Nothing that is still under way (a terminal's next key) matters any more.
    runtime.shutdown_background();
    outcome
}

/// A flag that does not exist, or that docker has and we do not honour; `words` are the command
/// line's.
pub fn unknown_flag(flag: &str, words: &[String]) -> CliError {
    let plain = |at: usize| {
        let word = words.get(at).filter(|word| !word.starts_with('-'));
        word.map_or("", String::as_str)
    };
    let (typed, below) = (plain(0), plain(1));
    let named = nouns::verb_of(typed, below);
    let verb = named.unwrap_or(typed);
    if refused::is_dockers(verb, flag) {
        let help = match (typed, named) {
            ("", _) => "lighter --help".to_owned(),
            (noun, Some(_)) => format!("lighter {noun} {below} --help"),
            (verb, None) => format!("lighter {verb} --help"),
        };
        return CliError::usage(format!(
            "the flag `{flag}` of docker is not supported by lighter"
        ))
        .with_hint(format!("leave it out; `{help}` shows what there is"));
    }
    let Some(name) = flag.strip_prefix("--") else {
        let letter = flag.trim_start_matches('-');
        // What is left of a cluster of letters from this one on.
        let rest = |word: &String| {
            let cluster = word
                .strip_prefix('-')
                .filter(|rest| !rest.starts_with('-'))?;
            cluster.find(letter).map(|at| cluster[at..].to_owned())
        };
        let rest = words.iter().find_map(rest);
        let rest = rest.unwrap_or_else(|| letter.to_owned());
        return CliError::usage(format!("unknown shorthand flag: '{letter}' in -{rest}"));
    };
    let error = CliError::usage(format!("unknown flag: {flag}"));
    let known = crate::cli();
    let known = known.find_subcommand(verb).map(long_names);
    let known = known.unwrap_or_default();
    match lighter_platform::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => error.with_hint(format!("did you mean `--{near}`?")),
        None => error,
    }
}

/// The long names of a command's flags, and of those below it.
fn long_names(command: &Command) -> Vec<String> {
    let own = command
        .get_arguments()
        .filter_map(|arg| arg.get_long().map(str::to_owned));
    let below = command.get_subcommands().flat_map(long_names);
    own.chain(below).collect()
}

/// One name that must be given.
fn target(word: &'static str) -> Arg {
    Arg::new("target").required(true).value_name(word)
}

/// Names of which one must be given.
fn targets(word: &'static str) -> Arg {
    Arg::new("targets")
        .required(true)
        .num_args(1..)
        .value_name(word)
}

/// Does something to each of the names and prints those for which it was done.
async fn each<F, W>(context: &Context<'_>, names: &[String], work: F) -> Result<Code, CliError>
where
    F: Fn(String) -> W,
    W: Future<Output = Result<Value, Failed>>,
{
    let mut code = Code::OK;
    for name in names {
        match work(name.clone()).await {
            Ok(_) => context.printer.line(name),
            Err(error) if is_skipped(&error) => {}
            Err(error) => {
                context.printer.error(&error.into());
                code = Code::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Stands for work that was not needed, and of which no name is printed.
fn skipped() -> Failed {
    Failed::Link(CliError::new(String::new()))
}

fn is_skipped(error: &Failed) -> bool {
    matches!(error, Failed::Link(error) if error.message.is_empty())
}

/// `--filter name=value`, in the form of the API.
fn filters(all: &[String]) -> Result<String, CliError> {
    let mut sorted: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for text in all {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            CliError::usage(format!(
                "invalid argument {text:?} for \"-f, --filter\" flag: bad format of filter \
                 (expected name=value)"
            ))
        })?;
        let name = name.trim().to_ascii_lowercase();
        sorted
            .entry(name)
            .or_default()
            .insert(value.trim().to_owned(), true);
    }
    Ok(if sorted.is_empty() {
        String::new()
    } else {
        json!(sorted).to_string()
    })
}

/// Labels in one text.
fn labels(labels: &Value) -> String {
    let all: BTreeMap<&String, &Value> = labels.as_object().into_iter().flatten().collect();
    let parts = all
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
    parts.collect::<Vec<_>>().join(",")
}

/// Seconds since 1970.
fn now_unix() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_have_the_form_of_the_api() {
        let all = ["label=a=b", "status=exited", "status=running"].map(str::to_owned);
        let expected = r#"{"label":{"a=b":true},"status":{"exited":true,"running":true}}"#;
        assert_eq!(filters(&all).unwrap(), expected);
        assert_eq!(filters(&[]).unwrap(), "");
        assert!(filters(&["x".to_owned()]).is_err());
    }

    #[test]
    fn dockers_flags_are_refused_by_name_and_others_with_the_nearest() {
        let unknown = |flag: &str, line: &[&str]| {
            let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
            unknown_flag(flag, &words)
        };
        let gpus = unknown("--gpus", &["run", "--gpus"]);
        assert!(gpus.message.contains("`--gpus` of docker"));
        let host = unknown("-H", &["-H", "tcp://x"]);
        assert!(host.message.contains("`-H` of docker"));
        let error = unknown("--memroy", &["run", "--memroy"]);
        assert_eq!(error.message, "unknown flag: --memroy");
        assert_eq!(error.hint.as_deref(), Some("did you mean `--memory`?"));
        let host = unknown("--gpus", &["container", "run", "--gpus"]);
        assert!(host.message.contains("`--gpus` of docker"));
        assert!(
            host.hint
                .unwrap()
                .contains("`lighter container run --help`")
        );
        let error = unknown("--memroy", &["container", "run", "--memroy"]);
        assert_eq!(error.hint.as_deref(), Some("did you mean `--memory`?"));
        // Not a flag of that verb, in docker neither.
        let error = unknown("--gpus", &["ps", "--gpus"]);
        assert_eq!(error.message, "unknown flag: --gpus");
        let error = unknown("-z", &["ps", "-aqz"]);
        assert_eq!(error.message, "unknown shorthand flag: 'z' in -z");
    }
}
