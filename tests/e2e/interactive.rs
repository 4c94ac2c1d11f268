//! A person at a terminal.

use lighter_tests::terminal::Terminal;
use lighter_tests::{Host, env};

#[test]
fn shell_is_typed_into_resized_detached_and_attached_again() {
    let name = "shell_is_typed_into_resized_detached_and_attached_again";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let docker = env::path(env::DOCKER).expect("a shared host has it");
    let to = format!(
        "DOCKER_HOST=unix://{} {}",
        host.socket().display(),
        docker.display()
    );
    let Some(terminal) = Terminal::open(
        "shell",
        80,
        24,
        &format!("{to} run -it --name typed busybox sh; clear; echo outside $((5*11)); exec sh"),
    ) else {
        env::skip(name, "tmux is not installed");
        return;
    };
    terminal.shows("/ #");
    terminal.keys(&["stty size; echo $((6*7))", "Enter"]);
    terminal.shows("24 80");
    terminal.shows("42");
    terminal.resize(100, 30);
    // The new size reaches the container a moment after the window has it.
    let wait = "until [ \"$(stty size)\" = '30 100' ]; do :; done; echo resized $((2+2))";
    terminal.keys(&[wait, "Enter"]);
    terminal.shows("resized 4");
    terminal.keys(&["C-p", "C-q"]);
    terminal.shows("outside 55");
    assert_eq!(
        host.docker(&["inspect", "-f", "{{.State.Running}}", "typed"])
            .ok()
            .out(),
        "true\n"
    );
    // Nothing is typed before the one who is to read it shows its prompt: a client that ends takes
    // with it what was typed ahead.
    let attach = format!("{to} attach typed; echo code $?");
    terminal.keys(&[&attach, "Enter"]);
    terminal.keys(&["Enter"]);
    terminal.shows("/ #");
    terminal.keys(&["echo again $((40+3)); exit 5", "Enter"]);
    terminal.shows("again 43");
    terminal.shows("code 5");
    host.docker(&["rm", "-f", "typed"]).ok();
}
