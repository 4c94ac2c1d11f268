//! The docker context named `lighter`: how the docker CLI finds our socket.
//!
//! It is made by `lighter up` and selected only where nothing else would be lost: the current
//! context is `default` and nothing answers there. What was selected before returns when ours is
//! removed. A second installation (`LIGHTER_HOME`) leaves the user's contexts alone.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use lighter_platform::{HostPaths, sys, write_durably};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::daemon;
use crate::exit::{CliError, Code};
use crate::printer::Printer;

/// The context's name.
pub const NAME: &str = "lighter";

/// Its part of the command line.
pub fn command() -> Command {
    Command::new("context")
        .about("Point the docker CLI at Lighter, or back")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("use").about("Make the docker context `lighter` the current one"))
        .subcommand(Command::new("remove").about("Remove it; the one before is current again"))
}

/// Selects or removes the context.
pub fn run(arguments: &ArgMatches, printer: &Printer) -> Result<Code, CliError> {
    let paths = daemon::paths()?;
    let store = Store::find(&paths)?;
    if let Some(("use", _)) = arguments.subcommand() {
        store.write(&endpoint(&paths))?;
        store.select()?;
        printer.talk("docker talks to lighter now (context `lighter`)");
    } else {
        store.remove()?;
        printer.talk("the docker context `lighter` is removed");
    }
    Ok(Code::OK)
}

/// The socket as docker writes it.
pub fn endpoint(paths: &HostPaths) -> String {
    sys::docker_endpoint(&paths.docker_socket())
}

/// The name of docker's current context.
pub fn current(paths: &HostPaths) -> Result<String, CliError> {
    Store::find(paths)?.current()
}

/// Whether the context of our name leads to this socket.
pub fn leads_to(paths: &HostPaths, endpoint: &str) -> bool {
    let meta = Store::find(paths).map(|store| store.meta_dir().join("meta.json"));
    let meta = meta.ok().and_then(|file| std::fs::read(file).ok());
    let meta = meta.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    meta.is_some_and(|meta| meta["Endpoints"]["docker"]["Host"] == endpoint)
}

/// After `up`: makes the context, selects it where that harms nobody, says how else.
pub async fn announce(paths: &HostPaths, printer: &Printer) {
    if std::env::var_os("LIGHTER_HOME").is_some_and(|home| !home.is_empty()) {
        return;
    }
    if let Err(error) = try_announce(paths, printer).await {
        printer.warning(&format!(
            "the docker context was not made: {}",
            error.message
        ));
    }
}

async fn try_announce(paths: &HostPaths, printer: &Printer) -> Result<(), CliError> {
    let store = Store::find(paths)?;
    store.write(&endpoint(paths))?;
    let current = store.current()?;
    if current == NAME {
        return Ok(());
    }
    if current == "default" && !default_answers(paths).await {
        store.select()?;
        printer.talk("docker talks to lighter now (context `lighter`)");
    } else if !default_is_ours(paths) {
        printer.talk("to point docker at lighter: `docker context use lighter`");
    }
    if store.tell_once() {
        printer.talk("SDKs and tools that ignore contexts: `eval \"$(lighter env)\"`");
    }
    Ok(())
}

/// Whether somebody answers where the docker CLI goes without a context: `DOCKER_HOST`, else the
/// system's socket. Whatever `DOCKER_HOST` names was set by the user and is left alone.
async fn default_answers(paths: &HostPaths) -> bool {
    if default_is_ours(paths) {
        return true;
    }
    if std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty()) {
        return true;
    }
    match sys::SYSTEM_DOCKER_SOCKET {
        Some(socket) => sys::connect_local(Path::new(socket)).await.is_ok(),
        None => false,
    }
}

/// Whether docker comes to us without a context: by `DOCKER_HOST`, or by the system's link.
fn default_is_ours(paths: &HostPaths) -> bool {
    if let Some(host) = std::env::var_os("DOCKER_HOST").filter(|host| !host.is_empty()) {
        return host == endpoint(paths).as_str();
    }
    let link = sys::SYSTEM_DOCKER_SOCKET.and_then(|socket| std::fs::read_link(socket).ok());
    link.is_some_and(|target| target == paths.docker_socket())
}

/// Docker's folder of settings, and our note of what was current before.
struct Store {
    docker: PathBuf,
    note: PathBuf,
}

impl Store {
    fn find(paths: &HostPaths) -> Result<Self, CliError> {
        let docker = match std::env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => directories::BaseDirs::new()
                .map(|base| base.home_dir().join(".docker"))
                .ok_or_else(|| CliError::new("the home folder of this user is unknown"))?,
        };
        Ok(Self {
            docker,
            note: paths.data.join("docker-context.json"),
        })
    }

    fn meta_dir(&self) -> PathBuf {
        self.meta_dir_of(NAME)
    }

    fn meta_dir_of(&self, name: &str) -> PathBuf {
        let id = hex::encode(Sha256::digest(name.as_bytes()));
        self.docker.join("contexts/meta").join(id)
    }

    fn config(&self) -> Result<Value, CliError> {
        match std::fs::read(self.docker.join("config.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                CliError::new(format!("docker's own `config.json` is not valid: {error}"))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(json!({})),
            Err(error) => Err(error.into()),
        }
    }

    fn current(&self) -> Result<String, CliError> {
        let config = self.config()?;
        let named = config
            .get("currentContext")
            .and_then(Value::as_str)
            .unwrap_or_default();
        Ok(if named.is_empty() {
            "default".to_owned()
        } else {
            named.to_owned()
        })
    }

    fn set_current(&self, name: &str) -> Result<(), CliError> {
        let mut config = self.config()?;
        let Some(object) = config.as_object_mut() else {
            return Err(CliError::new("docker's own `config.json` is not an object"));
        };
        if name == "default" {
            object.remove("currentContext");
        } else {
            object.insert("currentContext".to_owned(), json!(name));
        }
        write_json(&self.docker.join("config.json"), &config)
    }

    fn write(&self, host: &str) -> Result<(), CliError> {
        let meta = json!({
            "Name": NAME,
            "Metadata": { "Description": "Lighter" },
            "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } },
        });
        let file = self.meta_dir().join("meta.json");
        let same = std::fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
            .is_some_and(|there| there == meta);
        if same {
            Ok(())
        } else {
            write_json(&file, &meta)
        }
    }

    fn select(&self) -> Result<(), CliError> {
        let current = self.current()?;
        if current == NAME {
            return Ok(());
        }
        let mut note = self.read_note();
        note["former"] = json!(current);
        write_json(&self.note, &note)?;
        self.set_current(NAME)
    }

    fn remove(&self) -> Result<(), CliError> {
        if self.current()? == NAME {
            let note = self.read_note();
            let former = note
                .get("former")
                .and_then(Value::as_str)
                // One that was removed meanwhile would leave docker without any.
                .filter(|former| self.meta_dir_of(former).exists())
                .unwrap_or("default");
            self.set_current(former)?;
        }
        for gone in [
            std::fs::remove_dir_all(self.meta_dir()),
            std::fs::remove_file(&self.note),
        ] {
            match gone {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_note(&self) -> Value {
        std::fs::read(&self.note)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .filter(Value::is_object)
            .unwrap_or_else(|| json!({}))
    }

    /// True the first time, as far as the note can be kept.
    fn tell_once(&self) -> bool {
        let mut note = self.read_note();
        if note.get("told").is_some() {
            return false;
        }
        note["told"] = json!(true);
        write_json(&self.note, &note).is_ok()
    }
}

fn write_json(path: &Path, value: &Value) -> Result<(), CliError> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::of(&error))?;
    write_durably(path, text.as_bytes())
        .map_err(|error| CliError::of(&error).with_hint(error.hint()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path) -> Store {
        Store {
            docker: dir.join("docker"),
            note: dir.join("note.json"),
        }
    }

    #[test]
    fn the_former_context_returns_and_the_rest_of_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        std::fs::create_dir_all(&store.docker).unwrap();
        std::fs::write(
            store.docker.join("config.json"),
            r#"{"auths":{"r.test":{"auth":"eA=="}},"currentContext":"work"}"#,
        )
        .unwrap();
        store.write("unix:///run/x.sock").unwrap();
        std::fs::create_dir_all(store.meta_dir_of("work")).unwrap();
        store.select().unwrap();
        assert_eq!(store.current().unwrap(), "lighter");
        assert_eq!(store.config().unwrap()["auths"]["r.test"]["auth"], "eA==");
        store.remove().unwrap();
        assert_eq!(store.current().unwrap(), "work");
        assert!(!store.meta_dir().exists());
    }

    #[test]
    fn a_former_context_that_is_gone_does_not_return() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.set_current("work").unwrap();
        store.write("unix:///run/x.sock").unwrap();
        store.select().unwrap();
        store.remove().unwrap();
        assert_eq!(store.current().unwrap(), "default");
    }

    #[test]
    fn the_context_has_dockers_form_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.write("unix:///run/x.sock").unwrap();
        let file = store.meta_dir().join("meta.json");
        let meta: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(meta["Name"], "lighter");
        assert_eq!(meta["Endpoints"]["docker"]["Host"], "unix:///run/x.sock");
    }

    #[test]
    fn the_note_on_sdks_is_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert!(store.tell_once());
        assert!(!store.tell_once());
    }

    #[test]
    fn a_damaged_docker_configuration_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        std::fs::create_dir_all(&store.docker).unwrap();
        std::fs::write(store.docker.join("config.json"), "{").unwrap();
        assert!(store.select().is_err());
        assert_eq!(
            std::fs::read_to_string(store.docker.join("config.json")).unwrap(),
            "{"
        );
    }
}
