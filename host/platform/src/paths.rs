//! Where the product's files live on this host.
//!
//! `LIGHTER_HOME` puts everything under one folder (tests, second installations); without it the
//! system's own places for settings, data, caches and sockets are used. Nothing is created here:
//! see [`crate::ensure_private_dir`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Longest socket path that every supported system accepts (`sun_path` is 104 bytes on macOS and
/// 108 on Linux, each with its closing zero).
const SOCKET_PATH_LIMIT: usize = 103;

/// Why the folders could not be named.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// The home folder of the user is unknown.
    #[error("the home folder of this user is unknown")]
    NoHome,
    /// A variable that must hold an absolute path does not.
    #[error("`{variable}` must be an absolute path, it is `{}`", value.display())]
    NotAbsolute {
        /// The environment variable.
        variable: &'static str,
        /// What it holds.
        value: PathBuf,
    },
    /// The sockets' paths would not fit into a socket address.
    #[error("the socket path `{}` is longer than {SOCKET_PATH_LIMIT} bytes", .0.display())]
    SocketPathTooLong(PathBuf),
}

impl PathsError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoHome => "set `HOME`, or `LIGHTER_HOME` to a folder of your own",
            Self::NotAbsolute { .. } => "give it a path that starts at the root, or unset it",
            Self::SocketPathTooLong(_) => {
                "set `LIGHTER_HOME` or `XDG_RUNTIME_DIR` to a shorter path"
            }
        }
    }
}

/// The four folders and the names of the files in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPaths {
    /// Settings the user may edit.
    pub config: PathBuf,
    /// What must not be lost: the data disk and this installation's identity.
    pub data: PathBuf,
    /// What can be made again.
    pub cache: PathBuf,
    /// Sockets, locks and logs of this login.
    pub run: PathBuf,
}

/// The variables the folders depend on, as one value so that tests need no process environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `LIGHTER_HOME`.
    pub lighter_home: Option<OsString>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<OsString>,
    /// Whether this process is the superuser.
    pub superuser: bool,
}

impl HostPaths {
    /// The folders for this process.
    ///
    /// # Errors
    /// No home folder, a relative path in a variable, or sockets' paths that would be too long.
    pub fn discover() -> Result<Self, PathsError> {
        let environment = Environment {
            lighter_home: std::env::var_os("LIGHTER_HOME").filter(|v| !v.is_empty()),
            runtime_dir: std::env::var_os("XDG_RUNTIME_DIR").filter(|v| !v.is_empty()),
            superuser: crate::sys::is_superuser(),
        };
        let base = directories::BaseDirs::new();
        Self::from_environment(&environment, base.as_ref())
    }

    fn from_environment(
        environment: &Environment,
        base: Option<&directories::BaseDirs>,
    ) -> Result<Self, PathsError> {
        if let Some(home) = &environment.lighter_home {
            return Self::under("LIGHTER_HOME", Path::new(home)).and_then(Self::checked);
        }
        let base = base.ok_or(PathsError::NoHome)?;
        let run = match &environment.runtime_dir {
            // Root has one place, in a session and outside of any.
            Some(dir) if !environment.superuser => {
                absolute("XDG_RUNTIME_DIR", Path::new(dir))?.join("lighter")
            }
            _ => crate::sys::default_run_dir(environment.superuser, base),
        };
        Self {
            config: base.config_dir().join("lighter"),
            data: base.data_local_dir().join("lighter"),
            cache: base.cache_dir().join("lighter"),
            run,
        }
        .checked()
    }

    /// All four folders under one.
    fn under(variable: &'static str, root: &Path) -> Result<Self, PathsError> {
        let root = absolute(variable, root)?;
        Ok(Self {
            config: root.join("config"),
            data: root.join("data"),
            cache: root.join("cache"),
            run: root.join("run"),
        })
    }

    fn checked(self) -> Result<Self, PathsError> {
        // The longest socket name we bind, with the suffix of its temporary name.
        let longest = self.run.join("control.sock.12345678");
        if longest.as_os_str().len() > SOCKET_PATH_LIMIT {
            return Err(PathsError::SocketPathTooLong(longest));
        }
        Ok(self)
    }

    /// The settings file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The data disk of the virtual machine.
    #[must_use]
    pub fn disk_image(&self) -> PathBuf {
        self.data.join("disk.img")
    }

    /// The identity that ties the data disk to this installation.
    #[must_use]
    pub fn machine_id(&self) -> PathBuf {
        self.data.join("machine-id")
    }

    /// The Docker API socket.
    #[must_use]
    pub fn docker_socket(&self) -> PathBuf {
        self.run.join("docker.sock")
    }

    /// All folders of ours.
    #[must_use]
    pub fn folders(&self) -> [&Path; 4] {
        [&self.config, &self.data, &self.cache, &self.run]
    }

    /// The daemon's own routes.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// Held by the one daemon.
    #[must_use]
    pub fn daemon_lock(&self) -> PathBuf {
        self.run.join("daemon.lock")
    }

    /// Held by the machine process for as long as the machine lives.
    #[must_use]
    pub fn machine_lock(&self) -> PathBuf {
        self.run.join("machine.lock")
    }

    /// What the daemon has to say.
    #[must_use]
    pub fn daemon_log(&self) -> PathBuf {
        self.run.join("daemon.log")
    }

    /// What the guest's kernel prints.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        self.run.join("console.log")
    }

    /// The folder of the VM image: `LIGHTER_IMAGE_DIR`, else the one installed beside the
    /// program, else the one the image builder last made.
    #[must_use]
    pub fn image_dir(&self) -> PathBuf {
        if let Some(dir) = std::env::var_os("LIGHTER_IMAGE_DIR").filter(|v| !v.is_empty()) {
            return PathBuf::from(dir);
        }
        let installed = std::env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.parent()?.parent()?.join("share/lighter/image")))
            .filter(|dir| dir.join("manifest.json").exists());
        installed.unwrap_or_else(|| self.cache.join("image/current"))
    }
}

fn absolute(variable: &'static str, path: &Path) -> Result<PathBuf, PathsError> {
    if path.is_absolute() {
        return Ok(path.to_path_buf());
    }
    Err(PathsError::NotAbsolute {
        variable,
        value: path.to_path_buf(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_home(home: &str) -> Result<HostPaths, PathsError> {
        let environment = Environment {
            lighter_home: Some(home.into()),
            ..Environment::default()
        };
        HostPaths::from_environment(&environment, None)
    }

    #[test]
    fn lighter_home_holds_everything() {
        let root = std::env::temp_dir().join("l");
        let paths = with_home(root.to_str().unwrap()).unwrap();
        for dir in [&paths.config, &paths.data, &paths.cache, &paths.run] {
            assert!(dir.starts_with(&root), "{}", dir.display());
        }
    }

    #[test]
    fn relative_home_is_refused() {
        assert!(matches!(
            with_home("some/where"),
            Err(PathsError::NotAbsolute { .. })
        ));
    }

    #[test]
    fn sockets_that_would_not_fit_are_refused() {
        let long = std::env::temp_dir().join("x".repeat(100));
        let error = with_home(long.to_str().unwrap()).unwrap_err();
        assert!(matches!(error, PathsError::SocketPathTooLong(_)));
    }

    #[test]
    fn without_a_home_the_error_says_so() {
        let error = HostPaths::from_environment(&Environment::default(), None).unwrap_err();
        assert!(matches!(error, PathsError::NoHome));
    }
}
