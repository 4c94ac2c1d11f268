//! `lighter X` beside `docker X` on one engine, command line by command line: the same standard
//! output, the same exit code, and the same words on standard error.
//!
//! What is not the same, by intention: the programs' names, docker's prefixes ("Error response from
//! daemon") where ours is "error", docker's usage lines where ours are hints, and its advice to have
//! another program build.

use lighter_tests::{Finished, Host, env};

/// What a person reads in docker's standard error, without its prefixes and usage lines.
fn of_docker(run: &Finished) -> String {
    let prefixes = ["docker: ", "Error response from daemon: ", "Error: "];
    let is_usage = |line: &&str| {
        ["Usage:", "Run 'docker", "SRun 'docker", "See 'docker"]
            .iter()
            .any(|p| line.starts_with(p))
    };
    let is_advice = |line: &&str| {
        [
            "DEPRECATED: The legacy builder",
            "Install the buildx component",
            // What remains of an error that it has told already.
            "exit status 1",
            "https://docs.docker.com/go/buildx/",
        ]
        .iter()
        .any(|words| line.trim_start().starts_with(words))
    };
    let text = run.err();
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !is_usage(line) && !is_advice(line));
    let words = lines.map(|line| {
        let line = prefixes
            .iter()
            .fold(line, |l, p| l.strip_prefix(p).unwrap_or(l));
        let line = line.replace("'docker ", "'lighter ");
        line.replacen("WARNING: ", "warning: ", 1) + "\n"
    });
    words.collect()
}

/// The same of ours.
fn of_lighter(run: &Finished) -> String {
    let text = run.err();
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("hint: "));
    let words = lines.map(|line| {
        let line = line.strip_prefix("error: ").unwrap_or(line);
        line.replacen("WARNING: ", "warning: ", 1) + "\n"
    });
    words.collect()
}

/// Runs each line by both; asked again if they differ, as an age may have changed meanwhile.
pub fn same(host: &Host, lines: &[&[&str]]) {
    let differences: Vec<String> = lines
        .iter()
        .filter_map(|line| (0..3).map(|_| difference(host, line)).reduce(Option::and))
        .flatten()
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn difference(host: &Host, line: &[&str]) -> Option<String> {
    let (theirs, ours) = (host.docker(line), host.lighter(line));
    let said = |run: &Finished, err: String| format!("code {}\n{}{err}", run.code, run.out());
    let (theirs, ours) = (
        said(&theirs, of_docker(&theirs)),
        said(&ours, of_lighter(&ours)),
    );
    (theirs != ours).then(|| format!("--- docker {line:?}\n{theirs}--- lighter\n{ours}"))
}

#[test]
fn wrong_command_lines_are_refused_in_dockers_words_and_codes() {
    let name = "wrong_command_lines_are_refused_in_dockers_words_and_codes";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let lines: &[&[&str]] = &[
        &["ps", "--bad"],
        &["ps", "-aqz"],
        &["ps", "a"],
        &["ps", "--filter", "xy"],
        &["ps", "-a", "--filter", "x=y"],
        &["images", "a", "b"],
        &["images", "--filter", "nosuch=1"],
        &["images", "--format", "{{.ID"],
        &["rm"],
        &["port"],
        &["port", "nosuch"],
        &["port", "a", "b", "c"],
        &["tag", "busybox"],
        &["rename", "x"],
        &["logs"],
        &["logs", "a", "b"],
        &["attach"],
        &["info", "x"],
        &["pull"],
        &["pull", "BadName"],
        &["pull", "busybox:a:b"],
        &["push"],
        &["push", "BadName"],
        &["push", "-a", "busybox:1"],
        &["push", "localhost:1/nobody"],
        &["image", "push", "-q", "localhost:1/nobody:x"],
        &["run"],
        &["exec"],
        &["exec", "nosuch"],
        &["save"],
        &["load", "-i", "/nonexistent"],
        &["login", "--username", "x", "localhost:1"],
        &["events", "--since", "bad", "--until", "1"],
        &["events", "--filter", "nosuch=1", "--until", "1"],
        &["stop", "-t", "x", "nosuch"],
        &["run", "-m", "much", "busybox"],
        &["run", "--cpus", "x", "busybox"],
        &["run", "--ulimit", "x", "busybox"],
        &["run", "--stop-timeout", "x", "busybox"],
        &["run", "--health-interval", "x", "busybox"],
        &["run", "--health-interval", "5", "busybox"],
        &["run", "--health-timeout", "-1s", "busybox"],
        &["run", "--no-healthcheck", "--health-cmd", "x", "busybox"],
        &["run", "-p", "http", "busybox"],
        &["run", "--mount", "type=bind,frob=1", "busybox"],
        &["run", "--pull", "sometimes", "busybox"],
        &["run", "-d", "-a", "stdout", "busybox"],
        &["run", "-a", "nowhere", "busybox"],
        &["run", "--env-file", "/nonexistent", "busybox"],
        &["run", "--security-opt", "seccomp=/nonexistent", "busybox"],
        &["run", "--rm", "--restart", "always", "busybox"],
        &["run", "--rm", "-it", "busybox", "true"],
        &["run", "--rm", "Bad", "true"],
        &["volume", "create", "a/b"],
        &["volume", "rm"],
    ];
    same(host, lines);
}

#[test]
fn what_the_engine_refuses_is_told_in_the_same_words() {
    let Some(host) = Host::shared("what_the_engine_refuses_is_told_in_the_same_words") else {
        return;
    };
    let verbs = [
        "rm", "start", "stop", "restart", "kill", "wait", "pause", "unpause", "logs", "attach",
        "inspect", "rmi", "save",
    ];
    let missing: Vec<[&str; 2]> = verbs.iter().map(|verb| [*verb, "nosuch"]).collect();
    let lines: Vec<&[&str]> = missing.iter().map(|line| line.as_slice()).collect();
    same(host, &lines);
    let run = |rest: &[&'static str]| [&["run", "--rm", "--network", "none"], rest].concat();
    let lines = [
        vec!["exec", "nosuch", "true"],
        vec!["exec", "-it", "nosuch", "true"],
        vec!["rename", "nosuch", "y"],
        vec!["tag", "nosuch", "x"],
        vec!["rm", "-f", "nosuch"],
        vec!["rmi", "-f", "nosuch"],
        vec!["start", "nosuch", "nor-this"],
        vec!["kill", "-s", "NOSUCH", "nosuch"],
        vec!["pull", "localhost:1/x"],
        vec!["load", "-i", "/etc/passwd"],
        vec!["volume", "rm", "nosuch"],
        vec!["volume", "inspect", "nosuch"],
        vec!["create", "--name", "a b", "busybox"],
        run(&["--pull", "never", "nosuch:1"]),
        run(&["-m", "1k", "busybox", "true"]),
        run(&["-v", "x:y:z:w", "busybox", "true"]),
        run(&["-v", "/nonexistent:/x", "busybox", "true"]),
        run(&[
            "--mount",
            "type=bind,src=/tmp/nonexistent,dst=/x",
            "busybox",
            "true",
        ]),
        run(&["-u", "nosuch", "busybox", "true"]),
        run(&["-w", "relative", "busybox", "true"]),
        run(&["-p", "80:80", "busybox", "true"]),
        run(&["--stop-signal", "NOSUCH", "busybox", "true"]),
        run(&["busybox", "no-such-program"]),
        run(&["busybox", "/etc"]),
    ];
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    same(host, &lines);
}

#[test]
fn what_runs_prints_and_ends_the_same() {
    let Some(host) = Host::shared("what_runs_prints_and_ends_the_same") else {
        return;
    };
    let run = |rest: &[&'static str]| [&["run", "--rm", "--network", "none"], rest].concat();
    let script = "echo out; echo err >&2; exit 7";
    let lines = [
        run(&["busybox", "sh", "-c", script]),
        run(&["--init", "busybox", "sh", "-c", "kill -9 $$"]),
        run(&["busybox", "sh", "-c", "exit 300"]),
        run(&[
            "-e",
            "A=1",
            "--env",
            "B",
            "-h",
            "boat",
            "-w",
            "/tmp",
            "-u",
            "5:6",
            "busybox",
            "sh",
            "-c",
            "env | grep -v HOME | sort; pwd; id",
        ]),
        run(&["--entrypoint", "echo", "-l", "a=b", "busybox", "x", "-t"]),
        run(&[
            "-h",
            "boat",
            "--add-host",
            "a.test:10.0.0.1",
            "busybox",
            "sh",
            "-c",
            "hostname; tail -2 /etc/hosts | head -1",
        ]),
        run(&[
            "-m",
            "32m",
            "--cpus",
            ".5",
            "--pids-limit",
            "50",
            "busybox",
            "cat",
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/cpu.max",
            "/sys/fs/cgroup/pids.max",
        ]),
        run(&[
            "--device-write-bps",
            "/dev/vda:1mb",
            "--blkio-weight",
            "200",
            "--device-cgroup-rule",
            "c 1:3 r",
            "busybox",
            "true",
        ]),
        run(&[
            "--cap-drop",
            "ALL",
            "--cap-add",
            "CHOWN",
            "--security-opt",
            "no-new-privileges",
            "busybox",
            "grep",
            "-E",
            "CapEff|NoNewPrivs",
            "/proc/self/status",
        ]),
        run(&[
            "--tmpfs",
            "/t:size=1m",
            "--read-only",
            "--shm-size",
            "8m",
            "--ulimit",
            "nofile=50",
            "busybox",
            "sh",
            "-c",
            "df -k /t /dev/shm | tail -2; ulimit -n; touch /x",
        ]),
        run(&["-a", "stderr", "busybox", "sh", "-c", script]),
        vec![
            "info",
            "-f",
            "{{.Driver}} {{.NCPU}} {{json .SecurityOptions}}",
        ],
        vec![
            "version",
            "-f",
            "{{.Server.Version}} {{.Server.Os}}/{{.Server.Arch}}",
        ],
    ];
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    same(host, &lines);
    // Of these, the part about the engine.
    for verb in ["info", "version"] {
        let part = |run: Finished| {
            let out = run.ok().out();
            let part = &out[out.find("Server:").expect("a part on the server")..];
            // Other tests have containers meanwhile.
            let counts = ["Containers:", "Running:", "Paused:", "Stopped:", "Images:"];
            let steady = part
                .lines()
                .filter(|line| !counts.iter().any(|c| line.trim_start().starts_with(c)));
            steady.map(|line| format!("{line}\n")).collect::<String>()
        };
        assert_eq!(part(host.lighter(&[verb])), part(host.docker(&[verb])));
    }
}

#[test]
fn lists_filters_and_templates_are_the_same() {
    let Some(host) = Host::shared("lists_filters_and_templates_are_the_same") else {
        return;
    };
    let make = [
        "create",
        "--name",
        "words",
        "-l",
        "a=b",
        "-l",
        "c=d",
        "-v",
        "/x",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1",
    ];
    host.lighter(&make).ok();
    let ps = |rest: &[&'static str]| [&["ps", "-a", "--filter", "name=words"], rest].concat();
    let inspect = |template| vec!["inspect", "-f", template, "words"];
    let lines = [
        ps(&[]),
        ps(&["-s"]),
        ps(&["-q"]),
        ps(&["--no-trunc"]),
        ps(&["-q", "--no-trunc"]),
        ps(&["-q", "--format", "table"]),
        ps(&["-q", "--format", "{{.Names}}"]),
        ps(&[
            "--format",
            "{{.Label \"a\"}} {{.CreatedAt}} {{.Networks}} {{.State}}",
        ]),
        ps(&["--format", "table {{.Names}}\\t{{.Labels}}"]),
        ps(&["--filter", "label=nosuch"]),
        vec!["ps", "--filter", "name=words"],
        vec!["images", "-q", "--format", "table", "lighter/hello"],
        vec!["images", "--no-trunc", "lighter/hello"],
        vec![
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}} {{.CreatedAt}}",
            "lighter/hello",
        ],
        inspect("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}"),
        inspect("{{.Config.Entrypoint}}{{.HostConfig.Binds}}{{.Config.Labels}}"),
        inspect("{{printf \"%.12s|%-8s|\" .Id .State.Status}}{{len .Mounts}}"),
        inspect("{{if and (not .State.Running) (eq .State.ExitCode 0)}}new{{else}}old{{end}}"),
        inspect(
            "{{(index .Mounts 0).Destination}} {{json .Config.Cmd}} {{join .Config.Cmd \"+\"}}",
        ),
        inspect("{{with .Config.User}}{{.}}{{else}}nobody{{end}} {{.Name | upper}}"),
        vec![
            "events",
            "--since",
            "10m",
            "--until",
            "0s",
            "--filter",
            "container=words",
            "--filter",
            "event=create",
        ],
        vec![
            "events",
            "--since",
            "10m",
            "--until",
            "0s",
            "--filter",
            "container=words",
            "--format",
            "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}",
        ],
    ];
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    same(host, &lines);
    host.lighter(&["rm", "-v", "words"]).ok();
}

#[test]
fn what_containers_run_and_use_is_shown_the_same() {
    let name = "what_containers_run_and_use_is_shown_the_same";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let script = "sleep 1001 & exec sleep 1002";
    let make = [
        "run",
        "-d",
        "--name",
        "uses",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    host.lighter(&make).ok();
    host.lighter(&["create", "--name", "unused", "busybox"])
        .ok();
    let stats = |rest: &[&'static str]| [&["stats", "--no-stream"], rest].concat();
    let lines = [
        vec!["top", "uses", "-o", "pid,ppid,tty,args"],
        vec!["top", "uses", "-eo", "pid,user,args"],
        vec!["container", "top", "uses", "-o", "pid,comm"],
        vec!["top", "uses", "-o", "user"],
        vec!["top", "unused"],
        vec!["top", "nosuch"],
        vec!["top"],
        stats(&["unused"]),
        stats(&[
            "--format",
            "{{.Name}} {{.PIDs}} {{.Container}} {{.ID}}",
            "uses",
        ]),
        stats(&[
            "--no-trunc",
            "--format",
            "table {{.ID}}\\t{{.MemPerc}}",
            "unused",
        ]),
        stats(&["--format", "json", "unused"]),
        stats(&["nosuch"]),
        stats(&["uses", "nosuch"]),
        stats(&["--format", "{{.Bogus", "uses"]),
        vec!["stats", "nosuch"],
    ];
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    same(host, &lines);
    let names = |run: Finished| {
        let out = run.ok().out();
        let names = out.lines().filter(|name| name.starts_with("u"));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let df = |rest: &[&'static str]| [&["system", "df"], rest].concat();
    let lines = [
        df(&["--format", "{{.Bogus"]),
        df(&["x"]),
        df(&[
            "-v",
            "--format",
            "{{range .Volumes}}{{.Name}}{{end}}{{len .BuildCache}}",
        ]),
        vec!["system", "prune", "--filter", "until=1h", "--volumes"],
        vec!["system", "prune", "--filter", "label=x", "-a"],
        vec!["container", "prune"],
        vec!["container", "prune", "-f", "--filter", "label=nosuch"],
        vec!["container", "prune", "-f", "--filter", "bogus=1"],
        vec!["container", "prune", "-f", "--filter", "until=bogus"],
        vec!["image", "prune", "-a"],
        vec!["image", "prune", "-af", "--filter", "label=nosuch"],
        vec!["volume", "prune"],
        vec!["volume", "prune", "-f", "--filter", "label=nosuch"],
        vec!["volume", "prune", "-a", "--filter", "all=1"],
        vec!["system", "prune", "-f", "--filter", "label=nosuch"],
        vec!["network", "prune"],
        vec!["network", "prune", "-f"],
        vec!["network", "prune", "-f", "--filter", "bogus=1"],
        vec!["builder", "prune"],
        vec!["builder", "prune", "-a"],
        vec!["builder", "prune", "-af", "--keep-storage", "1g"],
        vec!["builder", "prune", "-f", "--keep-storage", "x"],
        vec!["builder", "prune", "-f", "--filter", "until=bogus"],
        vec!["network", "ls"],
        vec!["network", "list", "--no-trunc", "-q"],
        vec!["network", "ls", "--filter", "driver=host", "-q"],
        vec!["network", "ls", "--filter", "bogus=1"],
        vec!["network", "ls", "--format", "json"],
        vec![
            "network",
            "ls",
            "--format",
            "table {{.CreatedAt}}\\t{{.IPv4}}\\t{{.IPv6}}\\t{{.Internal}}\\t{{.Labels}}",
        ],
        vec!["network", "inspect", "none", "nosuch"],
        vec![
            "network",
            "inspect",
            "-v",
            "--format",
            "{{.Driver}}",
            "host",
        ],
    ];
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    same(host, &lines);
    // Other tests have containers and images meanwhile.
    let heads = |run: Finished| run.ok().out().lines().next().map(str::to_owned);
    for line in [
        df(&[]),
        df(&["-v"]),
        df(&["--format", "table {{.Type}}\\t{{.Active}}"]),
    ] {
        assert_eq!(heads(host.lighter(&line)), heads(host.docker(&line)));
    }
    let all = stats(&["-a", "--format", "{{.Name}}"]);
    assert_eq!(names(host.lighter(&all)), ["unused", "uses"]);
    assert_eq!(
        names(host.lighter(&stats(&["--format", "{{.Name}}"]))),
        ["uses"]
    );
    host.lighter(&["rm", "-f", "uses", "unused"]).ok();
}

/// The flags of a command, from docker's own help.
fn flags_of(host: &Host, command: &[&str]) -> Vec<String> {
    let args = [command, &["--help"]].concat();
    let help = host.docker(&args).ok().out();
    let words = help
        .lines()
        .filter(|line| line.starts_with(' '))
        .flat_map(|line| line.split_whitespace().take(2));
    let flags = words.map(|word| word.trim_end_matches(','));
    flags
        .filter(|word| word.starts_with('-') && word.ends_with(|c: char| c.is_alphabetic()))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_flag_of_docker_is_honoured_or_refused_by_name() {
    let name = "every_flag_of_docker_is_honoured_or_refused_by_name";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let verbs = [
        "run", "create", "start", "attach", "exec", "ps", "logs", "stop", "restart", "kill", "rm",
        "wait", "pause", "unpause", "rename", "inspect", "images", "pull", "tag", "rmi", "load",
        "save", "events", "info", "version", "login", "logout", "top", "stats",
    ];
    let mut commands: Vec<Vec<&str>> = verbs.iter().map(|verb| vec![*verb]).collect();
    for below in ["ls", "create", "rm", "inspect", "prune"] {
        commands.push(vec!["volume", below]);
    }
    for noun in ["builder", "container", "image", "network", "system"] {
        commands.push(vec![noun, "prune"]);
    }
    for below in ["ls", "inspect", "create", "rm", "connect", "disconnect"] {
        commands.push(vec!["network", below]);
    }
    commands.push(vec!["system", "df"]);
    commands.push(Vec::new());
    let mut forgotten = Vec::new();
    for command in &commands {
        let flags = flags_of(host, command);
        assert!(!flags.is_empty() || command.is_empty() || command[0] != "run");
        for flag in flags
            .iter()
            .filter(|flag| !["-h", "--help", "-v", "--version"].contains(&flag.as_str()))
        {
            // Without what it needs no command goes further than its flags.
            let rest: &[&str] = match command.last() {
                // The engine refuses it before anything goes.
                Some(&"prune") => &["--filter", "bogus=1"],
                // The first of these may be taken for the value of the flag.
                Some(&"stats") => &["--no-stream", "nosuch"],
                _ => &[],
            };
            let args = [command.as_slice(), &[flag.as_str()], rest].concat();
            let said = host.lighter(&args).err();
            if said.contains("unknown flag") || said.contains("unknown shorthand flag") {
                forgotten.push(format!("{} {flag}", command.join(" ")));
            }
        }
    }
    assert_eq!(forgotten, Vec::<String>::new());
}

#[test]
fn times_are_those_of_the_host() {
    let Some(host) = Host::shared("times_are_those_of_the_host") else {
        return;
    };
    if !std::path::Path::new("/usr/share/zoneinfo/Asia/Kolkata").exists() {
        return env::skip("times_are_those_of_the_host", "tzdata is not installed");
    }
    let args = ["images", "--format", "{{.CreatedAt}}", "lighter/hello"];
    let at = |mut command: std::process::Command| {
        command.args(args).env("TZ", "Asia/Kolkata");
        lighter_tests::run(command, b"", std::time::Duration::from_secs(60))
            .ok()
            .out()
    };
    let ours = at(host.lighter_command());
    assert!(ours.ends_with("+0530 IST\n"), "{ours}");
    assert_eq!(ours, at(host.docker_command()));
}
