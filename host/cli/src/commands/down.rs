//! `lighter down`: ends containers, machine and daemon.

use clap::{Arg, ArgAction, ArgMatches, Command};
use lighter_daemon::control::Request;
use lighter_daemon::control::client::{ClientError, Conversation};
use lighter_platform::{FileLock, HostPaths};

use crate::daemon;
use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// Its part of the command line.
pub fn command() -> Command {
    Command::new("down")
        .about("Stop the containers, the virtual machine and the daemon")
        .arg(
            Arg::new("force")
                .long("force")
                .action(ArgAction::SetTrue)
                .help("End the machine at once, without stopping containers first"),
        )
}

/// Ends everything of this installation.
pub fn run(arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    let paths = daemon::paths()?;
    let request = Request::Down {
        force: arguments.get_flag("force"),
    };
    daemon::runtime()?.block_on(async {
        let conversation = match Conversation::start(&paths.control_socket(), &request).await {
            Ok(conversation) => Some(conversation),
            // The machine outlives a daemon that crashed: a new one is needed to end it in order.
            Err(ClientError::NotRunning | ClientError::Ended) if machine_runs(&paths) => {
                Some(daemon::ask(&paths, &request).await?)
            }
            Err(ClientError::NotRunning | ClientError::Ended) => None,
            Err(error) => return Err(daemon::client_error(&error)),
        };
        match conversation {
            Some(mut conversation) => {
                printer.passing("stopping containers and the virtual machine …");
                daemon::follow(&mut conversation, printer).await?;
                printer.talk("lighter is down");
            }
            None => {
                lighter_daemon::forget_killed(&paths).await;
                printer.talk("lighter was not up");
            }
        }
        Ok(Code::OK)
    })
}

fn machine_runs(paths: &HostPaths) -> bool {
    FileLock::is_held(&paths.machine_lock())
}
