//! `lighter doctor`: what this host lacks, what is in the way, and what the last failure was. Each
//! with the next step. Changes nothing.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use lighter_daemon::settings::Settings;
use lighter_daemon::vm::prepare::NO_IMAGE;
use lighter_platform::dir::random_suffix;
use lighter_platform::{FileLock, HostPaths, sys};

use super::context;
use crate::daemon;
use crate::docker::units;
use crate::exit::{CliError, Code, words};
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

/// What a check found.
enum Found {
    /// All is well, in words.
    Ok(String),
    /// Nothing is broken; this could be better, and so.
    Note(String, String),
    /// This stops Lighter.
    Fail(CliError),
}

impl From<Result<String, CliError>> for Found {
    fn from(result: Result<String, CliError>) -> Self {
        match result {
            Ok(text) => Self::Ok(text),
            Err(error) => Self::Fail(error),
        }
    }
}

/// Prints one line a check; fails if one did.
pub fn run(arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    let paths = daemon::paths()?;
    if arguments.get_flag("console") {
        return console(&paths, printer);
    }
    // Settings that cannot be read have a line of their own below.
    let asked = Settings::load(&paths.config_file()).map(|settings| settings.backend);
    let host = lighter_machine::check_host(asked.unwrap_or_default());
    let backend = host
        .backend
        .map_err(|error| with_hint(CliError::of(&error), error.hint()));
    let checks: [(&str, Found); 11] = [
        ("monitor", backend.into()),
        ("speed", speed(host.slow_because)),
        ("folders", folders(&paths).into()),
        ("space", space(&paths.data)),
        ("settings", settings(&paths).into()),
        ("image", image(&paths.image_dir(), &paths).into()),
        ("disk", disk(&paths).into()),
        ("locks", locks(&paths)),
        ("machine", machine(&paths).into()),
        ("ports", ports(&paths)),
        ("context", context(&paths)),
    ];
    let mut code = Code::OK;
    for (name, found) in checks {
        let (mark, text, hint) = match found {
            Found::Ok(text) => ("ok", text, None),
            Found::Note(text, hint) => ("note", text, Some(hint)),
            Found::Fail(error) => {
                code = Code::FAILURE;
                ("FAIL", error.message, error.hint)
            }
        };
        printer.line(&format!("{mark:<6}{name:<12}{text}"));
        if let Some(hint) = hint {
            printer.line(&format!("      {:<12}hint: {hint}", ""));
        }
    }
    let log = paths.daemon_log();
    printer.line(&format!("{:<6}{:<12}{}", "log", "daemon", log.display()));
    Ok(code)
}

/// What the guest wrote: for eyes without its control sequences, for a file as it is.
fn console(paths: &HostPaths, printer: &Printer) -> Result<Code, CliError> {
    let path = paths.console_log();
    let bytes = std::fs::read(&path).map_err(|error| {
        CliError::new(format!(
            "cannot read `{}`: {}",
            path.display(),
            words(&error)
        ))
        .with_hint("there is one as soon as a machine was started: `lighter up`")
    })?;
    if printer.out_is_terminal {
        printer.data(&String::from_utf8_lossy(&bytes));
    } else {
        printer.bytes(&bytes);
    }
    Ok(Code::OK)
}

fn with_hint(error: CliError, hint: Option<&str>) -> CliError {
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn speed(slow_because: Option<String>) -> Found {
    match slow_because {
        None => Found::Ok("the processor runs the machine (KVM)".to_owned()),
        Some(why) => Found::Note(
            "the machine is translated in software, which works and is slower".to_owned(),
            why,
        ),
    }
}

/// Whether each folder, or the one it would be made in, can be written to.
fn folders(paths: &HostPaths) -> Result<String, CliError> {
    for dir in [&paths.run, &paths.data, &paths.cache, &paths.config] {
        if let Ok(found) = std::fs::symlink_metadata(dir) {
            let wrong = if found.is_dir() {
                sys::foreign_owner(&found).map(|owner| format!("belongs to user {owner}"))
            } else {
                Some("is not a folder of its own (it is a link or a file)".to_owned())
            };
            if let Some(wrong) = wrong {
                return Err(CliError::new(format!("`{}` {wrong}", dir.display()))
                    .with_hint("move it away, or set `LIGHTER_HOME` to a folder of your own"));
            }
        }
        let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(dir);
        try_to_write(there).map_err(|error| {
            CliError::new(format!(
                "cannot write to `{}`: {}",
                there.display(),
                words(&error)
            ))
            .with_hint("make it writable for this user, or set `LIGHTER_HOME` to a folder that is")
        })?;
    }
    Ok(format!("{}, {}", paths.data.display(), paths.run.display()))
}

fn try_to_write(dir: &Path) -> std::io::Result<()> {
    use std::io::Write;
    let probe = dir.join(format!(".lighter-doctor.{}", random_suffix()));
    let written = sys::create_private_file(&probe).and_then(|mut file| file.write_all(b"x"));
    let removed = std::fs::remove_file(&probe);
    written.and(removed)
}

/// Below this a pull of an ordinary image fills the disk.
const LITTLE_SPACE: u64 = 2 << 30;
/// Below this not even a machine comes up.
const NO_SPACE: u64 = 64 << 20;

fn space(data: &Path) -> Found {
    let there = data.ancestors().find(|dir| dir.is_dir()).unwrap_or(data);
    let free = match sys::free_bytes(there) {
        Ok(free) => free,
        Err(error) => {
            let text = format!("cannot ask for the free space of `{}`", there.display());
            return Found::Note(text, words(&error));
        }
    };
    let text = format!("{} free at `{}`", units::binary_size(free), there.display());
    let hint = "make room there, or set `LIGHTER_HOME` to a folder on a larger disk";
    match free {
        ..NO_SPACE => Found::Fail(CliError::new(text).with_hint(hint)),
        NO_SPACE..LITTLE_SPACE => Found::Note(text, hint.to_owned()),
        _ => Found::Ok(text),
    }
}

fn settings(paths: &HostPaths) -> Result<String, CliError> {
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

fn image(dir: &Path, paths: &HostPaths) -> Result<String, CliError> {
    let kernel: &[&str] = &["vmlinux", "vmlinux.zst"];
    let initramfs: &[&str] = &["initramfs.cpio", "initramfs.cpio.zst"];
    let template: &[&str] = &["data-disk.sparse"];
    let needed = [kernel, initramfs, template];
    let needed = needed
        .iter()
        .take(if paths.disk_image().exists() { 2 } else { 3 });
    for names in needed {
        if !names.iter().any(|name| dir.join(name).is_file()) {
            let missing = dir.join(names[names.len() - 1]);
            return Err(
                CliError::new(format!("`{}` is missing", missing.display())).with_hint(NO_IMAGE)
            );
        }
    }
    Ok(dir.display().to_string())
}

fn disk(paths: &HostPaths) -> Result<String, CliError> {
    let disk = paths.disk_image();
    let Ok(facts) = std::fs::metadata(&disk) else {
        return Ok("none yet: the first start makes it".to_owned());
    };
    let shown = disk.display();
    if !facts.is_file() {
        return Err(CliError::new(format!("`{shown}` is no file"))
            .with_hint("move it away: the data disk is made anew in its place"));
    }
    if !paths.machine_id().exists() {
        let text = format!("the file `machine-id` that belongs to `{shown}` is missing");
        return Err(CliError::new(text).with_hint(
            "bring it back beside the disk, or move the disk away to start with an empty one",
        ));
    }
    let taken = units::binary_size(sys::allocated_bytes(&facts));
    Ok(format!(
        "{taken} of {} taken: `{shown}`",
        units::binary_size(facts.len())
    ))
}

/// Locks go with their holders: a file that is left is in nobody's way. A machine without a daemon
/// is worth knowing.
fn locks(paths: &HostPaths) -> Found {
    let (daemon, machine) = (
        FileLock::is_held(&paths.daemon_lock()),
        FileLock::is_held(&paths.machine_lock()),
    );
    match (daemon, machine) {
        (true, true) => Found::Ok("held by a daemon and its machine".to_owned()),
        (true, false) => Found::Ok("held by a daemon without a machine".to_owned()),
        (false, true) => Found::Note(
            "a machine runs on without its daemon, which was ended".to_owned(),
            "any command takes it over; `lighter down` ends it".to_owned(),
        ),
        (false, false) if paths.daemon_lock().exists() => {
            Found::Ok("not held (the files of an earlier daemon stop nobody)".to_owned())
        }
        (false, false) => Found::Ok("not held".to_owned()),
    }
}

fn machine(paths: &HostPaths) -> Result<String, CliError> {
    let status = daemon::runtime()?.block_on(daemon::status(paths))?;
    match status {
        None => Ok("off (the daemon is not running)".to_owned()),
        Some(status) if ["failed", "waiting"].contains(&status.machine.state.as_str()) => {
            let detail = status.machine.detail.unwrap_or_default();
            match detail.split_once("\nhint: ") {
                Some((message, hint)) => Err(CliError::new(message).with_hint(hint)),
                None => Err(CliError::new(detail).with_hint("try again with `lighter up`")),
            }
        }
        Some(status) => Ok(status.machine.state),
    }
}

/// What containers listen on and nobody of this host reaches.
fn ports(paths: &HostPaths) -> Found {
    let status = daemon::runtime().and_then(|runtime| runtime.block_on(daemon::status(paths)));
    let status = match status {
        Ok(Some(status)) => status,
        Ok(None) => return Found::Ok("none published".to_owned()),
        Err(error) => return Found::Fail(error),
    };
    if status.ports_refused.is_empty() {
        return Found::Ok(format!("{} published", status.ports_published));
    }
    let refused = status.ports_refused.iter().map(ToString::to_string);
    Found::Note(
        refused.collect::<Vec<_>>().join("; "),
        "one of `--network host` that is in use is had within ten seconds of being free; for others, start the container \
         again then"
            .to_owned(),
    )
}

/// Where the docker CLI leads.
fn context(paths: &HostPaths) -> Found {
    let ours = context::endpoint(paths);
    match std::env::var("DOCKER_HOST") {
        Ok(host) if host == ours => {
            return Found::Ok("docker talks to lighter (DOCKER_HOST)".into());
        }
        Ok(host) if !host.is_empty() => {
            return Found::Note(
                format!("DOCKER_HOST leads docker to `{host}`"),
                "to point it here: `eval \"$(lighter env)\"`".to_owned(),
            );
        }
        _ => {}
    }
    match context::current(paths) {
        Ok(name) if name == context::NAME && context::leads_to(paths, &ours) => {
            Found::Ok("docker talks to lighter (context `lighter`)".to_owned())
        }
        Ok(name) if name == context::NAME => Found::Note(
            "docker's context `lighter` leads to another installation".to_owned(),
            "to point it here: `lighter context use`".to_owned(),
        ),
        Ok(name) => Found::Note(
            format!("docker's current context is `{name}`"),
            "to point it here: `lighter context use`, or for one shell `eval \"$(lighter env)\"`"
                .to_owned(),
        ),
        Err(error) => Found::Note(
            error.message,
            "correct that file, or move it away".to_owned(),
        ),
    }
}
