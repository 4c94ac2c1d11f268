//! `lighter service install|uninstall`: the service manager of the user's session listens on the
//! sockets and starts the daemon at the first connection.

use std::process::Command as Process;

use clap::{ArgMatches, Command};
use lighter_platform::service::{self, SOCKET_UNIT};
use lighter_platform::{ensure_private_dir, write_durably};

use crate::daemon;
use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// Its part of the command line.
pub fn command() -> Command {
    Command::new("service")
        .about("Register with the service manager of your session")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("install").about("Listen on the sockets from login on"))
        .subcommand(Command::new("uninstall").about("Undo what `install` did"))
}

/// Writes or removes the units, and tells the service manager.
pub fn run(arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    let dir = service::systemd_user_dir()
        .ok_or_else(|| CliError::new("the home folder of this user is unknown"))?;
    let paths = daemon::paths()?;
    let exe = std::env::current_exe()?;
    let units = service::systemd_units(&exe, &paths.docker_socket(), &paths.control_socket());
    let dir_error =
        |error: lighter_platform::DirError| CliError::of(&error).with_hint(error.hint());
    if let Some(("install", _)) = arguments.subcommand() {
        ensure_private_dir(&paths.run).map_err(dir_error)?;
        std::fs::create_dir_all(&dir)?;
        for (name, text) in &units.files {
            write_durably(&dir.join(name), text.as_bytes()).map_err(dir_error)?;
            printer.talk(&format!("wrote {}", dir.join(name).display()));
        }
        let told = manager(&["daemon-reload"]) && manager(&["enable", "--now", SOCKET_UNIT]);
        if !told {
            printer.warning(&format!(
                "the service manager could not be reached; at your next login run \
                 `systemctl --user enable --now {SOCKET_UNIT}`"
            ));
        }
    } else {
        // Where there is no service manager there is nothing to stop.
        manager(&["disable", "--now", SOCKET_UNIT]);
        for (name, _) in &units.files {
            match std::fs::remove_file(dir.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        manager(&["daemon-reload"]);
        printer.talk("the service is not registered any more");
    }
    Ok(Code::OK)
}

fn manager(arguments: &[&str]) -> bool {
    Process::new("systemctl")
        .arg("--user")
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}
