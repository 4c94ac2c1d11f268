//! `lighter status`: how things are. Starts nothing.

use clap::{Arg, ArgMatches, Command};
use lighter_daemon::control::Status;
use serde_json::json;

use crate::daemon;
use crate::docker::units;
use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// Its part of the command line.
pub fn command() -> Command {
    Command::new("status")
        .about("Show how the virtual machine and the daemon are")
        .arg(
            Arg::new("format")
                .long("format")
                .value_parser(["json"])
                .help("Print one JSON object instead of text"),
        )
}

/// Prints it; the code tells a script whether the machine can be used.
pub fn run(arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    let paths = daemon::paths()?;
    let status = daemon::runtime()?.block_on(daemon::status(&paths))?;
    let json = arguments.get_one::<String>("format").is_some();
    match &status {
        Some(status) if json => {
            let text = serde_json::to_string(status).map_err(|error| CliError::of(&error))?;
            printer.line(&text);
        }
        None if json => printer.line(&json!({ "machine": { "state": "off" } }).to_string()),
        Some(status) => printer.data(&text(status)),
        None => printer.line("machine   off (the daemon is not running)"),
    }
    let ready = status.is_some_and(|status| status.machine.state == "ready");
    Ok(if ready { Code::OK } else { Code::FAILURE })
}

fn text(status: &Status) -> String {
    let machine = &status.machine;
    let mut lines = Vec::new();
    let mut add = |name: &str, value: String| lines.push(format!("{name:<10}{value}\n"));
    let detail = machine
        .detail
        .as_ref()
        .map(|detail| format!(": {detail}"))
        .unwrap_or_default();
    let uptime = machine
        .uptime_ms
        .map(|ms| format!(" for {}", units::duration(ms / 1000).to_lowercase()))
        .unwrap_or_default();
    add("machine", format!("{}{uptime}{detail}", machine.state));
    if let Some(backend) = &machine.backend {
        let how = machine.accelerator.as_deref().unwrap_or("unknown");
        add(
            "backend",
            format!("{backend}, {how}, pid {}", machine.pid.unwrap_or(0)),
        );
    }
    if let Some(kernel) = &machine.kernel {
        add(
            "guest",
            format!(
                "Linux {kernel}, agent {}",
                machine.agent.as_deref().unwrap_or("?")
            ),
        );
    }
    if let Some(ms) = machine.boot_ms {
        add("boot", format!("{ms} ms"));
    }
    if let (Some(used), Some(total)) = (machine.memory_used, machine.memory_total) {
        add(
            "memory",
            format!(
                "{} of {}",
                units::binary_size(used),
                units::binary_size(total)
            ),
        );
    }
    if let (Some(used), Some(total)) = (machine.disk_used, machine.disk_total) {
        add(
            "disk",
            format!(
                "{} of {}",
                units::binary_size(used),
                units::binary_size(total)
            ),
        );
    }
    add("daemon", format!("{}, pid {}", status.version, status.pid));
    add("socket", status.docker_socket.display().to_string());
    add(
        "dialled",
        format!("{} open, {} in all", status.dials_open, status.dials_total),
    );
    for dial in &status.dials {
        add("", dial.clone());
    }
    add("ports", format!("{} published", status.ports_published));
    for refused in &status.ports_refused {
        add("refused", refused.to_string());
    }
    let proxies = &status.proxies;
    for (name, value) in [
        ("http", &proxies.http_proxy),
        ("https", &proxies.https_proxy),
        ("none for", &proxies.no_proxy),
    ] {
        if !value.is_empty() {
            add("proxy", format!("{name} {value}"));
        }
    }
    for (index, share) in status.shares.iter().enumerate() {
        add(if index == 0 { "shares" } else { "" }, share.clone());
    }
    lines.concat()
}
