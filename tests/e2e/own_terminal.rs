//! `lighter` at a terminal: typed into, resized, let go of, ended from outside; and strangers' text
//! that would steer it.

use std::time::{Duration, Instant};

use lighter_tests::terminal::Terminal;
use lighter_tests::{Host, env};

/// A shell at a terminal, with `l` as our command in the given home.
fn shell(host: &Host, test: &str) -> Option<Terminal> {
    let script = format!(
        "export LIGHTER_HOME={home} HOME={home} PS1='here> '; l() {{ {lighter} \"$@\"; }}; export -f l; \
         exec bash --norc --noprofile",
        home = host.home().display(),
        lighter = env::path(env::LIGHTER)?.display(),
    );
    let terminal = Terminal::open(
        test,
        80,
        24,
        &format!("exec bash -c '{}'", script.replace('\'', "'\\''")),
    );
    if terminal.is_none() {
        env::skip(test, "tmux is not installed");
    }
    terminal
}

fn type_line(terminal: &Terminal, line: &str) {
    terminal.keys(&["-l", line]);
    terminal.keys(&["Enter"]);
}

#[test]
fn our_own_run_is_typed_into_resized_detached_and_attached_again() {
    let name = "our_own_run_is_typed_into_resized_detached_and_attached_again";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let Some(terminal) = shell(host, "ownrun") else {
        return;
    };
    terminal.shows("here>");
    type_line(
        &terminal,
        "clear; l run -it --name owntyped busybox sh; echo outside $((5*11))",
    );
    terminal.shows("/ #");
    type_line(&terminal, "stty size; echo $((6*7))");
    terminal.shows("24 80");
    terminal.shows("42");
    terminal.resize(100, 30);
    type_line(
        &terminal,
        "until [ \"$(stty size)\" = '30 100' ]; do :; done; echo resized $((2+2))",
    );
    terminal.shows("resized 4");
    terminal.keys(&["C-p", "C-q"]);
    terminal.shows("outside 55");
    let running = ["inspect", "-f", "{{.State.Running}}", "owntyped"];
    assert_eq!(host.lighter(&running).ok().out(), "true\n");
    type_line(&terminal, "clear; l attach owntyped; echo code $?");
    terminal.keys(&["Enter"]);
    terminal.shows("/ #");
    // Ctrl-C is the container's, not ours.
    type_line(&terminal, "echo asleep $((40+4)); sleep 1000");
    terminal.shows("asleep 44");
    terminal.keys(&["C-c"]);
    type_line(&terminal, "echo again $((40+3)); exit 5");
    terminal.shows("again 43");
    terminal.shows("code 5");
    host.lighter(&["rm", "-f", "owntyped"]).ok();
}

#[test]
fn a_terminal_is_as_it_was_when_the_command_is_ended_from_outside() {
    let name = "a_terminal_is_as_it_was_when_the_command_is_ended_from_outside";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let Some(terminal) = shell(host, "ownend") else {
        return;
    };
    terminal.shows("here>");
    let before = "stty -g > $HOME/stty-before; clear";
    type_line(&terminal, before);
    let commands = [
        ("l run -it --name ownended busybox sh", 143),
        ("l attach ownended", 143),
        ("l exec -it ownended sh", 143),
    ];
    for (command, code) in commands {
        type_line(
            &terminal,
            &format!(
                "clear; {command}; echo code $?; stty -g | cmp - $HOME/stty-before && echo same $((1+1))"
            ),
        );
        let ours = format!("lighter {}", command.trim_start_matches("l "));
        // The screen may still show the last one's prompt: it is cleared once this one runs.
        let limit = Instant::now() + Duration::from_secs(60);
        while host.processes(&ours).is_empty() {
            assert!(Instant::now() < limit, "{command} does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        if command.contains("attach") {
            terminal.keys(&["Enter"]);
        }
        terminal.shows("/ #");
        let ended = host.signal("TERM", &ours);
        assert_eq!(ended, 1, "{command}");
        terminal.shows(&format!("code {code}"));
        terminal.shows("same 2");
        let running = ["inspect", "-f", "{{.State.Running}}", "ownended"];
        assert_eq!(host.lighter(&running).ok().out(), "true\n", "{command}");
    }
    host.lighter(&["rm", "-f", "ownended"]).ok();
}

#[test]
fn text_of_strangers_does_not_steer_the_terminal() {
    let Some(host) = Host::shared("text_of_strangers_does_not_steer_the_terminal") else {
        return;
    };
    let label = "evil=\u{1b}]0;title\u{7}\u{1b}[2Jcleared\u{9b}31mred";
    let create = [
        "create",
        "--name",
        "evil",
        "-l",
        label,
        "--network",
        "none",
        "busybox",
        "true",
    ];
    host.lighter(&create).ok();
    let format = "{{.Names}} {{.Labels}}";
    let args = ["ps", "-a", "--filter", "name=evil", "--format", format];
    // A pipe is given the data as it is, as docker gives it.
    let piped = host.lighter(&args).ok().out();
    assert_eq!(piped, host.docker(&args).ok().out());
    assert!(piped.contains('\u{1b}'));
    let Some(terminal) = shell(host, "ownevil") else {
        return;
    };
    terminal.shows("here>");
    type_line(
        &terminal,
        "clear; echo kept; script -qec \"bash -c \\\"l ps -a --format \\\\\\\"{{.Labels}}\\\\\\\"\\\"\" $HOME/evil-screen > /dev/null; echo done $((3*3))",
    );
    terminal.shows("done 9");
    let seen = std::fs::read_to_string(host.home().join("evil-screen")).expect("what was shown");
    let shown = seen
        .lines()
        .find(|line| line.contains("evil="))
        .expect("the label");
    assert!(shown.contains("cleared"), "{shown:?}");
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{shown:?}");
    host.lighter(&["rm", "evil"]).ok();
}
