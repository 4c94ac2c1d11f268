//! `lighter config get|set|unset|list`: the settings file.

use clap::{Arg, ArgAction, ArgMatches, Command};
use lighter_daemon::control::Request;
use lighter_daemon::control::client::Conversation;
use lighter_daemon::settings::{self, Change, Effect, KEYS, SettingsError};
use lighter_platform::HostPaths;

use crate::daemon;
use crate::docker::flags::texts;
use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// Its part of the command line.
pub fn command() -> Command {
    let key = || {
        Arg::new("key")
            .required(true)
            .value_name("KEY")
            .help("Name of the setting")
    };
    Command::new("config")
        .about("Read and change the settings")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("get").about("Print one setting").arg(key()))
        .subcommand(
            Command::new("set")
                .about("Change settings; several that only fit each other at once")
                .arg(
                    Arg::new("pairs")
                        .required(true)
                        .num_args(1..)
                        .value_names(["KEY", "VALUE"])
                        .help(
                            "Name of a setting and its new value; commas separate the parts of a list",
                        ),
                ),
        )
        .subcommand(
            Command::new("unset")
                .about("Take settings out of the file, so that their defaults count")
                .arg(key().num_args(1..).action(ArgAction::Append)),
        )
        .subcommand(Command::new("list").about("Print all settings, with what each is for"))
}

/// Reads or changes settings.
pub fn run(arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    let paths = daemon::paths()?;
    let text = |arguments: &ArgMatches, name: &str| {
        arguments
            .get_one::<String>(name)
            .cloned()
            .unwrap_or_default()
    };
    match arguments.subcommand() {
        Some(("get", arguments)) => {
            let value = settings::get(&paths.config_file(), &text(arguments, "key"));
            let value = value.map_err(|error| settings_error(&error))?;
            printer.line(&value.unwrap_or_default());
        }
        Some(("set", arguments)) => {
            let words: Vec<String> = texts(arguments, "pairs");
            let pairs = words.chunks(2).map(|pair| match pair {
                [name, value] => Ok(Change {
                    name,
                    value: Some(value),
                }),
                _ => Err(CliError::new(format!("`{}` has no value", pair.concat()))),
            });
            let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
            change(&paths, &pairs, printer)?;
        }
        Some(("unset", arguments)) => {
            let names = texts(arguments, "key");
            let none = names.iter().map(|name| Change { name, value: None });
            change(&paths, &none.collect::<Vec<_>>(), printer)?;
        }
        _ => list(&paths, printer)?,
    }
    Ok(Code::OK)
}

fn settings_error(error: &SettingsError) -> CliError {
    CliError::of(error).with_hint(error.hint())
}

fn change(paths: &HostPaths, changes: &[Change<'_>], printer: &Printer) -> Result<(), CliError> {
    let keys = settings::change(&paths.config_file(), changes);
    let keys = keys.map_err(|error| settings_error(&error))?;
    let running = daemon::runtime()?.block_on(async {
        match Conversation::start(&paths.control_socket(), &Request::Reload).await {
            // A daemon that runs takes up what takes effect at once.
            Ok(mut conversation) => daemon::follow(&mut conversation, printer)
                .await
                .map(|()| true),
            Err(_) => Ok(false),
        }
    })?;
    let later = keys.iter().filter(|key| key.effect == Effect::NextStart);
    let later: Vec<String> = later.map(|key| format!("`{}`", key.name)).collect();
    if running && !later.is_empty() {
        let takes = if later.len() == 1 { "takes" } else { "take" };
        printer.talk(&format!(
            "{} {takes} effect when the machine starts again: `lighter down`, then `lighter up`",
            later.join(" and ")
        ));
    }
    Ok(())
}

fn list(paths: &HostPaths, printer: &Printer) -> Result<(), CliError> {
    printer.line(&format!("# {}", paths.config_file().display()));
    for key in KEYS {
        let value = settings::get(&paths.config_file(), key.name);
        let value = value.map_err(|error| settings_error(&error))?;
        let effect = match key.effect {
            Effect::AtOnce => "at once",
            Effect::NextStart => "restart",
        };
        let shown = value.filter(|value| !value.is_empty());
        // A list is what people show to others; `get` gives the password.
        let shown = match key.name.ends_with("-proxy") {
            true => shown.map(|value| settings::masked(&value)),
            false => shown,
        };
        printer.line(&format!(
            "{:<32}{:<16}{effect:<9}{}",
            key.name,
            shown.as_deref().unwrap_or("-"),
            key.doc
        ));
    }
    Ok(())
}
