//! The way of one command.

use lighter_tests::{Host, env};

#[test]
fn hello_greets_from_inside_the_machine() {
    let Some(host) = Host::shared("hello_greets_from_inside_the_machine") else {
        return;
    };
    let out = host.docker(&["run", "--rm", "lighter/hello"]).ok().out();
    assert!(out.contains("Hello"), "{out}");
    assert!(
        out.contains("6.12"),
        "the greeting names the guest's kernel: {out}"
    );
}

#[test]
fn run_passes_output_error_and_code() {
    let Some(host) = Host::shared("run_passes_output_error_and_code") else {
        return;
    };
    let run = host.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]);
    let run = run.exits(7);
    assert_eq!(run.out(), "out\n");
    assert_eq!(run.err(), "err\n");
}

#[test]
fn standard_input_reaches_the_container_and_ends() {
    let Some(host) = Host::shared("standard_input_reaches_the_container_and_ends") else {
        return;
    };
    let data: Vec<u8> = (0..1_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let run = host
        .docker_with(&["run", "--rm", "-i", "busybox", "cat"], &data)
        .ok();
    assert!(
        run.stdout == data,
        "{} bytes came back of {}",
        run.stdout.len(),
        data.len()
    );
}

/// The client leaves right behind its last byte: nobody reads what the container says.
#[test]
fn input_of_a_client_that_reads_nothing_comes_whole_and_ends() {
    let Some(host) = Host::shared("input_of_a_client_that_reads_nothing_comes_whole_and_ends")
    else {
        return;
    };
    for size in [1, 100_000, 5_000_000] {
        let data = vec![b'x'; size];
        let check = format!("test $(wc -c) = {size} && exit 7");
        let run = ["run", "--rm", "-i", "-a", "stdin", "--network", "none"];
        let run = [&run[..], &["busybox", "sh", "-c", &check]].concat();
        host.docker_with(&run, &data).exits(7);
    }
}

#[test]
fn missing_program_is_127_and_a_directory_126() {
    let Some(host) = Host::shared("missing_program_is_127_and_a_directory_126") else {
        return;
    };
    let run = host
        .docker(&["run", "--rm", "busybox", "no-such-program"])
        .exits(127);
    assert!(
        run.err().contains("executable file not found in $PATH"),
        "{}",
        run.err()
    );
    let run = host.docker(&["run", "--rm", "busybox", "/etc"]).exits(126);
    assert!(run.err().contains("\"/etc\""), "{}", run.err());
    let run = host
        .docker(&["run", "--rm", "--no-such-flag", "busybox"])
        .exits(125);
    assert!(run.err().contains("unknown flag"), "{}", run.err());
}

#[test]
fn process_sees_what_the_flags_say() {
    let Some(host) = Host::shared("process_sees_what_the_flags_say") else {
        return;
    };
    let script = "id -u; pwd; hostname; echo $COLOUR; ulimit -n; touch /x 2>&1; df /t | tail -1 | cut -c1-5; cat /proc/1/comm";
    let out = host
        .docker(&[
            "run",
            "--rm",
            "--user",
            "1000:1000",
            "--workdir",
            "/var/w",
            "--hostname",
            "boat",
            "--env",
            "COLOUR=red",
            "--ulimit",
            "nofile=99:99",
            "--read-only",
            "--tmpfs",
            "/t",
            "--init",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok()
        .out();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..5], ["1000", "/var/w", "boat", "red", "99"], "{out}");
    assert!(lines[5].contains("Read-only file system"), "{out}");
    assert_eq!(lines[6], "tmpfs", "{out}");
    assert!(lines[7].contains("init"), "{out}");
}

#[test]
fn input_that_nobody_reads_does_not_spoil_the_end() {
    let Some(host) = Host::shared("input_that_nobody_reads_does_not_spoil_the_end") else {
        return;
    };
    let input = vec![b'y'; 4 << 20];
    for _ in 0..env::count(3, 100) {
        let run = host.docker_with(
            &[
                "run",
                "--rm",
                "-i",
                "--network",
                "none",
                "busybox",
                "sh",
                "-c",
                "echo said; exit 6",
            ],
            &input,
        );
        let run = run.exits(6);
        assert_eq!((run.out().as_str(), run.err().as_str()), ("said\n", ""));
    }
}

/// It would be asked again and again, and the machine's process on the host would never sleep.
#[test]
fn the_random_device_is_left_once_the_kernel_has_enough() {
    let Some(host) = Host::shared("the_random_device_is_left_once_the_kernel_has_enough") else {
        return;
    };
    let device = "cat /sys/class/misc/hw_random/rng_current; head -c 16 /dev/random | wc -c";
    let run = [
        "run",
        "--rm",
        "--privileged",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        device,
    ];
    assert_eq!(host.docker(&run).ok().out(), "none\n16\n");
}

#[test]
fn clients_of_three_generations() {
    let name = "clients_of_three_generations";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let others = std::env::var_os(env::OTHER_DOCKERS).unwrap_or_default();
    // Nothing is one empty path.
    let others: Vec<_> = std::env::split_paths(&others)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if others.is_empty() {
        return env::skip(
            name,
            "older docker clients are not there: run `cargo xtask test`",
        );
    }
    for (number, client) in others.iter().enumerate() {
        let docker = |args: &[&str], input: &[u8]| {
            let mut command = host.docker_command_of(client);
            command.args(args);
            lighter_tests::run(command, input, std::time::Duration::from_secs(180))
        };
        let version = docker(
            &[
                "version",
                "-f",
                "{{.Client.Version}} {{.Server.APIVersion}}",
            ],
            b"",
        );
        assert!(version.ok().out().contains(" 1.51"));
        let long = format!("generation{number}");
        let run = docker(&["run", "--rm", "-i", "busybox", "cat"], b"data\n");
        assert_eq!(run.ok().out(), "data\n");
        docker(&["run", "--rm", "busybox", "sh", "-c", "exit 7"], b"").exits(7);
        let script = "echo ready; exec sleep 1000";
        docker(
            &["run", "-d", "--name", &long, "busybox", "sh", "-c", script],
            b"",
        )
        .ok();
        assert_eq!(
            docker(&["exec", &long, "echo", "in"], b"").ok().out(),
            "in\n"
        );
        docker(&["exec", &long, "missing"], b"").exits(127);
        assert_eq!(docker(&["logs", &long], b"").ok().out(), "ready\n");
        let ps = docker(&["ps", "--format", "{{.Names}} {{.Status}}"], b"")
            .ok()
            .out();
        assert!(ps.contains(&format!("{long} Up ")), "{ps}");
        docker(&["inspect", &long, "busybox"], b"").ok();
        docker(&["images"], b"").ok();
        docker(&["info"], b"").ok();
        docker(&["stop", "-t", "0", &long], b"").ok();
        assert_eq!(docker(&["wait", &long], b"").ok().out(), "137\n");
        docker(&["rm", &long], b"").ok();
    }
}
