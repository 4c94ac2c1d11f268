//! `lighter doctor`: what this host lacks, and what the last failure was.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use lighter_daemon::settings::Settings;
use lighter_platform::{HostPaths, ensure_private_dir};

use crate::daemon;
use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// Its part of the command line.
pub fn command() -> Command {
    Command::new("doctor")
        .about("Check what Lighter needs on this host")
        .arg(
            Arg::new("console")
                .long("console")
                .action(ArgAction::SetTrue)
                .help("Print what the virtual machine's console showed"),
        )
}

type Check = Result<String, CliError>;

/// Prints one line a check; fails if one did.
pub fn run(arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    let paths = daemon::paths()?;
    if arguments.get_flag("console") {
        printer.bytes(&std::fs::read(paths.console_log())?);
        return Ok(Code::OK);
    }
    let checks: [(&str, Check); 4] = [
        ("folders", folders(&paths)),
        ("settings", settings(&paths)),
        ("image", image(&paths.image_dir())),
        ("machine", machine(&paths)),
    ];
    let mut code = Code::OK;
    for (name, check) in checks {
        match check {
            Ok(detail) => printer.line(&format!("ok    {name:<12}{detail}")),
            Err(error) => {
                code = Code::FAILURE;
                printer.line(&format!("FAIL  {name:<12}{}", error.message));
                if let Some(hint) = error.hint {
                    printer.line(&format!("      {:<12}hint: {hint}", ""));
                }
            }
        }
    }
    printer.line(&format!(
        "log   {:<12}{}",
        "daemon",
        paths.daemon_log().display()
    ));
    Ok(code)
}

fn folders(paths: &HostPaths) -> Check {
    for dir in [&paths.run, &paths.data, &paths.cache] {
        ensure_private_dir(dir).map_err(|error| CliError::of(&error).with_hint(error.hint()))?;
    }
    Ok(format!("{}, {}", paths.data.display(), paths.run.display()))
}

fn settings(paths: &HostPaths) -> Check {
    let file = paths.config_file();
    let settings =
        Settings::load(&file).map_err(|error| CliError::of(&error).with_hint(error.hint()))?;
    Ok(format!(
        "{} processors, {} MiB memory, {} disk",
        settings.effective_cpus(),
        settings.effective_memory() >> 20,
        settings.disk
    ))
}

fn image(dir: &Path) -> Check {
    for file in ["vmlinux.zst", "initramfs.cpio.zst", "data-disk.sparse"] {
        if !dir.join(file).exists() {
            let missing = dir.join(file);
            return Err(CliError::new(format!("`{}` is missing", missing.display()))
                .with_hint("install Lighter again, or build the image with `cargo xtask image`"));
        }
    }
    Ok(dir.display().to_string())
}

fn machine(paths: &HostPaths) -> Check {
    let status = daemon::runtime()?.block_on(daemon::status(paths))?;
    match status {
        None => Ok("off (the daemon is not running)".to_owned()),
        Some(status) if status.machine.state == "failed" => {
            Err(CliError::new(status.machine.detail.unwrap_or_default()))
        }
        Some(status) => Ok(status.machine.state),
    }
}
