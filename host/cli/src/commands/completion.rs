//! `lighter completion`: what a shell needs to complete commands and flags, made from the same
//! tables as everything else.

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// Its part of the command line.
pub fn command() -> Command {
    Command::new("completion")
        .about("Print the completion script of a shell")
        .arg(
            Arg::new("shell")
                .required(true)
                .value_name("SHELL")
                .value_parser(value_parser!(Shell)),
        )
}

/// Prints it.
pub fn run(arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    let mut script = Vec::new();
    if let Some(shell) = arguments.get_one::<Shell>("shell") {
        clap_complete::generate(*shell, &mut crate::cli(), "lighter", &mut script);
    }
    printer.bytes(&script);
    Ok(Code::OK)
}
