//! `lighter up`: starts the machine and waits until it can be used.

use clap::{ArgMatches, Command};

use super::context;
use crate::daemon;
use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// Its part of the command line.
pub fn command() -> Command {
    Command::new("up")
        .about("Start the virtual machine and wait until it can be used")
        .long_about(
            "Start the virtual machine and wait until it can be used.\n\nNot needed before other \
         commands: each starts the machine by itself. The folder where `up` is typed becomes one \
         that containers may be given.",
        )
}

/// Starts daemon and machine.
pub fn run(_arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    let paths = daemon::paths()?;
    let folder = std::env::current_dir().ok();
    daemon::runtime()?.block_on(async {
        daemon::up(&paths, folder, printer).await?;
        let status = daemon::status(&paths).await?;
        let took = status.and_then(|status| status.machine.boot_ms);
        let took = took.map(|ms| format!(" (booted in {}.{:02} s)", ms / 1000, ms % 1000 / 10));
        printer.talk(&format!("lighter is up{}", took.unwrap_or_default()));
        context::announce(&paths, printer).await;
        Ok(Code::OK)
    })
}
