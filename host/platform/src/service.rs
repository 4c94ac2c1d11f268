//! Registration as a service of the user's session: the text of the systemd units and where
//! they go. Starting and enabling is the service manager's own command, run by the caller.

use std::path::{Path, PathBuf};

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
/// stop is SIGTERM, at which the daemon itself ends the machine.
#[must_use]
pub fn systemd_units(exe: &Path, docker_socket: &Path, control_socket: &Path) -> Units {
    let socket = format!(
        "[Unit]\nDescription=Lighter: sockets\n\n[Socket]\nListenStream={}\nListenStream={}\n\
         SocketMode=0600\nDirectoryMode=0700\nRemoveOnStop=yes\n\n[Install]\nWantedBy=sockets.target\n",
        escape(docker_socket),
        escape(control_socket),
    );
    let home = std::env::var("LIGHTER_HOME")
        .ok()
        .filter(|home| !home.is_empty());
    let environment = home
        .map(|home| {
            format!(
                "Environment=\"LIGHTER_HOME={}\"\n",
                escape(Path::new(&home))
            )
        })
        .unwrap_or_default();
    let service = format!(
        "[Unit]\nDescription=Lighter: Linux containers in a light virtual machine\n\
         Requires={SOCKET_UNIT}\nAfter={SOCKET_UNIT}\n\n[Service]\nExecStart=\"{}\" daemon\n{environment}\
         KillMode=process\nRestart=on-failure\nTimeoutStopSec=120\n",
        escape(exe),
    );
    Units {
        files: vec![(SOCKET_UNIT, socket), (SERVICE_UNIT, service)],
    }
}

/// Where a user's units lie.
#[must_use]
pub fn systemd_user_dir() -> Option<PathBuf> {
    directories::BaseDirs::new().map(|base| base.config_dir().join("systemd/user"))
}

/// `%` begins a specifier in unit files, `"` and `\` are quoting.
fn escape(path: &Path) -> String {
    path.to_string_lossy()
        .replace('%', "%%")
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_listen_on_both_sockets_and_start_the_daemon() {
        let units = systemd_units(
            Path::new("/opt/50%/lighter"),
            Path::new("/r/docker.sock"),
            Path::new("/r/control.sock"),
        );
        let socket = &units.files[0].1;
        assert!(socket.contains("ListenStream=/r/docker.sock\nListenStream=/r/control.sock\n"));
        assert!(socket.contains("SocketMode=0600"));
        assert!(
            units.files[1]
                .1
                .contains("ExecStart=\"/opt/50%%/lighter\" daemon\n")
        );
    }
}
