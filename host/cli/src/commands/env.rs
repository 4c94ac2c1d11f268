//! `lighter env`: how a shell points programs at the socket.

use clap::{ArgMatches, Command};

use crate::daemon;
use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// Its part of the command line.
pub fn command() -> Command {
    Command::new("env").about("Print DOCKER_HOST for SDKs and tools: eval \"$(lighter env)\"")
}

/// Prints one line for a shell.
pub fn run(_arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    let paths = daemon::paths()?;
    let host = super::context::endpoint(&paths);
    printer.line(&format!(
        "export DOCKER_HOST='{}'",
        host.replace('\'', "'\\''")
    ));
    Ok(Code::OK)
}
