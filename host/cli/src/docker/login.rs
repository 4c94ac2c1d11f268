//! `login` and `logout`, and the credentials a pull sends.
//!
//! They are kept where docker keeps them (`~/.docker/config.json`), so that one login serves both
//! programs. Credential helpers are asked as docker asks them; what one keeps is not copied out.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::credential_helper::ask as ask_helper;
use super::flags::{Flag, Kind, flag, is_set, text, with_flags};
use super::{Context, Verb};
use crate::exit::{CliError, Code};

/// Docker Hub's key in the file, for historical reasons an address.
const HUB: &str = "https://index.docker.io/v1/";

const LOGIN: &[Flag] = &[
    flag(
        "password",
        Some('p'),
        Kind::Text,
        "",
        "Password (better: --password-stdin)",
    ),
    flag(
        "password-stdin",
        None,
        Kind::Switch,
        "",
        "Read the password from STDIN",
    ),
    flag("username", Some('u'), Kind::Text, "", "User name"),
];

fn login_command() -> Command {
    with_flags(Command::new("login").about("Log in to a registry"), LOGIN)
        .arg(Arg::new("target").value_name("SERVER"))
}

fn logout_command() -> Command {
    Command::new("logout")
        .about("Log out of a registry")
        .arg(Arg::new("target").value_name("SERVER"))
}

/// The verbs of this file.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "login",
        command: login_command,
        run: |c, a| Box::pin(login(c, a)),
    },
    Verb {
        name: "logout",
        command: logout_command,
        run: |c, a| Box::pin(logout(c, a)),
    },
];

async fn login(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let server = key(text(arguments, "target").as_deref());
    let username = match text(arguments, "username") {
        Some(name) => name,
        None if std::io::stdin().is_terminal() => ask(context, "Username: ")?,
        None => return Err(not_a_terminal()),
    };
    let password = password(context, arguments)?;
    let body = json!({ "username": username, "password": password, "serveraddress": server });
    let answer = context.api.post_json("/auth", &body).await?;
    let token = answer["IdentityToken"].as_str().unwrap_or_default();
    Store::open()?.keep(&server, &username, &password, token)?;
    context
        .printer
        .line(answer["Status"].as_str().unwrap_or("Login Succeeded"));
    Ok(Code::OK)
}

async fn logout(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let server = key(text(arguments, "target").as_deref());
    Store::open()?.forget(&server)?;
    context
        .printer
        .line(&format!("Removing login credentials for {server}"));
    Ok(Code::OK)
}

fn password(context: &Context<'_>, arguments: &ArgMatches) -> Result<String, CliError> {
    if is_set(arguments, "password-stdin") {
        let mut text = String::new();
        std::io::stdin().take(64 << 10).read_to_string(&mut text)?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    if let Some(password) = text(arguments, "password") {
        context
            .printer
            .warning("`--password` shows the password to other users of this host");
        return Ok(password);
    }
    if !std::io::stdin().is_terminal() {
        return Err(not_a_terminal());
    }
    context.printer.passing("Password: ");
    let password = lighter_platform::sys::read_hidden_line()?;
    context.printer.talk("");
    Ok(password)
}

fn not_a_terminal() -> CliError {
    CliError::new("Cannot perform an interactive login from a non TTY device")
        .with_hint("give `--username` and `--password-stdin`")
}

fn ask(context: &Context<'_>, question: &str) -> Result<String, CliError> {
    context.printer.passing(question);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// The registry's key in the file.
fn key(server: Option<&str>) -> String {
    match server {
        None | Some("" | "docker.io" | "index.docker.io" | "registry-1.docker.io") => {
            HUB.to_owned()
        }
        Some(server) => {
            let server = server
                .strip_prefix("https://")
                .or(server.strip_prefix("http://"))
                .unwrap_or(server);
            server.split('/').next().unwrap_or(server).to_owned()
        }
    }
}

/// The registry of an image's name.
fn registry(name: &str) -> String {
    match super::pull::host_and_path(name) {
        Some((host, _)) => key(Some(host)),
        None => HUB.to_owned(),
    }
}

/// The header that carries the credentials for an image, if there are any.
pub fn auth_header(name: &str) -> Result<Option<String>, CliError> {
    let server = registry(name);
    let found = Store::open()?.find(&server)?;
    Ok(found.map(|auth| URL_SAFE.encode(auth.to_string())))
}

/// Docker's own file of credentials.
struct Store {
    path: PathBuf,
    config: Value,
}

impl Store {
    fn open() -> Result<Self, CliError> {
        let dir = match std::env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => directories::BaseDirs::new()
                .map(|base| base.home_dir().join(".docker"))
                .ok_or_else(|| CliError::new("the home folder of this user is unknown"))?,
        };
        Self::at(dir.join("config.json"))
    }

    fn at(path: PathBuf) -> Result<Self, CliError> {
        let config = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                CliError::new(format!("`{}` is not valid: {error}", path.display()))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
            Err(error) => return Err(error.into()),
        };
        if !Value::is_object(&config) {
            return Err(CliError::new(format!(
                "`{}` is not valid: it must hold an object",
                path.display()
            )));
        }
        Ok(Self { path, config })
    }

    /// The program that keeps the credentials of this registry, if one does.
    fn helper(&self, server: &str) -> Option<String> {
        let named = self.config["credHelpers"][server].as_str();
        let name = named.or(self.config["credsStore"].as_str())?;
        Some(format!("docker-credential-{name}"))
    }

    fn find(&self, server: &str) -> Result<Option<Value>, CliError> {
        if let Some(helper) = self.helper(server) {
            let Ok(answer) = ask_helper(&helper, "get", server) else {
                return Ok(None);
            };
            let known: Value = serde_json::from_str(&answer)
                .map_err(|_| CliError::new(format!("`{helper}` gave no JSON")))?;
            let secret = known["Secret"].as_str().unwrap_or_default();
            return Ok(Some(match known["Username"].as_str() {
                Some("<token>") => json!({ "identitytoken": secret, "serveraddress": server }),
                name => json!({ "username": name, "password": secret, "serveraddress": server }),
            }));
        }
        let auths = self.config["auths"].as_object();
        let entry = auths.and_then(|auths| {
            auths
                .iter()
                .find(|(name, _)| name.as_str() == server || key(Some(name)) == server)
        });
        let Some((_, entry)) = entry else {
            return Ok(None);
        };
        if let Some(token) = entry["identitytoken"]
            .as_str()
            .filter(|token| !token.is_empty())
        {
            return Ok(Some(
                json!({ "identitytoken": token, "serveraddress": server }),
            ));
        }
        let decoded = entry["auth"]
            .as_str()
            .and_then(|auth| STANDARD.decode(auth).ok());
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(text.as_deref().and_then(|text| text.split_once(':')).map(|(name, password)| {
            json!({ "username": name, "password": password, "serveraddress": server })
        }))
    }

    fn keep(
        mut self,
        server: &str,
        username: &str,
        password: &str,
        token: &str,
    ) -> Result<(), CliError> {
        if let Some(helper) = self.helper(server) {
            let (name, secret) = if token.is_empty() {
                (username, password)
            } else {
                ("<token>", token)
            };
            let kept = json!({ "ServerURL": server, "Username": name, "Secret": secret });
            ask_helper(&helper, "store", &kept.to_string())?;
            return Ok(());
        }
        let auth = STANDARD.encode(format!(
            "{username}:{}",
            if token.is_empty() { password } else { "" }
        ));
        let mut entry = json!({ "auth": auth });
        if !token.is_empty() {
            entry["identitytoken"] = json!(token);
        }
        if !self.config["auths"].is_object() {
            self.config["auths"] = json!({});
        }
        self.config["auths"][server] = entry;
        self.write()
    }

    fn forget(mut self, server: &str) -> Result<(), CliError> {
        if let Some(helper) = self.helper(server) {
            // A helper that knows nothing of it has nothing to forget.
            let _ = ask_helper(&helper, "erase", server);
        }
        if let Some(auths) = self.config["auths"].as_object_mut() {
            auths.remove(server);
        }
        self.write()
    }

    fn write(&self) -> Result<(), CliError> {
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let text =
            serde_json::to_string_pretty(&self.config).map_err(|error| CliError::of(&error))?;
        lighter_platform::write_durably(&self.path, text.as_bytes())
            .map_err(|error| CliError::of(&error).with_hint(error.hint()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_something_else_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        for text in ["[]", "1", "\"x\"", "{"] {
            std::fs::write(&path, text).unwrap();
            assert!(Store::at(path.clone()).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn registries_have_one_key() {
        assert_eq!(registry("busybox"), HUB);
        assert_eq!(registry("a/b"), HUB);
        assert_eq!(registry("localhost:5000/a"), "localhost:5000");
        assert_eq!(key(Some("https://r.test/v1/")), "r.test");
    }

    #[test]
    fn credentials_are_kept_found_and_forgotten_beside_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker/config.json");
        let open = || Store::at(path.clone()).unwrap();
        open().keep("r.test", "ann", "se:cret", "").unwrap();
        let found = open().find("r.test").unwrap().unwrap();
        assert_eq!(
            (&found["username"], &found["password"]),
            (&json!("ann"), &json!("se:cret"))
        );
        open().keep("t.test", "ann", "x", "token").unwrap();
        assert_eq!(
            open().find("t.test").unwrap().unwrap()["identitytoken"],
            "token"
        );
        open().forget("r.test").unwrap();
        assert!(open().find("r.test").unwrap().is_none());
        assert!(open().find("t.test").unwrap().is_some());
    }
}
