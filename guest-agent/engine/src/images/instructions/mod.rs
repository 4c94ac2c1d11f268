//! The instructions of a Dockerfile that change how containers of an image run, as `docker commit
//! --change` and `docker import --change` take them.
//!
//! Called by `make`. Runs nothing and reads nothing: text in, a configuration out.

mod words;

use crate::error::{Error, Result};
use crate::images::config::{Empty, Healthcheck};
use crate::model::{Config, StrSlice};
use words::{expand, split};

const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Longest text of instructions; a client's mistake must not fill the memory.
const LONGEST: usize = 1 << 20;

/// Applies `changes`, each a line or more, to `config`.
pub(super) fn apply(config: &mut Config, changes: &[String]) -> Result<()> {
    if changes.iter().map(String::len).sum::<usize>() > LONGEST {
        return Err(Error::invalid("too many changes"));
    }
    let text = changes.join("\n");
    let mut applied = Applied::default();
    let mut line = String::new();
    for raw in text.lines() {
        let raw = raw.trim();
        if raw.starts_with('#') || (raw.is_empty() && line.is_empty()) {
            continue;
        }
        // A backslash at the end takes the next line in.
        if let Some(more) = raw.strip_suffix('\\') {
            line.push_str(more);
            continue;
        }
        line.push_str(raw);
        applied.one(config, &std::mem::take(&mut line))?;
    }
    if line.is_empty() {
        Ok(())
    } else {
        applied.one(config, &line)
    }
}

#[derive(Default)]
struct Applied {
    /// Whether one of the changes has set the command.
    command: bool,
}

impl Applied {
    fn one(&mut self, config: &mut Config, line: &str) -> Result<()> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (name, rest) = (name.to_ascii_uppercase(), rest.trim());
        let known = [
            "CMD",
            "ENTRYPOINT",
            "ENV",
            "EXPOSE",
            "HEALTHCHECK",
            "LABEL",
            "ONBUILD",
            "STOPSIGNAL",
            "USER",
            "VOLUME",
            "WORKDIR",
        ];
        if !known.contains(&name.as_str()) {
            return Err(Error::invalid(format!(
                "{name} is not a valid change command"
            )));
        }
        if rest.is_empty() && !matches!(name.as_str(), "CMD" | "ENTRYPOINT") {
            return Err(needs(&name, "at least one argument"));
        }
        match name.as_str() {
            "CMD" => {
                config.cmd = Some(command(rest));
                self.command = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint = Some(command(rest));
                if !self.command {
                    config.cmd = None;
                }
            }
            "ENV" => {
                for (name, value) in pairs("ENV", rest, config)? {
                    set_env(config, &name, &value);
                }
            }
            "LABEL" => config.labels.extend(pairs("LABEL", rest, config)?),
            "EXPOSE" => expose(config, rest)?,
            "ONBUILD" => on_build(config, rest)?,
            "STOPSIGNAL" => {
                config.stop_signal = stop_signal(&expand(rest, &environment(config))?)?;
            }
            "USER" => config.user = expand(rest, &environment(config))?,
            "WORKDIR" => work_dir(config, &expand(rest, &environment(config))?),
            "VOLUME" => volume(config, rest)?,
            _ => config.healthcheck = Some(health(rest)?),
        }
        Ok(())
    }
}

fn needs(name: &str, what: &str) -> Error {
    Error::invalid(format!("{name} requires {what}"))
}

fn environment(config: &Config) -> Vec<String> {
    config.env.clone().unwrap_or_default()
}

/// A list in JSON, or a line for the shell.
fn command(text: &str) -> StrSlice {
    if let Ok(words) = serde_json::from_str::<Vec<String>>(text) {
        return StrSlice(words);
    }
    if text.is_empty() {
        return StrSlice(Vec::new());
    }
    let words = SHELL.iter().copied().chain([text]);
    StrSlice(words.map(str::to_owned).collect())
}

/// `name=value …`, or the older `name value`.
fn pairs(instruction: &str, text: &str, config: &Config) -> Result<Vec<(String, String)>> {
    let environment = environment(config);
    let words = split(text);
    let first = words.first().map(String::as_str).unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{instruction} must have two arguments")))?;
        let pair = (
            expand(name, &environment)?,
            expand(value.trim(), &environment)?,
        );
        return Ok(vec![pair]);
    }
    let pair = |word: &String| {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            Error::invalid(format!(
                "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
            ))
        })?;
        let name = expand(name, &environment)?;
        if name.is_empty() {
            return Err(Error::invalid(format!(
                "{instruction} names can not be blank"
            )));
        }
        Ok((name, expand(value, &environment)?))
    };
    words.iter().map(pair).collect()
}

fn set_env(config: &mut Config, name: &str, value: &str) {
    let env = config.env.get_or_insert_default();
    let pair = format!("{name}={value}");
    let own = |known: &&mut String| known.split('=').next() == Some(name);
    match env.iter_mut().find(own) {
        Some(known) => *known = pair,
        None => env.push(pair),
    }
}

/// Ports, or ranges of them, with an optional protocol.
fn expose(config: &mut Config, text: &str) -> Result<()> {
    let environment = environment(config);
    let ports = config.exposed_ports.get_or_insert_default();
    for word in split(text) {
        let word = expand(&word, &environment)?;
        let wrong = || Error::invalid(format!("Invalid containerPort: {word}"));
        let (range, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(Error::invalid(format!("Invalid proto: {protocol}")));
        }
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: u16 = first.parse().map_err(|_| wrong())?;
        let last: u16 = last.parse().map_err(|_| wrong())?;
        if last < first {
            return Err(wrong());
        }
        ports.extend((first..=last).map(|port| (format!("{port}/{protocol}"), Empty {})));
    }
    Ok(())
}

fn on_build(config: &mut Config, text: &str) -> Result<()> {
    let trigger = text.split_whitespace().next().unwrap_or_default();
    match trigger.to_ascii_uppercase().as_str() {
        "ONBUILD" => {
            return Err(Error::invalid(
                "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            ));
        }
        trigger @ ("MAINTAINER" | "FROM") => {
            return Err(Error::invalid(format!(
                "{trigger} isn't allowed as an ONBUILD trigger"
            )));
        }
        _ => {}
    }
    config
        .on_build
        .get_or_insert_default()
        .push(text.to_owned());
    Ok(())
}

fn stop_signal(word: &str) -> Result<String> {
    crate::containers::parse_signal(word)?;
    Ok(word.to_owned())
}

/// A directory, from the one before if it does not begin at the root.
fn work_dir(config: &mut Config, path: &str) {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{}/{path}", config.working_dir)
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    config.working_dir = format!("/{}", parts.join("/"));
}

fn volume(config: &mut Config, text: &str) -> Result<()> {
    let environment = environment(config);
    let words = match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) => words,
        Err(_) => split(text),
    };
    if words.is_empty() {
        return Err(needs("VOLUME", "at least one argument"));
    }
    for word in words {
        let path = expand(&word, &environment)?;
        let path = path.trim();
        if path.is_empty() {
            return Err(Error::invalid(
                "VOLUME specified can not be an empty string",
            ));
        }
        let volumes = config.volumes.get_or_insert_default();
        volumes.insert(path.to_owned(), Empty {});
    }
    Ok(())
}

fn health(text: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        rest = after.trim_start();
        let wrong = |name: &str| Error::invalid(format!("unknown flag: --{name}"));
        let (name, value) = flag.split_once('=').ok_or_else(|| wrong(flag))?;
        let place = match name {
            "interval" => &mut check.interval,
            "timeout" => &mut check.timeout,
            "start-period" => &mut check.start_period,
            "start-interval" => &mut check.start_interval,
            "retries" => {
                let count: i64 = value.parse().map_err(|_| invalid_flag(name, value))?;
                if count < 0 {
                    return Err(Error::invalid(format!(
                        "--retries cannot be negative ({count})"
                    )));
                }
                check.retries = count;
                continue;
            }
            _ => return Err(wrong(name)),
        };
        *place = crate::filters::duration_ns(value)
            .ok_or_else(|| Error::invalid(format!("time: invalid duration {value:?}")))?;
    }
    let (kind, words) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let words = words.trim();
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if words.is_empty() => check.test = Some(vec!["NONE".into()]),
        "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "CMD" if words.is_empty() => {
            return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
        }
        "CMD" => {
            check.test = Some(match serde_json::from_str::<Vec<String>>(words) {
                Ok(words) => [vec!["CMD".to_owned()], words].concat(),
                Err(_) => vec!["CMD-SHELL".to_owned(), words.to_owned()],
            });
        }
        kind => {
            return Err(Error::invalid(format!(
                "Unknown type {kind:?} in HEALTHCHECK (try CMD)"
            )));
        }
    }
    Ok(check)
}

fn invalid_flag(name: &str, value: &str) -> Error {
    Error::invalid(format!("invalid value {value:?} for flag --{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn applied(changes: &[&str]) -> Config {
        let mut config = Config {
            env: Some(vec!["A=b".into(), "PATH=/bin".into()]),
            cmd: Some(StrSlice(vec!["sh".into()])),
            ..Config::default()
        };
        let changes: Vec<String> = changes.iter().map(|text| (*text).to_owned()).collect();
        apply(&mut config, &changes).unwrap();
        config
    }

    fn refused(change: &str) -> String {
        let changes = [change.to_owned()];
        apply(&mut Config::default(), &changes).unwrap_err().text()
    }

    #[test]
    fn every_instruction_that_docker_takes() {
        let config = applied(&[
            "CMD [\"x\", \"y z\"]",
            "env Q=1 R=\"two words\" S=a\\ b",
            "ENV PATH=$PATH:/x T=${A}${NO:-none}",
            "ENV OLD form of it",
            "LABEL a=b c=\"d e\"",
            "EXPOSE 80 53/UDP 8000-8002",
            "USER u:g",
            "WORKDIR /w",
            "WORKDIR a/../b",
            "VOLUME /v $A",
            "VOLUME [\"/json\"]",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
            "HEALTHCHECK --interval=5s --retries=3 CMD true",
            "ENTRYPOINT foo bar",
        ]);
        let value = serde_json::to_value(&config).unwrap();
        assert_eq!(value["Cmd"], json!(["x", "y z"]));
        assert_eq!(value["Entrypoint"], json!(["/bin/sh", "-c", "foo bar"]));
        assert_eq!(
            value["Env"],
            json!([
                "A=b",
                "PATH=/bin:/x",
                "Q=1",
                "R=two words",
                "S=a b",
                "T=bnone",
                "OLD=form of it"
            ])
        );
        assert_eq!(value["Labels"], json!({"a": "b", "c": "d e"}));
        let ports: Vec<_> = config.exposed_ports.unwrap().into_keys().collect();
        assert_eq!(
            ports,
            ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]
        );
        assert_eq!(
            (config.user.as_str(), config.working_dir.as_str()),
            ("u:g", "/w/b")
        );
        let volumes: Vec<_> = config.volumes.unwrap().into_keys().collect();
        assert_eq!(volumes, ["/json", "/v", "b"]);
        assert_eq!(config.stop_signal, "SIGINT");
        assert_eq!(config.on_build.unwrap(), ["RUN x"]);
        let check = config.healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (5_000_000_000, 3));
        assert_eq!(check.test.unwrap(), ["CMD-SHELL", "true"]);
    }

    #[test]
    fn an_entrypoint_takes_the_images_command_away() {
        assert_eq!(applied(&["ENTRYPOINT [\"e\"]"]).cmd, None);
        let config = applied(&["ENTRYPOINT e", "CMD c"]);
        assert_eq!(config.cmd.unwrap().0, ["/bin/sh", "-c", "c"]);
        let check = applied(&["HEALTHCHECK NONE"]).healthcheck.unwrap();
        assert_eq!(check.test.unwrap(), ["NONE"]);
        assert_eq!(
            applied(&["# nothing", "", "ENV X=\\", "1"]).env.unwrap()[2],
            "X=1"
        );
    }

    #[test]
    fn others_are_refused_in_dockerds_words() {
        assert_eq!(refused("RUN x"), "RUN is not a valid change command");
        assert_eq!(refused("foo"), "FOO is not a valid change command");
        assert_eq!(refused("ENV A"), "ENV must have two arguments");
        assert_eq!(refused("USER"), "USER requires at least one argument");
        assert_eq!(
            refused("VOLUME []"),
            "VOLUME requires at least one argument"
        );
        assert!(refused("ENV A=\"b").starts_with("failed to process \"\\\"b\": unexpected end"));
        assert!(refused("ENV A=b c").starts_with("Syntax error - can't find = in \"c\""));
        assert_eq!(refused("EXPOSE x"), "Invalid containerPort: x");
        assert_eq!(refused("EXPOSE 1/icmp"), "Invalid proto: icmp");
        assert!(refused("ONBUILD FROM x").contains("isn't allowed"));
        assert!(refused("HEALTHCHECK foo").contains("(try CMD)"));
        assert!(refused("HEALTHCHECK --bad=1 CMD x").contains("unknown flag"));
        assert!(refused("STOPSIGNAL NOPE").contains("nvalid"));
    }
}
