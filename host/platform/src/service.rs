//! Registration as a service of the user's session: the text of the systemd units and where
//! they go. Starting and enabling is the service manager's own command, run by the caller.

use std::path::{Path, PathBuf};

/// Why there is no registration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Nothing is written for this system's service manager.
    #[error("registration with the service manager of this system is not supported")]
    Unsupported,
    /// A path that no line of a unit file can hold.
    #[error("`{}` cannot stand in a unit file: it has a line break or is no text", .0.display())]
    Path(PathBuf),
}

impl ServiceError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unsupported => "nothing is needed: every `lighter` command starts the daemon",
            Self::Path(_) => "move it to a path of ordinary letters",
        }
    }
}

/// The units of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// Name and text of each unit file.
    pub files: Vec<(&'static str, String)>,
}

/// The name of the socket unit, which is what is enabled.
pub const SOCKET_UNIT: &str = "lighter.socket";
/// The name of the service unit.
pub const SERVICE_UNIT: &str = "lighter.service";

/// Writes the units for a program at `exe` with its sockets at the given paths.
///
/// The service manager listens and starts the daemon at the first connection. `KillMode=process`:
/// the virtual machine outlives a daemon that crashes, and the next one takes it over; a wanted
/// stop is SIGTERM, at which the daemon itself ends the machine, within the containers' own times
/// (hence no limit here).
///
/// # Errors
/// See [`ServiceError`].
pub fn systemd_units(
    exe: &Path,
    docker_socket: &Path,
    control_socket: &Path,
) -> Result<Units, ServiceError> {
    let home = std::env::var_os("LIGHTER_HOME").filter(|home| !home.is_empty());
    units(exe, docker_socket, control_socket, home.map(PathBuf::from))
}

fn units(
    exe: &Path,
    docker_socket: &Path,
    control_socket: &Path,
    home: Option<PathBuf>,
) -> Result<Units, ServiceError> {
    if crate::sys::SERVICE_MANAGER != Some("systemd") {
        return Err(ServiceError::Unsupported);
    }
    let socket = format!(
        "[Unit]\nDescription=Lighter: sockets\n\n[Socket]\nListenStream={}\nListenStream={}\n\
         SocketMode=0600\nDirectoryMode=0700\nRemoveOnStop=yes\n\n[Install]\nWantedBy=sockets.target\n",
        plain(docker_socket)?,
        plain(control_socket)?,
    );
    let environment = match home {
        Some(home) => format!("Environment=\"LIGHTER_HOME={}\"\n", quoted(&home)?),
        None => String::new(),
    };
    let service = format!(
        "[Unit]\nDescription=Lighter: Linux containers in a light virtual machine\n\
         Requires={SOCKET_UNIT}\nAfter={SOCKET_UNIT}\n\n[Service]\nExecStart=\"{}\" daemon\n{environment}\
         KillMode=process\nRestart=on-failure\nTimeoutStopSec=infinity\n",
        // In a command, and only there, a dollar begins a variable.
        quoted(exe)?.replace('$', "$$"),
    );
    Ok(Units {
        files: vec![(SOCKET_UNIT, socket), (SERVICE_UNIT, service)],
    })
}

/// Where a user's units lie.
#[must_use]
pub fn systemd_user_dir() -> Option<PathBuf> {
    directories::BaseDirs::new().map(|base| base.config_dir().join("systemd/user"))
}

/// A path as the rest of a line, where `%` begins a specifier.
fn plain(path: &Path) -> Result<String, ServiceError> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(char::is_control));
    let text = text.ok_or_else(|| ServiceError::Path(path.to_path_buf()))?;
    Ok(text.replace('%', "%%"))
}

/// A path between quotes, where `"` and `\` are quoting as well.
fn quoted(path: &Path) -> Result<String, ServiceError> {
    Ok(plain(path)?.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(exe: &str, home: Option<&str>) -> Result<Units, ServiceError> {
        units(
            Path::new(exe),
            Path::new("/r/docker.sock"),
            Path::new("/r/control.sock"),
            home.map(PathBuf::from),
        )
    }

    #[test]
    fn units_listen_on_both_sockets_and_start_the_daemon() {
        let made = made("/opt/50% $x/lighter", Some("/home/a \"b\""));
        if crate::sys::SERVICE_MANAGER.is_none() {
            assert_eq!(made, Err(ServiceError::Unsupported));
            return;
        }
        let units = made.unwrap();
        let socket = &units.files[0].1;
        assert!(socket.contains("ListenStream=/r/docker.sock\nListenStream=/r/control.sock\n"));
        assert!(socket.contains("SocketMode=0600"));
        let service = &units.files[1].1;
        assert!(service.contains("ExecStart=\"/opt/50%% $$x/lighter\" daemon\n"));
        assert!(service.contains("Environment=\"LIGHTER_HOME=/home/a \\\"b\\\"\"\n"));
    }

    #[test]
    fn a_path_cannot_add_lines_to_a_unit() {
        let made = made("/opt/x\nExecStartPre=/bin/evil", None);
        assert!(made.is_err(), "{made:?}");
    }
}
