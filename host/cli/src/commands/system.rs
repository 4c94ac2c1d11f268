//! `lighter system link`: the one privileged step, for programs that only know the system's
//! Docker socket. The other words of `system` are docker's, and lead there.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command as Process;

use clap::{ArgMatches, Command};
use lighter_platform::sys;

use crate::daemon;
use crate::docker;
use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// Its part of the command line.
pub fn command() -> Command {
    Command::new("system")
        .about("What concerns the whole engine, and the whole host")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("link").about(
            "Make the system's Docker socket a link to ours (asks for administrator rights)",
        ))
        .subcommand(Command::new("unlink").about("Remove that link"))
        .subcommands(docker::system_commands())
}

/// Makes or removes the link, or does what docker's word says.
pub fn run(arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    if let Some((word, below)) = arguments.subcommand()
        && let Some(verb) = docker::system_verb(word)
    {
        return docker::run(verb, below, printer);
    }
    let Some(link) = sys::SYSTEM_DOCKER_SOCKET.map(Path::new) else {
        return Err(CliError::new("this system has no place for such a link")
            .with_hint("use `lighter env` or the docker context `lighter`"));
    };
    let socket = daemon::paths()?.docker_socket();
    let ours = std::fs::read_link(link).is_ok_and(|target| target == socket);
    let make = matches!(arguments.subcommand(), Some(("link", _)));
    if make == ours {
        printer.talk(if ours {
            "the link is there already"
        } else {
            "there is no link of ours"
        });
        return Ok(Code::OK);
    }
    if make {
        refuse_if_taken(link)?;
    }
    let done = if make {
        sys::symlink(&socket, link)
    } else {
        std::fs::remove_file(link)
    };
    match done {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            with_rights(make, &socket, link)?;
        }
        Err(error) => return Err(error.into()),
    }
    let verb = if make {
        "leads to"
    } else {
        "no longer leads to"
    };
    printer.talk(&format!("{} {verb} {}", link.display(), socket.display()));
    Ok(Code::OK)
}

fn refuse_if_taken(link: &Path) -> Result<(), CliError> {
    match std::fs::symlink_metadata(link) {
        Err(_) => Ok(()),
        Ok(_) => Err(
            CliError::new(format!("`{}` is there already", link.display())).with_hint(
                "another Docker engine uses it; stop that one and remove the file first",
            ),
        ),
    }
}

fn with_rights(make: bool, socket: &Path, link: &Path) -> Result<(), CliError> {
    let mut command = Process::new("sudo");
    if make {
        command.args(["ln", "-s"]).arg(socket).arg(link);
    } else {
        command.arg("rm").arg(link);
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(
            CliError::new("the link could not be changed without administrator rights").with_hint(
                format!(
                    "as administrator: `ln -s {} {}`",
                    socket.display(),
                    link.display()
                ),
            ),
        ),
    }
}
