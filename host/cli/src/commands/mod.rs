//! Our own nouns and verbs, one file each.

mod completion;
mod config;
mod context;
mod doctor;
mod down;
mod env;
mod service;
mod status;
mod system;
mod up;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// One command: its name, its part of the command line, and what it does.
pub struct Entry {
    /// The word that is typed.
    pub name: &'static str,
    /// Its flags and help.
    pub command: fn() -> Command,
    /// What it does.
    pub run: fn(&ArgMatches, &Printer) -> Result<Code, CliError>,
}

/// All of them, in the order help shows.
pub fn all() -> &'static [Entry] {
    &[
        Entry {
            name: "up",
            command: up::command,
            run: up::run,
        },
        Entry {
            name: "down",
            command: down::command,
            run: down::run,
        },
        Entry {
            name: "status",
            command: status::command,
            run: status::run,
        },
        Entry {
            name: "config",
            command: config::command,
            run: config::run,
        },
        Entry {
            name: "doctor",
            command: doctor::command,
            run: doctor::run,
        },
        Entry {
            name: "env",
            command: env::command,
            run: env::run,
        },
        Entry {
            name: "context",
            command: context::command,
            run: context::run,
        },
        Entry {
            name: "service",
            command: service::command,
            run: service::run,
        },
        Entry {
            name: "system",
            command: system::command,
            run: system::run,
        },
        Entry {
            name: "completion",
            command: completion::command,
            run: completion::run,
        },
    ]
}

/// The other processes of the product, started by it and not by people.
pub fn hidden() -> Vec<Command> {
    let notify = Arg::new("notify").long("notify").action(ArgAction::SetTrue);
    vec![
        Command::new("daemon").hide(true).arg(notify),
        Command::new("machine").hide(true),
        Command::new("files").hide(true),
        Command::new("net").hide(true),
    ]
}

/// Becomes one of the other processes, if that is what was asked for.
pub fn run_hidden(name: &str, arguments: &ArgMatches) -> Option<Code> {
    let ended = match name {
        "daemon" => lighter_daemon::main(arguments.get_flag("notify")),
        "machine" => lighter_machine::process_main(),
        "files" => lighter_files::process_main(),
        "net" => lighter_net::process_main(),
        _ => return None,
    };
    // `ExitCode` does not tell its number; these processes only ever succeed or fail.
    let failed = ended != std::process::ExitCode::SUCCESS;
    Some(if failed { Code::FAILURE } else { Code::OK })
}
