//! A container runs, and a further process in it: what Docker promises about either.

mod common;

use common::{container, inside, program, shell};
use lighter_runtime::{FailureKind, Seccomp};

fn open(mut spec: lighter_runtime::ContainerSpec) -> lighter_runtime::ContainerSpec {
    spec.process.seccomp = Seccomp::Unconfined;
    spec
}

#[test]
fn output_and_exit_code_come_out() {
    inside("output_and_exit_code_come_out", |bench| {
        let root = bench.rootfs("root");
        let spec = open(container(shell("echo out; echo err >&2; exit 7")));
        let output = bench.run(&root, &spec).unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (7, "out\n"));
        assert_eq!(output.stderr, "err\n");
    });
}

#[test]
fn the_container_is_alone_and_laid_out_as_dockers() {
    inside("the_container_is_alone_and_laid_out_as_dockers", |bench| {
        let root = bench.rootfs("root");
        let script = "echo $$; hostname; pwd; echo $HOME; cat /sys/class/net/lo/operstate; \
                      ls /sys/class/net; ls /proc | grep -c '^[0-9]'; cut -d' ' -f1-3 /proc/mounts";
        let output = bench.run(&root, &open(container(shell(script)))).unwrap();
        let lines: Vec<_> = output.stdout.lines().collect();
        assert_eq!(lines[..7], ["1", "000000000001", "/", "/root", "unknown", "lo", "3"]);
        for mount in [
            "proc /proc proc",
            "tmpfs /dev tmpfs",
            "devpts /dev/pts devpts",
            "sysfs /sys sysfs",
            "cgroup /sys/fs/cgroup cgroup2",
            "mqueue /dev/mqueue mqueue",
            "shm /dev/shm tmpfs",
            "proc /proc/sys proc",
        ] {
            assert!(lines.contains(&mount), "{mount} is missing in {lines:#?}");
        }
        assert_eq!(output.code, 0);
    });
}

#[test]
fn a_missing_program_is_reported_in_dockers_words() {
    inside("a_missing_program_is_reported_in_dockers_words", |bench| {
        let root = bench.rootfs("root");
        for (args, text, code) in [
            (
                ["nosuch"],
                "exec: \"nosuch\": executable file not found in $PATH",
                127,
            ),
            (
                ["/nosuch"],
                "exec: \"/nosuch\": stat /nosuch: no such file or directory",
                127,
            ),
            (
                ["/etc/passwd"],
                "exec: \"/etc/passwd\": permission denied",
                126,
            ),
            (["/etc"], "exec: \"/etc\": is a directory", 126),
        ] {
            let error = bench
                .run(&root, &open(container(program(&args))))
                .unwrap_err();
            assert_eq!((error.text.as_str(), error.exit_code()), (text, code));
        }
        let mut spec = open(container(program(&["true"])));
        spec.process.user = "nobody".into();
        let error = bench.run(&root, &spec).unwrap_err();
        assert_eq!(error.kind, FailureKind::Invalid);
    });
}
