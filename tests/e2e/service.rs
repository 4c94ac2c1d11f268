//! Beside the rest of the host: other users, the service manager, docker's contexts, the system's
//! socket.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lighter_tests::{Finished, Host, env, run};

/// Runs a script as root in a mount namespace with an empty `/run`: `L` is our program, `D` docker's.
fn script(host: &Host, script: &str) -> Finished {
    let path = |variable| env::path(variable).expect("it is there");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "bash", "-c"])
        .arg(format!("set -e; mount -t tmpfs tmpfs /run; cd /; {script}"))
        .env_remove("DOCKER_HOST")
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("LIGHTER_HOME")
        .env("L", path(env::LIGHTER))
        .env("D", path(env::DOCKER))
        .env("HOME", host.home());
    run(command, b"", Duration::from_secs(400))
}

fn fresh(test: &str) -> Option<Host> {
    let host = Host::new();
    if host.is_none() {
        env::skip(
            test,
            "the programs under test are not there: run `cargo xtask test`",
        );
    }
    host
}

/// Program and image where every user may look, and the folder that holds them.
fn readable_copies() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let done = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    let copy = |variable| {
        let from = env::path(variable).expect("it is there");
        let to = dir.path().join(variable);
        assert!(done(Command::new("cp").arg("-rL").args([&from, &to])));
        to
    };
    let (lighter, image) = (copy(env::LIGHTER), copy("LIGHTER_IMAGE_DIR"));
    assert!(done(
        Command::new("chmod").args(["-R", "a+rX"]).arg(dir.path())
    ));
    (dir, lighter, image)
}

/// A user of this host for one test.
struct User(String);

/// Tests of one process run beside each other.
static USERS: AtomicU32 = AtomicU32::new(0);

impl User {
    fn add() -> Option<Self> {
        let number = USERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("lighter-{}-{number}", std::process::id());
        let made = Command::new("useradd").args(["-m", &name]).output().ok()?;
        made.status.success().then_some(Self(name))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = Command::new("userdel").args(["-r", &self.0]).output();
    }
}

#[test]
fn another_user_is_sent_away_even_where_the_folders_are_open() {
    let name = "another_user_is_sent_away_even_where_the_folders_are_open";
    let Some(host) = Host::started(name) else {
        return;
    };
    let Some(user) = User::add() else {
        return env::skip(name, "useradd needs root");
    };
    let as_other = |socket: &str| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &user.0, "--regid", &user.0, "--clear-groups"])
            .arg(env::path(env::DOCKER).expect("a started host has it"))
            .args([
                "-H",
                &format!("unix://{}/run/{socket}", host.home().display()),
                "version",
            ])
            .env("HOME", "/nonexistent");
        run(command, b"", Duration::from_secs(60))
    };
    let closed = as_other("docker.sock");
    assert!(
        closed.err().contains("permission denied"),
        "{}",
        closed.err()
    );
    // As if somebody had opened everything by mistake.
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
    };
    open(host.home(), 0o755);
    open(&host.home().join("run"), 0o755);
    for socket in ["docker.sock", "control.sock"] {
        open(&host.home().join("run").join(socket), 0o666);
        let sent_away = as_other(socket);
        assert_ne!(sent_away.code, 0, "{socket}: {}", sent_away.out());
        assert!(
            !sent_away.out().contains("Server:"),
            "{socket}: {}",
            sent_away.out()
        );
        assert!(
            !sent_away.err().contains("permission denied"),
            "{socket}: {}",
            sent_away.err()
        );
    }
    // The user's own are served on.
    host.docker(&["version"]).ok();
}

#[test]
fn units_are_what_the_service_manager_accepts() {
    let name = "units_are_what_the_service_manager_accepts";
    let Some(host) = fresh(name) else { return };
    let installed = host.lighter(&["service", "install"]).ok();
    assert!(
        installed.err().contains("lighter.socket"),
        "{}",
        installed.err()
    );
    let units = host.home().join(".config/systemd/user");
    let mut verify = Command::new("systemd-analyze");
    verify
        .args(["verify", "--user", "--man=no"])
        .args(["lighter.socket", "lighter.service"].map(|unit| units.join(unit)))
        .env("HOME", host.home())
        .env("XDG_RUNTIME_DIR", host.home());
    if verify.output().is_err() {
        return env::skip(name, "systemd is not installed");
    }
    let verified = run(verify, b"", Duration::from_secs(60)).ok();
    assert_eq!(verified.err(), "");
    host.lighter(&["service", "uninstall"]).ok();
    assert_eq!(std::fs::read_dir(&units).expect("the folder").count(), 0);
}

/// Starts a service manager of the user `U` in delegated cgroups and runs `$S` as that user.
const MANAGER: &str = r#"
for tree in systemd unified; do
  mkdir -p /sys/fs/cgroup/$tree/$U && chown -R $U: /sys/fs/cgroup/$tree/$U && echo $$ > /sys/fs/cgroup/$tree/$U/cgroup.procs || exit 77
done
R=/run/user/$(id -u $U); mkdir -p /run/systemd/system $R; chown $U: $R; chmod 700 $R
as() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/home/$U XDG_RUNTIME_DIR=$R LIGHTER_IMAGE_DIR=$LIGHTER_IMAGE_DIR L=$L setpriv --reuid $U --regid $U --clear-groups bash -c "cd; $1"; }
as 'exec /usr/lib/systemd/systemd --user' > /dev/null 2>&1 &
manager=$!
until as 'systemctl --user is-system-running' > /dev/null 2>&1; do kill -0 $manager 2>/dev/null || exit 77; done
code=0; as "$S" || code=$?
as '$L down; $L service uninstall; systemctl --user exit' > /dev/null 2>&1 || true
wait
for tree in systemd unified; do
  echo $$ > /sys/fs/cgroup/$tree/cgroup.procs; find /sys/fs/cgroup/$tree/$U -depth -type d -exec rmdir {} +
done
exit $code
"#;

#[test]
fn a_real_service_manager_starts_takes_over_and_stops_the_daemon() {
    let name = "a_real_service_manager_starts_takes_over_and_stops_the_daemon";
    let Some(host) = fresh(name) else { return };
    let Some(user) = User::add() else {
        return env::skip(name, "useradd needs root");
    };
    let steps = r#"set -e
        # Its containers run on while the service takes a running machine over.
        $L up; $L run -d --name steady --network none lighter/hello sh -c "trap \"exit 7\" TERM; while :; do sleep 0.1; done"
        before=$($L inspect -f "{{.State.StartedAt}}" steady)
        $L service install
        test "$($L inspect -f "{{.State.StartedAt}} {{.State.Running}}" steady)" = "$before true"
        systemctl --user is-active lighter.socket lighter.service
        # Stopped by the manager, containers get their time; the next connection starts it again.
        systemctl --user stop lighter.service
        test "$($L inspect -f "{{.State.ExitCode}}" steady)" = 7
        $L down; systemctl --user is-active lighter.socket
        $L run --rm --network none lighter/hello echo through the socket"#;
    let (_copies, lighter, image) = readable_copies();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "bash", "-c"])
        .arg(format!("mount -t tmpfs tmpfs /run; {MANAGER}"))
        .env("L", lighter)
        .env("LIGHTER_IMAGE_DIR", image)
        .env("U", &user.0)
        .env("S", steps)
        .env("HOME", host.home());
    let ran = run(command, b"", Duration::from_secs(600));
    if ran.code == 77 {
        return env::skip(name, "no service manager of a user can be started here");
    }
    let ran = ran.ok();
    assert!(
        ran.out().contains("through the socket"),
        "{}{}",
        ran.out(),
        ran.err()
    );
}

#[test]
fn the_docker_context_is_made_selected_and_given_back() {
    let Some(host) = fresh("the_docker_context_is_made_selected_and_given_back") else {
        return;
    };
    let steps = "trap '$L down' EXIT
        $L up 2>&1; $D context show; $D run --rm lighter/hello echo by context; $L up 2>&1 | tail -n +2
        $L context remove 2>&1; $D context show
        $D context create work --docker host=unix:///nowhere.sock > /dev/null; $D context use work > /dev/null
        echo ---; $L up 2>&1 | tail -n +2; $D context show
        $L context use 2>&1; $D context show; $L context remove 2>&1; $D context show";
    let ran = script(&host, steps).ok();
    let out = ran.out();
    let lines: Vec<&str> = out
        .lines()
        .filter(|line| !line.contains("lighter is up"))
        .collect();
    let expected = [
        "docker talks to lighter now (context `lighter`)",
        "SDKs and tools that ignore contexts: `eval \"$(lighter env)\"`",
        "lighter",
        "by context",
        "the docker context `lighter` is removed",
        "default",
        "---",
        "to point docker at lighter: `docker context use lighter`",
        "SDKs and tools that ignore contexts: `eval \"$(lighter env)\"`",
        "work",
        "docker talks to lighter now (context `lighter`)",
        "lighter",
        "the docker context `lighter` is removed",
        "work",
    ];
    assert_eq!(lines, expected, "{}", ran.err());
}

#[test]
fn the_systems_socket_is_linked_once_and_an_engine_there_is_left_alone() {
    let name = "the_systems_socket_is_linked_once_and_an_engine_there_is_left_alone";
    let Some(host) = fresh(name) else { return };
    let steps = "export LIGHTER_HOME=$HOME/one; trap '$L down' EXIT
        $L system link 2>&1; $L system link 2>&1; $L up 2>/dev/null
        $D run --rm lighter/hello echo by the link
        # Somebody answers there: another installation neither takes the place nor the context.
        unset LIGHTER_HOME; $L up 2>&1 | grep -v 'is up'; $D context show
        $L system link 2>&1 || echo code $?
        $L down 2>/dev/null; export LIGHTER_HOME=$HOME/one
        $L system unlink 2>&1; ls /run/docker.sock 2>&1 || true";
    let ran = script(&host, steps).ok();
    let home = host.home().display();
    let out = ran.out().replace(&home.to_string(), "HOME");
    let expected = "/var/run/docker.sock leads to HOME/one/run/docker.sock\n\
        the link is there already\n\
        by the link\n\
        to point docker at lighter: `docker context use lighter`\n\
        SDKs and tools that ignore contexts: `eval \"$(lighter env)\"`\n\
        default\n\
        error: `/var/run/docker.sock` is there already\n\n\
        hint: another Docker engine uses it; stop that one and remove the file first\n\
        code 1\n\
        /var/run/docker.sock no longer leads to HOME/one/run/docker.sock\n\
        ls: cannot access '/run/docker.sock': No such file or directory\n";
    assert_eq!(out, expected, "{}", ran.err());
}
