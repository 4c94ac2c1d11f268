//! The names of sockets in the run directory, taken away when nobody listens there any more.
//!
//! Called by the daemon at its end, and by `lighter down` where it finds none. A name that stays stops nobody: its clients
//! are refused as if there was none, and the next daemon puts its own in its place.
//! Must never: take away what a daemon of this moment has made: whoever calls has the daemon's lock.

use std::fs;
use std::io;

use lighter_platform::sys::connect_local;
use lighter_platform::{FileLock, HostPaths};

/// Takes the names away by which another daemon would have found the machine and its helpers, unless it runs on.
///
/// No machine is started while the lock is held here.
pub(crate) fn forget_machine(paths: &HostPaths, _lock: &FileLock) {
    if FileLock::is_held(&paths.machine_lock()) {
        return;
    }
    for name in [
        lighter_machine::SOCKET,
        lighter_files::CONTROL_SOCKET,
        lighter_net::CONTROL_SOCKET,
    ] {
        // Gone already is as good.
        let _ = fs::remove_file(paths.run.join(name));
    }
}

/// Takes everything away that a daemon left which was killed. Nothing where there is a daemon, or one starts.
pub async fn forget_killed(paths: &HostPaths) {
    let Ok(lock) = FileLock::try_acquire(&paths.daemon_lock()) else {
        return;
    };
    forget_machine(paths, &lock);
    for socket in [paths.docker_socket(), paths.control_socket()] {
        // Those of a service manager are its own, and answer.
        let answer = connect_local(&socket).await;
        if answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            let _ = fs::remove_file(&socket);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::*;

    const MACHINE: [&str; 3] = ["machine.sock", "files.sock", "net.sock"];
    const DAEMON: [&str; 2] = ["docker.sock", "control.sock"];

    fn paths(run: &Path) -> HostPaths {
        let [config, data, cache] = ["config", "data", "cache"].map(|name| run.join(name));
        let run = run.to_owned();
        HostPaths {
            config,
            data,
            cache,
            run,
        }
    }

    fn listeners(run: &Path) -> Vec<UnixListener> {
        let names = MACHINE.iter().chain(&DAEMON);
        names
            .filter_map(|name| UnixListener::bind(run.join(name)).ok())
            .collect()
    }

    fn left(run: &Path) -> Vec<&'static str> {
        let names = MACHINE.into_iter().chain(DAEMON);
        names.filter(|name| run.join(name).exists()).collect()
    }

    #[tokio::test]
    async fn what_was_killed_leaves_no_names() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        assert_eq!(listeners(dir.path()).len(), 5);
        assert_eq!(left(dir.path()).len(), 5);
        forget_killed(&paths).await;
        assert_eq!(left(dir.path()), [""; 0]);
    }

    #[tokio::test]
    async fn names_of_whoever_is_there_stay() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        drop(listeners(dir.path()));
        let starts = FileLock::try_acquire(&paths.daemon_lock()).unwrap();
        forget_killed(&paths).await;
        assert_eq!(left(dir.path()).len(), 5);
        let runs = FileLock::try_acquire(&paths.machine_lock()).unwrap();
        forget_machine(&paths, &starts);
        assert_eq!(left(dir.path()).len(), 5);
        drop(starts);
        forget_killed(&paths).await;
        assert_eq!(left(dir.path()), MACHINE);
        drop(runs);
        // A service manager's.
        let _listens = UnixListener::bind(paths.docker_socket()).unwrap();
        forget_killed(&paths).await;
        assert_eq!(left(dir.path()), ["docker.sock"]);
    }
}
