//! An ordinary user of this system, made for a test and removed with it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// A user without rights and without a home.
#[derive(Clone, Debug)]
pub struct User {
    name: String,
    id: u32,
}

impl User {
    /// Makes one with `useradd`; `None` where this process may not.
    #[must_use]
    pub fn make() -> Option<Self> {
        let name = format!("ltr{}", std::process::id());
        let made = Command::new("useradd")
            .args(["--no-create-home", "--shell", "/bin/sh", &name])
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            return None;
        }
        let id = Command::new("id").args(["-u", &name]).output().ok()?;
        let id = String::from_utf8_lossy(&id.stdout).trim().parse().ok()?;
        Some(Self { name, id })
    }

    /// Its number; that of its group is the same or another.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// A command that runs `program` as this user, with no groups and no privileges.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        let id = self.id.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
        command.arg(program);
        command
    }

    /// Gives the user a folder and all that is in it.
    ///
    /// # Panics
    ///
    /// If `chown` fails.
    pub fn own(&self, folder: &Path) {
        let owner = format!("{0}:{0}", self.id);
        let chown = Command::new("chown")
            .args(["-hR", &owner])
            .arg(folder)
            .status();
        assert!(
            chown.is_ok_and(|status| status.success()),
            "chown of {} failed",
            folder.display()
        );
    }

    /// Removes the user. Its processes must have ended.
    pub fn remove(&self) {
        // A user that stays is a line in /etc/passwd, and the next test makes another.
        let _ = Command::new("userdel").args(["-f", &self.name]).output();
    }
}
