//! A home of its own, and the program in it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "each test binary uses its part; a test fails by its unwrap"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program under test.
pub const LIGHTER: &str = env!("CARGO_BIN_EXE_lighter");

/// One installation in a temporary folder; its daemon is ended with it.
pub struct Home {
    dir: tempfile::TempDir,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Home {
    pub fn new() -> Self {
        // Short: a socket's path has 108 bytes.
        let dir = tempfile::Builder::new()
            .prefix("lt")
            .tempdir_in("/tmp")
            .unwrap();
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path())
            .env("LIGHTER_HOME", self.path())
            .env("LIGHTER_IMAGE_DIR", self.file("no-image"))
            .env("LIGHTER", LIGHTER)
            .env("COLUMNS", "100")
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(LIGHTER).args(arguments).output().unwrap();
        self.ended(&output)
    }

    pub fn shell(&self, script: &str) -> Ended {
        let output = self.command("bash").args(["-c", script]).output().unwrap();
        self.ended(&output)
    }

    fn ended(&self, output: &Output) -> Ended {
        let home = self.path().to_string_lossy().into_owned();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&home, "$HOME");
        Ended {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Nothing is left running, whatever the test did.
        let _ = self.command(LIGHTER).args(["down", "--force"]).output();
    }
}

impl Ended {
    /// Everything in one text, for a snapshot.
    pub fn shown(&self) -> String {
        let part = |name: &str, text: &str| match text {
            "" => String::new(),
            text => format!("--- {name}\n{}\n", text.trim_end()),
        };
        format!(
            "{}{}--- code {}\n",
            part("stdout", &self.out),
            part("stderr", &self.err),
            self.code
        )
    }
}

/// Holds a text against the one that was reviewed.
pub fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/{name}.txt"));
    if std::env::var_os("LIGHTER_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        reviewed == text,
        "`{name}` differs from its snapshot; it is now:\n{text}\n(LIGHTER_UPDATE_SNAPSHOTS=1 takes it)"
    );
}
