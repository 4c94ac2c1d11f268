//! The command people type.
//!
//! Own nouns (`up`, `status`, `config`, …) live in `commands`, one file each; the docker verbs in
//! `docker`, made from one table of flags. Both are clients: of the daemon's control socket and of
//! the Docker API on its socket. The hidden subcommands are the other processes of the product.
//!
//! Data goes to standard output, talk to standard error ([`printer`]); exit codes come from one
//! place ([`exit`]).

mod commands;
mod daemon;
mod docker;
mod exit;
mod printer;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use exit::{CliError, Code};
use printer::Printer;

fn main() -> ExitCode {
    let printer = Printer::for_process();
    let code = match cli().try_get_matches() {
        Ok(matches) => run(&matches, &printer),
        Err(error) => refuse(&error, &printer),
    };
    printer.flush();
    code.into()
}

/// The whole command line.
fn cli() -> Command {
    Command::new("lighter")
        .about("Linux containers in one virtual machine that is light enough to forget")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .max_term_width(100)
        .subcommands(commands::all().iter().map(|entry| (entry.command)()))
        .subcommands(docker::commands())
        .subcommands(commands::hidden())
}

fn run(matches: &ArgMatches, printer: &Printer) -> Code {
    let Some((name, arguments)) = matches.subcommand() else {
        return Code::USAGE;
    };
    if let Some(code) = commands::run_hidden(name, arguments) {
        return code;
    }
    let outcome = match commands::all().iter().find(|entry| entry.name == name) {
        Some(entry) => (entry.run)(arguments, printer),
        None => docker::run(name, arguments, printer),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            printer.error(&error);
            error.code
        }
    }
}

/// What clap says goes where it belongs: help is data, a wrong flag is talk.
fn refuse(error: &clap::Error, printer: &Printer) -> Code {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            printer.data(&error.render().to_string());
            Code::OK
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            printer.talk(error.render().to_string().trim_end());
            Code::USAGE
        }
        _ => {
            printer.error(&usage_error(error));
            Code::USAGE
        }
    }
}

fn usage_error(error: &clap::Error) -> CliError {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(flag) = text(ContextKind::InvalidArg)
    {
        let flag = flag.split(['=', ' ']).next().unwrap_or(&flag).to_owned();
        let hint = text(ContextKind::SuggestedArg).map(|near| format!("did you mean `{near}`?"));
        return docker::unknown_flag(&flag, hint);
    }
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(name) = text(ContextKind::InvalidSubcommand)
    {
        let near = text(ContextKind::SuggestedSubcommand);
        let error = CliError::usage(format!("there is no command `lighter {name}`"));
        return error.with_hint(match near {
            Some(near) => format!("did you mean `lighter {near}`?"),
            None => "see all commands with `lighter --help`".to_owned(),
        });
    }
    let rendered = error.render().to_string();
    let body = rendered.strip_prefix("error: ").unwrap_or(&rendered);
    let (message, rest) = body.split_once("\n\n").unwrap_or((body, ""));
    let usage = rest.lines().find(|line| line.starts_with("Usage:"));
    let error = CliError::usage(message.trim().to_owned());
    match usage {
        Some(usage) => error.with_hint(usage.replacen("Usage:", "usage:", 1)),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        cli().debug_assert();
    }
}
