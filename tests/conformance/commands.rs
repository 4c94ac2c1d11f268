//! Commands in order; after each one the exit code and what was said must be the same.

use crate::{both, normal};

/// Runs the same commands on both engines and compares each answer.
fn same(test: &str, script: &[&[&str]]) {
    let Some(both) = both(test) else { return };
    let reference = both.reference();
    let mut differences = Vec::new();
    for args in script {
        let (a, b) = (both.ours.docker(args), reference.docker(args));
        for (what, ours, theirs) in [
            ("code", a.code.to_string(), b.code.to_string()),
            ("stdout", normal::text(&a.out()), normal::text(&b.out())),
            ("stderr", normal::text(&a.err()), normal::text(&b.err())),
        ] {
            if ours != theirs {
                differences.push(format!(
                    "docker {}\n  {what} ours: {ours}\n  {what} dockerd: {theirs}",
                    args.join(" ")
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn run_and_its_failures() {
    same(
        "run_and_its_failures",
        &[
            &["run", "--rm", "--network", "none", "busybox", "echo", "hi"],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "busybox",
                "sh",
                "-c",
                "exit 3",
            ],
            &["run", "--rm", "--network", "none", "busybox", "missing"],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "-w",
                "/not/there",
                "busybox",
                "pwd",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--user",
                "nobody-at-all",
                "busybox",
                "id",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--user",
                "1:2",
                "busybox",
                "id",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--entrypoint",
                "echo",
                "busybox",
                "a",
                "b",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "-e",
                "A=1",
                "-e",
                "B",
                "--hostname",
                "h",
                "busybox",
                "env",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--cap-drop",
                "ALL",
                "busybox",
                "grep",
                "Cap",
                "/proc/self/status",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--cap-add",
                "SYS_ADMIN",
                "busybox",
                "grep",
                "Cap",
                "/proc/self/status",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--cap-add",
                "NOT_A_CAP",
                "busybox",
                "true",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--security-opt",
                "no-new-privileges",
                "busybox",
                "grep",
                "NoNewPrivs",
                "/proc/self/status",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--ulimit",
                "nofile=1024:2048",
                "busybox",
                "sh",
                "-c",
                "ulimit -Sn; ulimit -Hn",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--read-only",
                "busybox",
                "touch",
                "/x",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--shm-size",
                "8m",
                "busybox",
                "sh",
                "-c",
                "df -k /dev/shm | tail -1",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "busybox",
                "sh",
                "-c",
                // `core` stands only where the kernel has /proc/kcore.
                "ls -l /dev | grep -v kcore",
            ],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "busybox",
                "sh",
                "-c",
                "ls /proc/self/fd | wc -l",
            ],
        ],
    );
}

#[test]
fn life_of_a_container() {
    same(
        "life_of_a_container",
        &[
            &[
                "create",
                "--name",
                "one",
                "--network",
                "none",
                "-l",
                "a=b",
                "busybox",
                "sleep",
                "1000",
            ],
            &["create", "--name", "one", "--network", "none", "busybox"],
            &["start", "one"],
            &["start", "one"],
            &[
                "ps",
                "--format",
                "{{.Names}} {{.State}} {{.Command}} {{.Labels}}",
            ],
            &["exec", "one", "echo", "in"],
            &["exec", "one", "missing"],
            &[
                "exec",
                "-w",
                "/tmp",
                "-e",
                "X=1",
                "-u",
                "5",
                "one",
                "sh",
                "-c",
                "pwd; echo $X; id -u",
            ],
            &["pause", "one"],
            &["exec", "one", "true"],
            &["unpause", "one"],
            &["rename", "one", "two"],
            &["rm", "two"],
            &["kill", "-s", "NOSUCH", "two"],
            &["kill", "two"],
            &["wait", "two"],
            &["kill", "two"],
            &[
                "inspect",
                "-f",
                "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.RestartCount}}",
                "two",
            ],
            &["stop", "two"],
            &["logs", "two"],
            &["rm", "two"],
            &["rm", "two"],
            &["inspect", "two"],
            &["logs", "two"],
            &["start", "two"],
        ],
    );
}

#[test]
fn images_and_their_names() {
    same(
        "images_and_their_names",
        &[
            &["tag", "busybox", "localhost:5000/a/b:c"],
            &[
                "images",
                "--format",
                "{{.Repository}}:{{.Tag}}",
                "localhost:5000/a/b",
            ],
            &["rmi", "localhost:5000/a/b:c"],
            &["rmi", "localhost:5000/a/b:c"],
            &["tag", "busybox", "Upper/Case"],
            &["tag", "missing", "other"],
            &[
                "inspect",
                "-f",
                "{{.Config.Cmd}} {{.Architecture}} {{.Os}} {{len .RootFS.Layers}}",
                "busybox",
            ],
            &["history", "-q", "busybox"],
            &["run", "--pull", "never", "missing:tag"],
        ],
    );
}

#[test]
fn volumes() {
    same(
        "volumes",
        &[
            &["volume", "create", "--label", "x=y", "vol"],
            &["volume", "create", "vol"],
            &["volume", "ls", "-q", "--filter", "label=x=y"],
            &[
                "run",
                "--name",
                "user",
                "--network",
                "none",
                "-v",
                "vol:/v",
                "busybox",
                "sh",
                "-c",
                "echo 1 > /v/f",
            ],
            &["volume", "rm", "vol"],
            &["rm", "user"],
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--mount",
                "type=volume,src=vol,dst=/v,readonly",
                "busybox",
                "sh",
                "-c",
                "cat /v/f; echo 2 > /v/f",
            ],
            &["volume", "rm", "vol"],
            &["volume", "rm", "vol"],
            &["volume", "inspect", "vol"],
            &["volume", "create", "../x"],
        ],
    );
}
