//! The docker verbs.

pub mod units;

use clap::{ArgMatches, Command};

use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// The verbs' part of the command line.
pub fn commands() -> Vec<Command> {
    Vec::new()
}

/// Runs a verb.
pub fn run(name: &str, _arguments: &ArgMatches, _printer: &Printer) -> Result<Code, CliError> {
    Err(CliError::usage(format!(
        "there is no command `lighter {name}`"
    )))
}

/// A flag that does not exist, or that docker has and we do not honour.
pub fn unknown_flag(flag: &str, hint: Option<String>) -> CliError {
    let error = CliError::usage(format!("unknown flag: {flag}"));
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}
