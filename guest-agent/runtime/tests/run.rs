//! A container runs, and a further process in it: what Docker promises about either.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{container, inside, program, shell};

use common::bind_mount;
use lighter_runtime::mounts::{Source, bind};
use lighter_runtime::{
    ContainerFds, FailureKind, Namespace, Operation, Rlimit, RlimitResource, Seccomp,
};

#[test]
fn output_and_exit_code_come_out() {
    inside("output_and_exit_code_come_out", |bench| {
        let root = bench.rootfs("root");
        let spec = container(shell("echo out; echo err >&2; exit 7"));
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
        let output = bench.run(&root, &container(shell(script))).unwrap();
        let lines: Vec<_> = output.stdout.lines().collect();
        assert_eq!(
            lines[..7],
            ["1", "000000000001", "/", "/root", "unknown", "lo", "3"]
        );
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
            let error = bench.run(&root, &container(program(&args))).unwrap_err();
            assert_eq!((error.text.as_str(), error.exit_code()), (text, code));
        }
        let mut spec = container(program(&["true"]));
        spec.process.user = "nobody".into();
        let error = bench.run(&root, &spec).unwrap_err();
        assert_eq!(error.kind, FailureKind::Invalid);
    });
}

#[test]
fn texts_are_framed_as_dockerd_frames_them() {
    inside("texts_are_framed_as_dockerd_frames_them", |bench| {
        let root = bench.rootfs("root");
        let error = bench
            .run(&root, &container(program(&["nosuch"])))
            .unwrap_err();
        assert_eq!(
            error.docker_text(Operation::Create),
            "failed to create task for container: failed to create shim task: OCI runtime create \
             failed: runc create failed: unable to start container process: exec: \"nosuch\": \
             executable file not found in $PATH"
        );
        let running = bench.stay(&root, &container(program(&["sleep", "100"])));
        let error = running.exec(program(&["nosuch"])).unwrap_err();
        assert_eq!(
            error.docker_text(Operation::Exec),
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \
             \"nosuch\": executable file not found in $PATH"
        );
    });
}

#[test]
fn what_the_kernel_will_not_execute_says_so_as_the_container() {
    inside(
        "what_the_kernel_will_not_execute_says_so_as_the_container",
        |bench| {
            use std::os::unix::fs::PermissionsExt;
            let root = bench.rootfs("root");
            for (name, text, said) in [
                ("bad", "not a program", "exec /bad: exec format error\n"),
                (
                    "lost",
                    "#!/nosuch\n",
                    "exec /lost: no such file or directory\n",
                ),
            ] {
                let path = root.join(name);
                std::fs::write(&path, text).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
                let output = bench
                    .run(&root, &container(program(&[&format!("/{name}")])))
                    .unwrap();
                assert_eq!((output.code, output.stderr.as_str()), (255, said));
            }
        },
    );
}

#[test]
fn an_exec_is_in_the_container() {
    inside("an_exec_is_in_the_container", |bench| {
        let root = bench.rootfs("root");
        let running = bench.stay(&root, &container(shell("sleep 100 & wait")));
        let script = "for kind in mnt pid net cgroup uts ipc; do \
                      readlink /proc/1/ns/$kind; readlink /proc/self/ns/$kind; done; \
                      cat /proc/self/cgroup; exit 3";
        let output = running.exec(shell(script)).unwrap();
        assert_eq!(output.code, 3, "{}", output.stderr);
        let lines: Vec<_> = output.stdout.lines().collect();
        for pair in lines[..12].chunks(2) {
            assert_eq!(pair[0], pair[1]);
        }
        assert!(
            lines
                .iter()
                .any(|line| line.ends_with(":/") && line.starts_with("0::")),
            "{lines:?}"
        );
        assert!(running.cgroup.processes().unwrap().contains(&running.pid));
    });
}

#[test]
fn a_user_is_who_the_image_says() {
    inside("a_user_is_who_the_image_says", |bench| {
        let root = bench.rootfs("root");
        let script = "id -u; id -g; id -G; echo $HOME; touch /etc/x 2>/dev/null || echo denied";
        let mut spec = container(shell(script));
        spec.process.user = "app".into();
        spec.process.group_add = vec!["77".into()];
        let output = bench.run(&root, &spec).unwrap();
        assert_eq!(output.stdout, "1000\n1000\n1000 55 77\n/home/app\ndenied\n");
        // Its own standard output can be opened by name, as images with logs on /dev/stdout do.
        let mut spec = container(shell("echo again > /dev/stdout"));
        spec.process.user = "4711".into();
        assert_eq!(bench.run(&root, &spec).unwrap().stdout, "again\n");
    });
}

#[test]
fn the_working_directory_is_made_when_missing() {
    inside("the_working_directory_is_made_when_missing", |bench| {
        let root = bench.rootfs("root");
        std::os::unix::fs::symlink("/var", root.join("link")).unwrap();
        for (cwd, shown) in [("/a/b/c", "/a/b/c"), ("/link/deep", "/var/deep"), ("", "/")] {
            let mut spec = container(shell("pwd -P"));
            spec.process.cwd = cwd.into();
            assert_eq!(bench.run(&root, &spec).unwrap().stdout.trim(), shown);
        }
        let mut spec = container(program(&["pwd"]));
        spec.process.cwd = "/etc/passwd".into();
        let error = bench.run(&root, &spec).unwrap_err();
        assert!(error.text.ends_with("not a directory"), "{error}");
        let running = bench.stay(&root, &container(program(&["sleep", "100"])));
        let mut process = program(&["pwd"]);
        process.cwd = "/nosuch".into();
        let error = running.exec(process).unwrap_err();
        assert_eq!(
            (error.text.as_str(), error.exit_code()),
            (
                "chdir to cwd (\"/nosuch\") set in config.json failed: no such file or directory",
                127
            )
        );
    });
}

#[test]
fn limits_privileges_and_filter_are_in_force() {
    inside("limits_privileges_and_filter_are_in_force", |bench| {
        let root = bench.rootfs("root");
        let status = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | cut -f2; ulimit -n; \
                      cat /proc/self/oom_score_adj";
        let mut spec = container(shell(status));
        assert!(
            bench
                .run(&root, &spec)
                .unwrap()
                .stdout
                .starts_with("0\n2\n")
        );
        spec = container(shell(status));
        spec.process.no_new_privileges = true;
        spec.process.oom_score_adj = 100;
        spec.process.rlimits = vec![Rlimit {
            resource: RlimitResource::Nofile,
            soft: Some(64),
            hard: Some(128),
        }];
        assert_eq!(bench.run(&root, &spec).unwrap().stdout, "1\n2\n64\n100\n");
        spec = container(shell(status));
        spec.process.seccomp = Seccomp::Unconfined;
        assert!(
            bench
                .run(&root, &spec)
                .unwrap()
                .stdout
                .starts_with("0\n0\n")
        );
        spec = container(shell("mkdir /tmp/x || echo refused"));
        spec.process.seccomp = Seccomp::Profile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
                {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#
                .into(),
        );
        assert_eq!(bench.run(&root, &spec).unwrap().stdout, "refused\n");
        // With no-new-privileges nothing but the exec comes after the filter.
        spec = container(program(&["echo", "ran"]));
        spec.process.no_new_privileges = true;
        spec.process.seccomp = Seccomp::Profile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
                {"names":["capset","setgroups"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#
                .into(),
        );
        assert_eq!(bench.run(&root, &spec).unwrap().stdout, "ran\n");
    });
}

#[test]
fn the_filter_holds_for_users_without_privileges_too() {
    inside(
        "the_filter_holds_for_users_without_privileges_too",
        |bench| {
            let root = bench.rootfs("root");
            let script = "grep Seccomp: /proc/self/status | cut -f2; unshare -U true 2>&1";
            let mut spec = container(shell(script));
            spec.process.user = "app".into();
            let output = bench.run(&root, &spec).unwrap();
            assert_eq!(
                output.stdout,
                "2\nunshare: unshare(0x10000000): Operation not permitted\n"
            );
        },
    );
}

/// A static i386 program: says `i386`, asks for an AF_VSOCK socket, and exits with the error.
fn i386_program() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    let header = 52 + 32;
    let mut code: Vec<u8> = vec![];
    let message = BASE + header;
    code.extend(*b"i386\n");
    let entry = message + 5;
    let mut register = |opcode: u8, value: u32| {
        code.push(opcode);
        code.extend(value.to_le_bytes());
    };
    register(0xb8, 4); // write
    register(0xbb, 1);
    register(0xb9, message);
    register(0xba, 5);
    code.extend([0xcd, 0x80]);
    let mut register = |opcode: u8, value: u32| {
        code.push(opcode);
        code.extend(value.to_le_bytes());
    };
    register(0xb8, 359); // socket
    register(0xbb, 40);
    register(0xb9, 1);
    register(0xba, 0);
    code.extend([0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc3]); // int; neg eax; mov ebx, eax
    code.extend([0xb8, 1, 0, 0, 0, 0xcd, 0x80]); // exit
    let size = header + code.len() as u32;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2, 0, 3, 0]); // executable, i386
    for word in [1, entry, 52, 0, 0] {
        elf.extend(u32::to_le_bytes(word));
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
        elf.extend(u32::to_le_bytes(word));
    }
    elf.extend(code);
    elf
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_32_bit_program_runs_under_the_filter_and_gets_no_vsock() {
    inside(
        "a_32_bit_program_runs_under_the_filter_and_gets_no_vsock",
        |bench| {
            use std::os::unix::fs::PermissionsExt;
            let root = bench.rootfs("root");
            let path = root.join("bin/small");
            std::fs::write(&path, i386_program()).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            let output = bench.run(&root, &container(program(&["small"]))).unwrap();
            assert_eq!(
                (output.code, output.stdout.as_str()),
                (1, "i386\n"),
                "{}",
                output.stderr
            );
        },
    );
}

#[test]
fn volumes_tmpfs_and_read_only_roots_mount_as_asked() {
    inside(
        "volumes_tmpfs_and_read_only_roots_mount_as_asked",
        |bench| {
            let root = bench.rootfs("root");
            let volume = bench.directory.path().join("volume");
            std::fs::create_dir(&volume).unwrap();
            std::fs::write(volume.join("file"), "in volume\n").unwrap();
            std::fs::write(bench.directory.path().join("hosts"), "hosts\n").unwrap();
            let script = "cat /data/sub/file /etc/hosts; touch /data/sub/new && echo rw; \
                      touch /ro/x 2>/dev/null || echo ro; touch /x 2>/dev/null || echo rootro; \
                      touch /scratch/x && echo tmp; stat -c %a /scratch; touch /dev/shm/x && echo shm";
            let mut spec = container(shell(script));
            spec.read_only_root = true;
            let (flags, options) =
                lighter_runtime::mounts::tmpfs_options("size=64k,mode=700").unwrap();
            let mut read_only = bind_mount(2, "/ro");
            read_only.flags.read_only = true;
            spec.mounts.extend([
                bind_mount(0, "/data/sub"),
                bind_mount(1, "/etc/hosts"),
                read_only,
                lighter_runtime::Mount {
                    destination: "/scratch".into(),
                    kind: lighter_runtime::MountKind::Tmpfs { options },
                    flags,
                    source: String::new(),
                },
            ]);
            let fd =
                |name: &str| bind(Source::Path(&bench.directory.path().join(name)), true).unwrap();
            let mounts = vec![fd("volume"), fd("hosts"), fd("volume")];
            let output = bench.run_with(&root, &spec, mounts).unwrap();
            assert_eq!(
                output.stdout, "in volume\nhosts\nrw\nro\nrootro\ntmp\n700\nshm\n",
                "{}",
                output.stderr
            );
            assert!(volume.join("new").exists());
        },
    );
}

#[test]
fn a_directory_on_a_file_is_refused_with_dockers_hint() {
    inside(
        "a_directory_on_a_file_is_refused_with_dockers_hint",
        |bench| {
            let root = bench.rootfs("root");
            let mut spec = container(program(&["true"]));
            spec.mounts.push(bind_mount(0, "/etc/passwd"));
            let mount = bind(Source::Path(bench.directory.path()), false).unwrap();
            let error = bench.run_with(&root, &spec, vec![mount]).unwrap_err();
            assert_eq!(error.exit_code(), 127);
            let text = error.docker_text(Operation::Create);
            assert!(
                text.contains("error mounting \"/source/0\" to rootfs at \"/etc/passwd\""),
                "{text}"
            );
            assert!(
                text.contains("Are you trying to mount a directory onto a file"),
                "{text}"
            );
        },
    );
}

#[test]
fn namespaces_are_shared_when_asked() {
    inside("namespaces_are_shared_when_asked", |bench| {
        let root = bench.rootfs("root");
        let first = bench.stay(&root, &container(program(&["sleep", "100"])));
        let script =
            "hostname; cat /proc/1/comm; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc";
        let mut spec = container(shell(script));
        let pidfd = || rustix::io::fcntl_dupfd_cloexec(&first.pidfd, 3).unwrap();
        spec.namespaces.pid = Namespace::Join(0);
        spec.namespaces.net = Namespace::Join(0);
        spec.namespaces.ipc = Namespace::Join(0);
        spec.namespaces.uts = Namespace::Join(0);
        spec.sysctls.clear();
        let (stdio, pipes) = common::Pipes::new();
        let fds = ContainerFds {
            stdio,
            rootfs: bench.mount(&root),
            mounts: vec![],
            namespaces: vec![pidfd()],
        };
        let mut prepared = bench.launcher.prepare(&spec, fds).unwrap();
        let output = bench.finish(&mut prepared, pipes).unwrap();
        let link = |kind: &str| {
            let path = format!("/proc/{}/ns/{kind}", first.pid);
            std::fs::read_link(path)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        let lines: Vec<_> = output.stdout.lines().collect();
        assert_eq!(lines.len(), 4, "{output:?}");
        assert_eq!(lines[1], "sleep", "the other's first process is ours");
        assert_eq!(lines[2..], [link("net"), link("ipc")]);
    });
}

#[test]
fn sysctls_of_the_machine_cannot_be_set() {
    inside("sysctls_of_the_machine_cannot_be_set", |bench| {
        let root = bench.rootfs("root");
        let refused = |name: &str, why: &str, edit: fn(&mut lighter_runtime::ContainerSpec)| {
            let mut spec = container(program(&["true"]));
            spec.sysctls = [(name.to_owned(), "1".to_owned())].into();
            edit(&mut spec);
            let error = bench.run(&root, &spec).unwrap_err();
            assert_eq!(error.text, format!("sysctl \"{name}\" {why}"));
            let framed = error.docker_text(Operation::Create);
            assert!(
                framed.ends_with(&format!("runc create failed: {error}")),
                "{framed}"
            );
        };
        let shared = "is not in a separate kernel namespace";
        refused("kernel.core_pattern", shared, |_| {});
        refused("net/../kernel/core_pattern", shared, |_| {});
        let network = "not allowed in host network namespace";
        refused("net.ipv4.ip_forward", network, |spec| {
            spec.namespaces.net = Namespace::Host;
        });
        let ipc = "is not allowed in the hosts ipc namespace";
        refused("kernel.shmmax", ipc, |spec| {
            spec.namespaces.ipc = Namespace::Host;
        });
        let mut spec = container(shell(
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ip_forward",
        ));
        spec.sysctls
            .insert("net.ipv4.ip_forward".into(), "1".into());
        assert_eq!(bench.run(&root, &spec).unwrap().stdout, "0\n1\n");
    });
}

#[test]
fn a_client_given_environment_and_arguments_arrive_unchanged() {
    inside(
        "a_client_given_environment_and_arguments_arrive_unchanged",
        |bench| {
            let root = bench.rootfs("root");
            let mut process = program(&["sh", "-c", "echo \"$1|$2|$X|$HOME\"", "sh", "a b", ""]);
            process.env.extend(["X=1=2\n3".into(), "HOME=/mine".into()]);
            let output = bench.run(&root, &container(process)).unwrap();
            assert_eq!(output.stdout, "a b||1=2\n3|/mine\n");
        },
    );
}
