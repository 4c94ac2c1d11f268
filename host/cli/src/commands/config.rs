//! `lighter config get|set|list`: the settings file.

use clap::{Arg, ArgMatches, Command};
use lighter_daemon::control::Request;
use lighter_daemon::control::client::Conversation;
use lighter_daemon::settings::{self, Effect, KEYS, SettingsError};
use lighter_platform::HostPaths;

use crate::daemon;
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
                .about("Change one setting")
                .arg(key())
                .arg(
                    Arg::new("value")
                        .required(true)
                        .value_name("VALUE")
                        .allow_hyphen_values(true)
                        .help("Its new value; commas separate the parts of a list"),
                ),
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
            set(
                &paths,
                &text(arguments, "key"),
                &text(arguments, "value"),
                printer,
            )?;
        }
        _ => list(&paths, printer)?,
    }
    Ok(Code::OK)
}

fn settings_error(error: &SettingsError) -> CliError {
    CliError::of(error).with_hint(error.hint())
}

fn set(paths: &HostPaths, key: &str, value: &str, printer: &Printer) -> Result<(), CliError> {
    let key =
        settings::set(&paths.config_file(), key, value).map_err(|error| settings_error(&error))?;
    let running = daemon::runtime()?.block_on(async {
        match Conversation::start(&paths.control_socket(), &Request::Reload).await {
            // A daemon that runs takes up what takes effect at once.
            Ok(mut conversation) => daemon::follow(&mut conversation, printer)
                .await
                .map(|()| true),
            Err(_) => Ok(false),
        }
    })?;
    if running && key.effect == Effect::NextStart {
        printer.talk(&format!(
            "`{}` takes effect when the machine starts again: `lighter down`, then `lighter up`",
            key.name
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
