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
            Code::FAILURE
        }
        _ => {
            let error = usage_error(error);
            printer.error(&error);
            error.code
        }
    }
}

/// Docker's words for building images.
const BUILDS: [&str; 2] = ["build", "buildx"];

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
        if !flag.starts_with('-') {
            return wrong_number();
        }
        let flag = flag.split(['=', ' ']).next().unwrap_or(&flag).to_owned();
        return docker::unknown_flag(&flag, &typed_words());
    }
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(name) = text(ContextKind::InvalidSubcommand)
    {
        let (_, above) = named();
        let cli = cli();
        let verbs = cli.get_subcommands().map(Command::get_name);
        let near = match above.as_str() {
            "lighter" => lighter_platform::nearest(&name, verbs).map(str::to_owned),
            _ => text(ContextKind::SuggestedSubcommand),
        };
        let error = CliError::new(format!("there is no command `{above} {name}`"));
        if above == "lighter" && BUILDS.contains(&&*name) {
            return error.with_hint(
                "Lighter builds no images yet: `lighter pull` and `lighter load` bring those that were built elsewhere",
            );
        }
        return error.with_hint(match near {
            Some(near) => format!("did you mean `{above} {near}`?"),
            None => format!("see all commands with `{above} --help`"),
        });
    }
    if error.kind() == ErrorKind::InvalidUtf8 {
        return not_utf8();
    }
    if matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues
    ) {
        return wrong_number();
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

/// The words of the command line, for messages: what is no text is shown as such.
fn typed_words() -> Vec<String> {
    let words = std::env::args_os().skip(1);
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// The API carries text only: bytes that are none could not reach the engine as they are.
fn not_utf8() -> CliError {
    let word = std::env::args_os().find(|word| word.to_str().is_none());
    let shown = word.unwrap_or_default().to_string_lossy().into_owned();
    CliError::usage(format!("the argument `{shown}` is not valid UTF-8"))
}

/// Names that are missing or too many: how many the command wants, in docker's words and with its
/// code.
fn wrong_number() -> CliError {
    let (command, name) = named();
    let error = CliError::new(format!("'{name}' {}", wanted(&command)));
    error.with_hint(format!("see `{name} --help`"))
}

/// The command that the command line names, as far as it names one, and its whole name.
fn named() -> (Command, String) {
    let mut command = cli();
    let mut name = String::from("lighter");
    for word in typed_words() {
        let Some(below) = command.find_subcommand(&word).cloned() else {
            break;
        };
        command = below;
        name = format!("{name} {word}");
    }
    (command, name)
}

fn wanted(command: &Command) -> String {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let all: Vec<_> = command.get_positionals().collect();
    let least = all.iter().filter(|arg| arg.is_required_set()).count();
    let many = all.iter().any(|arg| {
        arg.get_num_args()
            .is_some_and(|count| count.max_values() > 1)
    });
    match (least, all.len(), many) {
        (0, 0, _) => "accepts no arguments".to_owned(),
        (least, _, true) => format!("requires at least {least} argument{}", plural(least)),
        (least, most, _) if least == most => {
            format!("requires {least} argument{}", plural(least))
        }
        (0, most, _) => format!("requires at most {most} argument{}", plural(most)),
        (least, most, _) => {
            format!(
                "requires at least {least} and at most {most} argument{}",
                plural(most)
            )
        }
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
