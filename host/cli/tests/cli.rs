//! The command line as a person sees it: what is printed where, and the exit code.
//!
//! The texts lie in `snapshots/`; `LIGHTER_UPDATE_SNAPSHOTS=1 cargo test` writes them anew, and
//! the difference is for the reviewer.

mod support;

use support::{Home, snapshot};

#[test]
fn help_of_every_command_is_as_reviewed() {
    let home = Home::new();
    let top = home.run(&["--help"]);
    snapshot("help", &top.shown());
    let commands: Vec<&str> = top
        .out
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 30, "{commands:?}");
    let all: String = commands
        .iter()
        .map(|command| format!("## {command}\n{}\n", home.run(&[command, "--help"]).shown()))
        .collect();
    snapshot("help_of_commands", &all);
}

#[test]
fn wrong_command_lines_say_what_is_wrong_and_what_next() {
    let home = Home::new();
    let cases: &[&[&str]] = &[
        &[],
        &["frob"],
        &["statr"],
        &["build", "."],
        &["run"],
        &["run", "--memroy", "1g", "busybox"],
        &["run", "--gpus", "all", "busybox"],
        &["run", "-m", "much", "busybox"],
        &["run", "-p", "http", "busybox"],
        &["run", "-v", ":/x", "busybox"],
        &["run", "--mount", "type=bind,frob=1", "busybox"],
        &["run", "--pull", "sometimes", "busybox"],
        &["run", "-d", "-a", "stdout", "busybox"],
        &["exec", "x"],
        &["rm"],
        &["config", "get", "memroy"],
        &["config", "set", "cpus", "0"],
        &["config", "set", "memory", "lots"],
        &["config", "set", "memory"],
        &["config", "set", "cpus", "1", "memory"],
        &[
            "config",
            "set",
            "engine.bip",
            "10.9.0.1/24",
            "engine.fixed-cidr",
            "10.8.0.0/25",
        ],
        &["config", "unset"],
        &["config", "unset", "memroy"],
        &["config", "frob"],
    ];
    let mut all = String::new();
    for case in cases {
        all.push_str(&format!(
            "$ lighter {}\n{}\n",
            case.join(" "),
            home.run(case).shown()
        ));
    }
    snapshot("errors", &all);
}

#[test]
fn settings_are_listed_set_and_read() {
    let home = Home::new();
    assert_eq!(home.run(&["config", "set", "cpus", "2"]).code, 0);
    let set = home.run(&[
        "config",
        "set",
        "engine.insecure-registries",
        "localhost:5000",
    ]);
    assert_eq!((set.code, set.out.as_str(), set.err.as_str()), (0, "", ""));
    assert_eq!(home.run(&["config", "get", "cpus"]).out, "2\n");
    let list = home.run(&["config", "list"]).out;
    assert!(
        list.contains("engine.insecure-registries      [\"localhost:5000\"]"),
        "{list}"
    );
    let together = [
        "config",
        "set",
        "engine.bip",
        "10.9.0.1/24",
        "engine.fixed-cidr",
        "10.9.0.128/25",
    ];
    assert_eq!(home.run(&together).code, 0);
    let unset = home.run(&["config", "unset", "engine.bip", "cpus"]);
    assert_eq!(
        (unset.code, unset.out.as_str(), unset.err.as_str()),
        (0, "", "")
    );
    let bip = home.run(&["config", "get", "engine.bip"]);
    assert_eq!((bip.code, bip.out.as_str()), (0, "\n"));
    let range = home.run(&["config", "get", "engine.fixed-cidr"]).out;
    assert_eq!(range, "10.9.0.128/25\n");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let home = Home::new();
    let ended = home.shell("\"$LIGHTER\" run --help | head -1; echo ${PIPESTATUS[0]}");
    assert!(ended.out.ends_with("\n0\n"), "{ended:?}");
    assert_eq!(ended.err, "");
}

#[test]
fn env_prints_one_line_for_a_shell() {
    let home = Home::new();
    let env = home.run(&["env"]).out;
    let expected = "export DOCKER_HOST='unix://$HOME/run/docker.sock'
";
    assert_eq!(env, expected);
}

#[test]
fn an_argument_that_is_no_text_is_said_to_be() {
    let home = Home::new();
    for command in ["\"$LIGHTER\" logs $'caf\\xe9'", "\"$LIGHTER\" $'caf\\xe9'"] {
        let ended = home.shell(&format!("{command}; echo $?"));
        assert!(ended.err.contains("caf\u{fffd}`"), "{ended:?}");
        assert!(!ended.err.contains("panicked"), "{ended:?}");
        assert!(["125\n", "1\n"].contains(&ended.out.as_str()), "{ended:?}");
    }
}
