//! Flags as data: one row makes the help, the parsing, the completion and the field of the
//! request.
//!
//! A row with a field is put into the request by [`fill`]; a row without one is read by its verb.
//! Flags that docker has and we do not honour are rows of [`super::refused`], so that they are
//! refused by name and not taken for a slip of the keyboard. A value that is wrong is refused in
//! docker's words.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use crate::exit::CliError;

use super::values;

/// How a value is written and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Given or not: `true`.
    Switch,
    /// Text as it is.
    Text,
    /// A whole number.
    Int,
    /// A size such as `512m`; `-1` where docker knows it.
    Bytes,
    /// Processors with fractions, as billionths.
    Cpus,
    /// A span such as `1m30s`, in billionths of seconds.
    Duration,
    /// May be given often: a list.
    List,
    /// May be given often: `name=value`, as an object.
    Pairs,
    /// May be given often: `name=soft[:hard]`.
    Ulimit,
    /// May be given often: `path[:options]`, as an object.
    Tmpfs,
    /// May be given often: `host[:container[:permissions]]`.
    Device,
    /// May be given often: `device:amount a second`.
    Rate,
    /// `policy[:count]`.
    Restart,
}

impl Kind {
    /// The word that stands for the value in help, as docker names it.
    fn word(self) -> &'static str {
        match self {
            Self::Switch => "",
            Self::Text | Self::Restart => "string",
            Self::Int => "int",
            Self::Bytes => "bytes",
            Self::Cpus => "decimal",
            Self::Duration => "duration",
            Self::Pairs => "map",
            Self::Ulimit => "ulimit",
            Self::List | Self::Tmpfs | Self::Device | Self::Rate => "list",
        }
    }

    fn repeats(self) -> bool {
        matches!(
            self,
            Self::List | Self::Pairs | Self::Ulimit | Self::Tmpfs | Self::Device | Self::Rate
        )
    }
}

/// One flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its long name.
    pub long: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// What its value is.
    pub kind: Kind,
    /// Where it goes in the request; empty for those the verb reads itself.
    pub field: &'static str,
    /// What it is for.
    pub help: &'static str,
}

impl Flag {
    /// The error about a value, in docker's words.
    pub fn wrong(&self, value: &str, what: &str) -> CliError {
        let name = match self.short {
            Some(letter) => format!("-{letter}, --{}", self.long),
            None => format!("--{}", self.long),
        };
        CliError::usage(format!(
            "invalid argument {value:?} for \"{name}\" flag: {what}"
        ))
    }
}

/// A row of a table.
pub const fn flag(
    long: &'static str,
    short: Option<char>,
    kind: Kind,
    field: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        long,
        short,
        kind,
        field,
        help,
    }
}

/// Adds the rows of a table to a command.
pub fn with_flags(command: Command, table: &'static [Flag]) -> Command {
    command.args(table.iter().map(argument))
}

fn argument(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.long).long(flag.long).help(flag.help);
    let arg = match flag.short {
        Some(letter) => arg.short(letter),
        None => arg,
    };
    match flag.kind {
        // `--rm` and `--rm=false`, but never `--rm false`; the last one counts.
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(clap::builder::BoolishValueParser::new())
            .hide_possible_values(true)
            .value_name("bool")
            .action(ArgAction::Set)
            .overrides_with(flag.long),
        kind if kind.repeats() => arg
            .value_name(kind.word())
            .action(ArgAction::Append)
            .num_args(1)
            .allow_hyphen_values(true),
        kind => arg
            .value_name(kind.word())
            .action(ArgAction::Set)
            .num_args(1)
            .allow_hyphen_values(true)
            .overrides_with(flag.long),
    }
}

/// A whole number, or what is wrong with it in docker's words.
fn whole(text: &str) -> Result<i64, String> {
    values::go::number(text).map_err(|why| format!("strconv.ParseInt: parsing {text:?}: {why}"))
}

/// The whole number of a flag, if it was given.
pub fn number(arguments: &ArgMatches, table: &[Flag], name: &str) -> Result<Option<i64>, CliError> {
    let Some(text) = text(arguments, name) else {
        return Ok(None);
    };
    match (whole(&text), table.iter().find(|flag| flag.long == name)) {
        (Ok(number), _) => Ok(Some(number)),
        (Err(what), Some(flag)) => Err(flag.wrong(&text, &what)),
        (Err(what), None) => Err(CliError::usage(what)),
    }
}

/// The switch's state.
pub fn is_set(arguments: &ArgMatches, name: &str) -> bool {
    arguments.get_one::<bool>(name).copied().unwrap_or(false)
}

/// The switch's state, if it was given.
pub fn switch(arguments: &ArgMatches, name: &str) -> Option<bool> {
    arguments.get_one::<bool>(name).copied()
}

/// The text of a flag or positional, if it was given.
pub fn text(arguments: &ArgMatches, name: &str) -> Option<String> {
    arguments.get_one::<String>(name).cloned()
}

/// All texts of a flag or positional.
pub fn texts(arguments: &ArgMatches, name: &str) -> Vec<String> {
    arguments
        .get_many::<String>(name)
        .map(|all| all.cloned().collect())
        .unwrap_or_default()
}

/// Puts every given flag that has a field into the request.
pub fn fill(request: &mut Value, table: &[Flag], arguments: &ArgMatches) -> Result<(), CliError> {
    for flag in table.iter().filter(|flag| !flag.field.is_empty()) {
        if arguments.value_source(flag.long).is_some() {
            let value = value_of(flag, arguments)?;
            put(request, flag.field, value);
        }
    }
    Ok(())
}

fn value_of(flag: &Flag, arguments: &ArgMatches) -> Result<Value, CliError> {
    if flag.kind == Kind::Switch {
        return Ok(json!(is_set(arguments, flag.long)));
    }
    if flag.kind.repeats() {
        return list_of(flag, &texts(arguments, flag.long));
    }
    let text = text(arguments, flag.long).unwrap_or_default();
    let wrong = |what: &str| flag.wrong(&text, what);
    Ok(match flag.kind {
        Kind::Int => json!(whole(&text).map_err(|what| wrong(&what))?),
        Kind::Bytes if text == "-1" => json!(-1),
        Kind::Bytes => json!(values::bytes(&text).map_err(|error| wrong(&error))?),
        Kind::Cpus => json!(values::nano_cpus(&text).map_err(|error| wrong(&error))?),
        Kind::Duration => json!(values::go_span(&text).map_err(|error| wrong(&error))?),
        Kind::Restart => values::restart(&text).map_err(|error| wrong(&error))?,
        _ => json!(text),
    })
}

fn list_of(flag: &Flag, all: &[String]) -> Result<Value, CliError> {
    let wrong = |value: &str, what: String| flag.wrong(value, &what);
    Ok(match flag.kind {
        Kind::Pairs => json!(values::pairs(all)),
        Kind::Tmpfs => json!(
            all.iter()
                .map(|text| text.split_once(':').unwrap_or((text, "")))
                .collect::<BTreeMap<_, _>>()
        ),
        Kind::Ulimit => {
            let parse = |text: &String| values::ulimit(text).map_err(|error| wrong(text, error));
            json!(all.iter().map(parse).collect::<Result<Vec<_>, _>>()?)
        }
        Kind::Rate => {
            let parse = |text: &String| values::rate(text).map_err(|error| wrong(text, error));
            json!(all.iter().map(parse).collect::<Result<Vec<_>, _>>()?)
        }
        Kind::Device => {
            let parse = |text: &String| values::device(text).map_err(|error| wrong(text, error));
            json!(all.iter().map(parse).collect::<Result<Vec<_>, _>>()?)
        }
        _ => json!(all),
    })
}

/// Sets a field by its path, making the objects on the way.
pub fn put(request: &mut Value, path: &str, value: Value) {
    let mut place = request;
    for part in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[part];
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Flag] = &[
        flag("rm", None, Kind::Switch, "HostConfig.AutoRemove", ""),
        flag("memory", Some('m'), Kind::Bytes, "HostConfig.Memory", ""),
        flag("label", Some('l'), Kind::Pairs, "Labels", ""),
        flag("quiet", Some('q'), Kind::Switch, "", ""),
    ];

    fn filled(words: &[&str]) -> Result<Value, CliError> {
        let command = with_flags(Command::new("t").no_binary_name(true), TABLE);
        let arguments = command.try_get_matches_from(words).unwrap();
        let mut request = json!({});
        fill(&mut request, TABLE, &arguments)?;
        Ok(request)
    }

    #[test]
    fn only_what_was_given_is_in_the_request() {
        assert_eq!(filled(&[]).unwrap(), json!({}));
        let request = filled(&["-q", "--rm", "-m", "32m", "-l", "a=b=c", "--label", "d"]).unwrap();
        let expected = json!({
            "HostConfig": { "AutoRemove": true, "Memory": 32 << 20 },
            "Labels": { "a": "b=c", "d": "" },
        });
        assert_eq!(request, expected);
    }

    #[test]
    fn the_last_of_a_flag_counts_and_a_switch_can_be_off() {
        let request = filled(&["--rm", "--rm=false", "-m32m", "-m=64m"]).unwrap();
        assert_eq!(
            request["HostConfig"],
            json!({ "AutoRemove": false, "Memory": 64 << 20 })
        );
    }

    #[test]
    fn a_wrong_value_names_its_flag() {
        let error = filled(&["-m", "much"]).unwrap_err();
        assert!(error.message.contains("--memory"), "{}", error.message);
    }
}
