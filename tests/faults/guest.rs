//! Ways to kill what is in the machine, from a container that was given the way in.

use std::process::{Child, Stdio};

use lighter_tests::Host;

/// The engine's process.
pub const ENGINE: &str = "lighter-agent";
/// The engine's child that becomes a container's first process.
pub const ENTER: &str = "lighter-enter";

/// The container that the killing is done from: made once, so that a kill needs no new one.
pub const KILLER: &str = "killer";

/// Starts the container that the killing is done from.
pub fn arm(host: &Host) {
    host.docker(&[
        "run",
        "-d",
        "--name",
        KILLER,
        "--privileged",
        "--pid=host",
        "busybox",
        "sleep",
        "1000000",
    ])
    .ok();
}

/// The machine was down: starts it again.
pub fn arm_again(host: &Host) {
    host.docker(&["start", KILLER]).ok();
}

/// Kills (SIGKILL) the engine; the next one serves when this returns.
pub fn kill_engine(host: &Host) {
    let before = engine(host);
    // The client loses its connection with the engine, so its own exit code says nothing.
    let _ = host.docker(&["exec", KILLER, "killall", "-9", ENGINE]);
    assert_ne!(engine(host), before, "the engine was not killed");
}

/// The engine's process id.
pub fn engine(host: &Host) -> String {
    let asked = host.docker(&["exec", KILLER, "pidof", ENGINE]);
    asked.ok().out()
}

/// Kills processes of this name, some microseconds from now; where there is none yet, as soon as there
/// is one, for a while. The client that asked for it ends with that, or dies with the engine.
pub fn kill_later(host: &Host, name: &str, after_us: u64) -> Child {
    let script = format!(
        "usleep {after_us}; i=0; until killall -9 {name} 2>/dev/null || [ $i = 100 ]; do \
         usleep 2000; i=$((i+1)); done"
    );
    client(host, &["exec", KILLER, "sh", "-c", &script])
}

/// A client in the background; its output is thrown away.
pub fn client(host: &Host, args: &[&str]) -> Child {
    let mut command = host.docker_command();
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("docker starts")
}

/// A field of inspect, trimmed.
pub fn inspect(host: &Host, name: &str, format: &str) -> String {
    host.docker(&["inspect", "-f", format, name])
        .ok()
        .out()
        .trim()
        .to_owned()
}

/// What must not change while a container runs on.
pub fn life(host: &Host, names: &[&str]) -> String {
    let format = "{{.Name}} {{.State.Running}} {{.State.Pid}} {{.State.StartedAt}}";
    let mut args = vec!["inspect", "-f", format];
    args.extend(names);
    host.docker(&args).ok().out()
}
