//! The body of `POST /containers/create`, from the flags of `run` and `create`.

use clap::ArgMatches;
use serde_json::{Map, Value, json};

use super::container_flags::CREATE;
use super::flags::{fill, is_set, put, switch, text, texts};
use super::limit_flags::{HEALTH, LIMITS};
use super::{endpoints, mounts, ports, values};
use crate::exit::{CliError, words};

/// Makes the whole body.
pub fn request(arguments: &ArgMatches, attach: &Attach) -> Result<Value, CliError> {
    let words = texts(arguments, "args");
    let (image, command) = words
        .split_first()
        .ok_or_else(|| CliError::new("'lighter run' requires at least 1 argument"))?;
    super::pull::check_reference(image)?;
    let interactive = is_set(arguments, "interactive");
    let mut body = json!({
        "Image": image,
        "Cmd": if command.is_empty() { Value::Null } else { json!(command) },
        "Tty": is_set(arguments, "tty"),
        "OpenStdin": interactive,
        "StdinOnce": interactive && attach.stdin,
        "AttachStdin": attach.stdin,
        "AttachStdout": attach.stdout,
        "AttachStderr": attach.stderr,
    });
    for table in [CREATE, LIMITS, HEALTH] {
        fill(&mut body, table, arguments)?;
    }
    let restarts = body["HostConfig"]["RestartPolicy"]["Name"].as_str();
    if is_set(arguments, "rm") && restarts.is_some_and(|name| !matches!(name, "" | "no")) {
        return Err(CliError::usage(
            "conflicting options: cannot specify both --restart and --rm",
        ));
    }
    if !matches!(
        text(arguments, "userns").as_deref(),
        None | Some("" | "host")
    ) {
        return Err(CliError::usage("--userns: invalid USER mode"));
    }
    environment(&mut body, arguments)?;
    entrypoint(&mut body, arguments);
    health(&mut body, arguments)?;
    security(&mut body, arguments)?;
    volumes(&mut body, arguments)?;
    endpoints::fill(&mut body, arguments)?;
    ports::fill(
        &mut body,
        &texts(arguments, "publish"),
        &texts(arguments, "expose"),
    )?;
    if is_set(arguments, "tty")
        && let Some((rows, columns)) = lighter_platform::sys::terminal_size()
    {
        put(&mut body, "HostConfig.ConsoleSize", json!([rows, columns]));
    }
    Ok(body)
}

/// Which of the container's streams the caller is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attach {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Attach {
    /// What `--attach`, `--interactive` and `--detach` ask for together.
    pub fn of(arguments: &ArgMatches, detach: bool) -> Result<Self, CliError> {
        let named = texts(arguments, "attach");
        if detach && !named.is_empty() {
            return Err(CliError::new(
                "conflicting options: cannot specify both --attach and --detach",
            ));
        }
        let mut attach = Self {
            stdin: false,
            stdout: false,
            stderr: false,
        };
        for name in &named {
            match name.to_ascii_lowercase().as_str() {
                "stdin" => attach.stdin = true,
                "stdout" => attach.stdout = true,
                "stderr" => attach.stderr = true,
                _ => {
                    let text = "valid streams are STDIN, STDOUT and STDERR";
                    return Err(CliError::usage(format!(
                        "invalid argument {name:?} for \"-a, --attach\" flag: {text}"
                    )));
                }
            }
        }
        if named.is_empty() && !detach {
            attach.stdin = is_set(arguments, "interactive");
            attach.stdout = true;
            attach.stderr = true;
        }
        Ok(attach)
    }
}

fn lines_of(arguments: &ArgMatches, files: &str) -> Result<Vec<String>, CliError> {
    let mut all = Vec::new();
    for path in texts(arguments, files) {
        all.extend(values::read_lines(&path).map_err(CliError::usage)?);
    }
    Ok(all)
}

fn environment(body: &mut Value, arguments: &ArgMatches) -> Result<(), CliError> {
    let mut all = lines_of(arguments, "env-file")?;
    all.extend(texts(arguments, "env"));
    if !all.is_empty() {
        put(body, "Env", json!(values::environment(&all)));
    }
    let mut labels = lines_of(arguments, "label-file")?;
    labels.extend(texts(arguments, "label"));
    if !labels.is_empty() {
        put(body, "Labels", json!(values::pairs(&labels)));
    }
    Ok(())
}

fn entrypoint(body: &mut Value, arguments: &ArgMatches) {
    if let Some(entrypoint) = text(arguments, "entrypoint") {
        // An empty one takes the image's away.
        put(body, "Entrypoint", json!([entrypoint]));
    }
}

/// What is zero says nothing, as in docker.
fn health(body: &mut Value, arguments: &ArgMatches) -> Result<(), CliError> {
    let command = text(arguments, "health-cmd").filter(|command| !command.is_empty());
    let says = |value: &Value| value.as_i64() != Some(0);
    let numbers = body["Healthcheck"].as_object();
    let says = command.is_some() || numbers.is_some_and(|all| all.values().any(says));
    if is_set(arguments, "no-healthcheck") {
        if says {
            let text = "--no-healthcheck conflicts with --health-* options";
            return Err(CliError::usage(text));
        }
        put(body, "Healthcheck", json!({ "Test": ["NONE"] }));
        return Ok(());
    }
    if !says {
        if let Some(fields) = body.as_object_mut() {
            fields.remove("Healthcheck");
        }
        return Ok(());
    }
    for (name, field) in [
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("retries", "Retries"),
        ("start-period", "StartPeriod"),
        ("start-interval", "StartInterval"),
    ] {
        if body["Healthcheck"][field].as_i64().is_some_and(|n| n < 0) {
            return Err(CliError::usage(format!(
                "--health-{name} cannot be negative"
            )));
        }
    }
    if let Some(command) = command {
        put(body, "Healthcheck.Test", json!(["CMD-SHELL", command]));
    }
    Ok(())
}

fn security(body: &mut Value, arguments: &ArgMatches) -> Result<(), CliError> {
    let options = texts(arguments, "security-opt");
    if options.is_empty() {
        return Ok(());
    }
    let mut sent = Vec::new();
    for option in options {
        // A profile is a file of the caller's: the engine is given what is in it.
        let profile = option
            .strip_prefix("seccomp=")
            .filter(|p| !["unconfined", "builtin"].contains(p));
        match profile {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    CliError::usage(format!(
                        "opening seccomp profile ({path}) failed: open {path}: {}",
                        words(&error)
                    ))
                })?;
                let profile: Value = serde_json::from_str(&text).map_err(|error| {
                    CliError::usage(format!("seccomp profile ({path}) is no JSON: {error}"))
                })?;
                sent.push(format!("seccomp={profile}"));
            }
            None => sent.push(option),
        }
    }
    put(body, "HostConfig.SecurityOpt", json!(sent));
    Ok(())
}

fn volumes(body: &mut Value, arguments: &ArgMatches) -> Result<(), CliError> {
    let mut binds = Vec::new();
    let mut anonymous = Map::new();
    for text in texts(arguments, "volume") {
        match mounts::volume(&text)? {
            mounts::Volume::Bind(bind) => binds.push(bind),
            mounts::Volume::Anonymous(path) => {
                anonymous.insert(path, json!({}));
            }
        }
    }
    if !binds.is_empty() {
        put(body, "HostConfig.Binds", json!(binds));
    }
    if !anonymous.is_empty() {
        put(body, "Volumes", Value::Object(anonymous));
    }
    let all = texts(arguments, "mount");
    if !all.is_empty() {
        let all = all
            .iter()
            .map(|text| mounts::mount(text))
            .collect::<Result<Vec<_>, _>>()?;
        put(body, "HostConfig.Mounts", json!(all));
    }
    Ok(())
}

/// Whether a pull is wanted before the creation, whatever is there.
pub fn pull_policy(arguments: &ArgMatches) -> Result<String, CliError> {
    let policy = text(arguments, "pull").unwrap_or_else(|| "missing".to_owned());
    match policy.as_str() {
        "always" | "missing" | "never" => Ok(policy),
        _ => Err(CliError::usage(format!(
            "invalid pull option: '{policy}': must be one of \"always\", \"missing\" or \"never\""
        ))),
    }
}

/// Whether signals are passed on: yes, unless said otherwise.
pub fn passes_signals(arguments: &ArgMatches) -> bool {
    switch(arguments, "sig-proxy").unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::container_flags::RUN;
    use crate::docker::flags::with_flags;
    use crate::docker::network_flags::NETWORKS;
    use crate::docker::run::positional;

    fn body(words: &[&str]) -> Result<Value, CliError> {
        let tables = [CREATE, RUN, LIMITS, HEALTH, NETWORKS];
        let command = tables
            .into_iter()
            .fold(clap::Command::new("run"), with_flags);
        let command = command
            .disable_help_flag(true)
            .no_binary_name(true)
            .arg(positional());
        let arguments = command.try_get_matches_from(words).unwrap();
        let detach = is_set(&arguments, "detach");
        request(&arguments, &Attach::of(&arguments, detach)?)
    }

    #[test]
    fn flags_after_the_image_belong_to_the_command() {
        let body = body(&["--rm", "-i", "busybox", "sh", "-c", "echo", "--rm", "-t"]).unwrap();
        assert_eq!(body["Cmd"], json!(["sh", "-c", "echo", "--rm", "-t"]));
        assert_eq!(body["Tty"], false);
        assert_eq!(body["StdinOnce"], true);
    }

    #[test]
    fn health_checks_are_dockers() {
        let check = |words: &[&str]| {
            let words = [words, &["busybox"]].concat();
            body(&words).map(|body| body["Healthcheck"].clone())
        };
        assert_eq!(check(&[]).unwrap(), Value::Null);
        assert_eq!(check(&["--health-cmd", ""]).unwrap(), Value::Null);
        assert_eq!(check(&["--health-interval", "0"]).unwrap(), Value::Null);
        let given = check(&[
            "--health-cmd",
            "a b",
            "--health-interval",
            "1m",
            "--health-retries=2",
        ]);
        let expected =
            json!({ "Test": ["CMD-SHELL", "a b"], "Interval": 60_000_000_000_i64, "Retries": 2 });
        assert_eq!(given.unwrap(), expected);
        let none = check(&["--no-healthcheck"]).unwrap();
        assert_eq!(none, json!({ "Test": ["NONE"] }));
        for (words, text) in [
            (
                ["--no-healthcheck", "--health-cmd=x"],
                "--no-healthcheck conflicts with --health-* options",
            ),
            (
                ["--health-cmd=x", "--health-timeout=-1s"],
                "--health-timeout cannot be negative",
            ),
        ] {
            assert_eq!(check(&words).unwrap_err().message, text);
        }
    }

    #[test]
    fn letters_can_stand_together() {
        let body = body(&["-itd", "-eA=1", "-e", "B=2", "busybox"]).unwrap();
        assert_eq!(
            (&body["Tty"], &body["OpenStdin"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(body["AttachStdin"], false);
        assert_eq!(body["Env"], json!(["A=1", "B=2"]));
        assert_eq!(body["Cmd"], Value::Null);
    }

    #[test]
    fn volumes_and_mounts_go_where_docker_puts_them() {
        let body = body(&[
            "-v",
            "/a:/b:ro",
            "-v",
            "/c",
            "--mount",
            "type=tmpfs,dst=/t",
            "x",
        ])
        .unwrap();
        assert_eq!(body["HostConfig"]["Binds"], json!(["/a:/b:ro"]));
        assert_eq!(body["Volumes"], json!({ "/c": {} }));
        assert_eq!(body["HostConfig"]["Mounts"][0]["Type"], "tmpfs");
    }

    #[test]
    fn without_an_image_the_error_says_so() {
        assert!(body(&["--rm"]).unwrap_err().message.contains("argument"));
    }

    #[test]
    fn conflicts_are_refused() {
        assert!(body(&["-d", "-a", "stdout", "x"]).is_err());
        assert!(body(&["-a", "nowhere", "x"]).is_err());
    }
}
