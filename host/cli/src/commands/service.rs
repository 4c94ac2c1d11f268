//! `lighter service install|uninstall`: the service manager of the user's session listens on the
//! sockets and starts the daemon at the first connection.

use std::path::Path;
use std::process::Command as Process;

use clap::{ArgMatches, Command};
use lighter_daemon::control::Request;
use lighter_daemon::control::client::Conversation;
use lighter_platform::service::{self, SOCKET_UNIT, Units};
use lighter_platform::{DirError, HostPaths, ensure_private_dir, write_durably};

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
    let units = service::systemd_units(&exe, &paths.docker_socket(), &paths.control_socket())
        .map_err(|error| CliError::of(&error).with_hint(error.hint()))?;
    match arguments.subcommand() {
        Some(("install", _)) => install(&paths, &dir, &units, printer)?,
        _ => uninstall(&dir, &units, printer)?,
    }
    Ok(Code::OK)
}

fn install(
    paths: &HostPaths,
    dir: &Path,
    units: &Units,
    printer: &Printer,
) -> Result<(), CliError> {
    let dir_error = |error: DirError| CliError::of(&error).with_hint(error.hint());
    ensure_private_dir(&paths.run).map_err(dir_error)?;
    std::fs::create_dir_all(dir).map_err(|source| {
        let path = dir.to_path_buf();
        dir_error(DirError::Create { path, source })
    })?;
    for (name, text) in &units.files {
        write_durably(&dir.join(name), text.as_bytes()).map_err(dir_error)?;
        printer.talk(&format!("wrote {}", dir.join(name).display()));
    }
    if let Err(said) = manager(&["daemon-reload"]) {
        printer.warning(&format!(
            "the service manager could not be reached ({said}); at your next login run \
             `systemctl --user enable --now {SOCKET_UNIT}`"
        ));
        return Ok(());
    }
    // A daemon that listens by itself makes room; its machine and containers run on, and the
    // service's daemon takes them over.
    daemon::runtime()?.block_on(async {
        match Conversation::start(&paths.control_socket(), &Request::Leave).await {
            Ok(mut conversation) => daemon::follow(&mut conversation, printer).await,
            Err(_) => Ok(()),
        }
    })?;
    manager(&["enable", "--now", SOCKET_UNIT]).map_err(|said| {
        CliError::new(format!(
            "the service manager refused `{SOCKET_UNIT}`: {said}"
        ))
        .with_hint(format!(
            "see why with `systemctl --user status {SOCKET_UNIT}`"
        ))
    })?;
    printer.talk("the service manager listens and starts lighter when it is needed");
    Ok(())
}

fn uninstall(dir: &Path, units: &Units, printer: &Printer) -> Result<(), CliError> {
    // Where there is no service manager there is nothing to stop. Else the service stops with its
    // sockets, and the machine with it.
    let reached = manager(&["disable", "--now", SOCKET_UNIT]).is_ok();
    for (name, _) in &units.files {
        match std::fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    if reached && let Err(said) = manager(&["daemon-reload"]) {
        printer.warning(&format!(
            "the service manager did not read its units again: {said}"
        ));
    }
    printer.talk("the service is not registered any more");
    Ok(())
}

/// Runs the service manager's own command; what it said if it failed.
fn manager(arguments: &[&str]) -> Result<(), String> {
    let ran = Process::new("systemctl")
        .arg("--user")
        .args(arguments)
        .output();
    match ran {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("systemctl: {error}")),
    }
}
