//! Containers with a user namespace: who they are inside and outside, what is theirs, and that no
//! other wall is lower for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use common::{bind_mount, container, inside, program, refused, shell};
use lighter_runtime::mounts::{Source, bind};
use lighter_runtime::{
    ContainerFds, Device, DeviceKind, DeviceRule, MountKind, Namespace, Rlimit, RlimitResource,
    Stdio, TerminalSize,
};

/// The last words of lines, so that tables can be compared.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn root_inside_is_an_ordinary_user_outside() {
    inside("root_inside_is_an_ordinary_user_outside", |bench| {
        bench.with_users();
        let root = bench.rootfs("root");
        let script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; id -G";
        let output = bench.run(&root, &container(shell(script))).unwrap();
        let map = "0 100000 65536";
        assert_eq!(
            words(&output.stdout),
            format!("{map} {map} 0 0 0"),
            "{output:?}"
        );
        let running = bench.stay(&root, &container(program(&["sleep", "100"])));
        let status = fs::read_to_string(format!("/proc/{}/status", running.pid)).unwrap();
        for line in ["Uid:", "Gid:"] {
            let line = status.lines().find(|l| l.starts_with(line)).unwrap();
            assert_eq!(
                words(line).split_once(' ').unwrap().1,
                "100000 100000 100000 100000"
            );
        }
        for (user, expected) in [
            ("", "0 0 0"),
            ("app", "1000 1000 1000 55"),
            ("7:8", "7 8 8"),
        ] {
            let mut process = shell("id -u; id -g; id -G");
            process.user = user.into();
            let output = running.exec(process).unwrap();
            assert_eq!(words(&output.stdout), expected, "{output:?}");
        }
    });
}

/// What the kernel and the engine put there belongs to root inside, and what is made is root's on
/// the disk.
#[test]
fn files_have_the_owners_of_inside() {
    inside("files_have_the_owners_of_inside", |bench| {
        let users = bench.with_users();
        let root = bench.rootfs("root");
        chown(root.join("home/app"), Some(1000), Some(1000)).unwrap();
        let volume = bench.directory.path().join("volume");
        fs::create_dir(&volume).unwrap();
        let paths = "/ /etc/passwd /dev /dev/null /dev/pts /dev/pts/ptmx /dev/shm /dev/mqueue /proc/1 \
                     /proc/sys/net/ipv4/ip_forward /t /volume /proc/1/fd/1";
        let script = format!(
            "for p in {paths}; do stat -L -c '%u:%g %n' $p; done | grep -v '^0:0 '; \
             stat -c %u:%g /home/app; touch /made /volume/made; mkdir -p /home/app/below; \
             chown 1000:55 /volume/made; stat -c %u:%g /made /volume/made; \
             echo said >/dev/stdout"
        );
        let mut spec = container(shell(&script));
        spec.mounts.push(bind_mount(0, "/volume"));
        spec.mounts.push(lighter_runtime::Mount {
            destination: "/t".into(),
            kind: MountKind::Tmpfs { options: vec![] },
            flags: lighter_runtime::MountFlags::default(),
            source: String::new(),
        });
        let mounts = vec![bench.mount(&volume)];
        let output = bench.run_with(&root, &spec, mounts).unwrap();
        assert_eq!(
            words(&output.stdout),
            "1000:1000 0:0 1000:55 said",
            "{output:?}"
        );
        let owner = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            (meta.uid(), meta.gid())
        };
        assert_eq!(owner(&root.join("made")), (0, 0));
        assert_eq!(owner(&root.join("home/app/below")), (0, 0));
        assert_eq!(
            owner(&root.join("t")),
            (0, 0),
            "a mount point made by the start"
        );
        assert_eq!(owner(&volume.join("made")), (1000, 55));
        drop(users);
    });
}

/// Files of the machine's root stay closed, whatever leads to them.
#[test]
fn nothing_of_the_machines_root_can_be_touched() {
    inside("nothing_of_the_machines_root_can_be_touched", |bench| {
        bench.with_users();
        let root = bench.rootfs("root");
        let secret = bench.directory.path().join("machine");
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("key"), "secret").unwrap();
        fs::set_permissions(secret.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
        let mut spec = container(shell(
            "stat -c %u /m/key; cat /m/key; echo x >/m/key; touch /m/new; rm /m/key; chown 0 /m/key; \
             chmod 666 /m/key; mknod /n b 8 0; mknod /dev/n c 1 1; \
             cat /proc/sysrq-trigger >/dev/null; echo 1 >/proc/sys/vm/drop_caches; \
             mount -t tmpfs none /tmp; hostname other; true",
        ));
        spec.mounts.push(bind_mount(0, "/m"));
        let mounts = || vec![bind(Source::Path(&secret), false).unwrap()];
        for all in [false, true] {
            if all {
                // Power over its own namespaces, and over nothing else.
                spec.process.capabilities =
                    lighter_runtime::Capabilities::docker(lighter_runtime::caps::all());
                spec.process.seccomp = lighter_runtime::Seccomp::Unconfined;
            }
            let output = bench.run_with(&root, &spec, mounts()).unwrap();
            assert_eq!(output.stdout, "65534\n", "{output:?}");
            let complaints = output.stderr.lines().count();
            assert_eq!(complaints, if all { 10 } else { 12 }, "{output:?}");
            assert_eq!(fs::read_to_string(secret.join("key")).unwrap(), "secret");
            assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
        }
    });
}

/// The descriptor of the user namespace that owns a namespace file.
fn owner_of(file: &Path) -> (u64, u64) {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    let file = fs::File::open(file).unwrap();
    // SAFETY: takes no argument and answers a new descriptor.
    let owner = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_USERNS as _) };
    assert!(owner >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: just made, and nobody's.
    let owner: OwnedFd = unsafe { std::os::fd::FromRawFd::from_raw_fd(owner) };
    let stat = rustix::fs::fstat(&owner).unwrap();
    (stat.st_dev, stat.st_ino)
}

#[test]
fn every_namespace_belongs_to_the_user_namespace() {
    inside("every_namespace_belongs_to_the_user_namespace", |bench| {
        let users = bench.with_users();
        let stat = rustix::fs::fstat(&users).unwrap();
        let root = bench.rootfs("root");
        let running = bench.stay(&root, &container(program(&["sleep", "100"])));
        let of = |name: &str| format!("/proc/{}/ns/{name}", running.pid);
        let own = fs::metadata(of("user")).unwrap();
        assert_eq!((own.dev(), own.ino()), (stat.st_dev, stat.st_ino));
        for name in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
            let owner = owner_of(Path::new(&of(name)));
            assert_eq!(owner, (stat.st_dev, stat.st_ino), "{name}");
        }
    });
}

/// Limits above what a user could raise are set, and the score of the out-of-memory killer cannot be
/// made better than the one given.
#[test]
fn limits_and_scores_are_those_asked_for() {
    inside("limits_and_scores_are_those_asked_for", |bench| {
        bench.with_users();
        let root = bench.rootfs("root");
        // Where root itself cannot raise limits there is less to see.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
        let capabilities = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
        let (high, lowest) = match capabilities & (1 << 24) {
            0 => (2048, 99),
            _ => (8192, 100),
        };
        rustix::process::setrlimit(
            rustix::process::Resource::Nofile,
            rustix::process::Rlimit {
                current: Some(1024),
                maximum: Some(4096),
            },
        )
        .unwrap();
        let script = "ulimit -Hn; cat /proc/self/oom_score_adj; \
                      echo 99 >/proc/self/oom_score_adj; echo -900 >/proc/self/oom_score_adj; \
                      cat /proc/self/oom_score_adj";
        let mut process = shell(script);
        process.oom_score_adj = 100;
        process.rlimits = vec![Rlimit {
            resource: RlimitResource::Nofile,
            soft: Some(high),
            hard: Some(high),
        }];
        let expected = format!("{high} 100 {lowest}");
        let output = bench.run(&root, &container(process.clone())).unwrap();
        assert_eq!(words(&output.stdout), expected, "{output:?}");
        let running = bench.stay(&root, &container(program(&["sleep", "100"])));
        let output = running.exec(process).unwrap();
        assert_eq!(words(&output.stdout), expected, "{output:?}");
    });
}

#[test]
fn terminals_devices_and_settings_are_there() {
    inside("terminals_devices_and_settings_are_there", |bench| {
        bench.with_users();
        let root = bench.rootfs("root");
        let device = |path: &str, minor| Device {
            path: path.into(),
            kind: DeviceKind::Char,
            major: 1,
            minor,
            mode: 0o640,
            uid: 0,
            gid: 6,
        };
        let mut spec = container(shell(
            "stat -c '%u %g %a %t:%T' /dev/x/zero /elsewhere/zero; head -c 2 /elsewhere/zero | od -An -tx1; \
             cat /proc/sys/net/ipv4/ip_forward; hostname; ls /sys/class/net; echo x >/dev/full",
        ));
        spec.devices = vec![device("/dev/x/zero", 5), device("/elsewhere/zero", 5)];
        spec.device_rules.push(DeviceRule::char_device(1, 5));
        spec.sysctls
            .insert("net.ipv4.ip_forward".into(), "1".into());
        spec.hostname = "inside".into();
        let output = bench.run(&root, &spec).unwrap();
        assert_eq!(
            words(&output.stdout),
            "0 6 640 1:5 0 6 640 1:5 00 00 1 inside lo",
            "{output:?}"
        );
        assert!(output.stderr.contains("No space left"), "{output:?}");
        let mut process = shell("stat -c '%u %g' $(tty) /dev/console; test -t 0 && echo yes");
        process.terminal = Some(TerminalSize { rows: 10, cols: 20 });
        let (spec, namespaces) = bench.users_of(&container(process));
        let fds = ContainerFds {
            stdio: Stdio::default(),
            rootfs: bench.mount(&root),
            mounts: vec![],
            namespaces,
        };
        let mut prepared = bench.launcher.prepare(&spec, fds).unwrap();
        let master = prepared.take_pty_master().unwrap();
        prepared.start().unwrap();
        assert_eq!(bench.exit_code(prepared.pid()), 0);
        let said = common::read_all(master);
        assert_eq!(words(&said), "0 5 0 5 yes");
        let (_, _, cgroup) = prepared.into_parts();
        cgroup
            .unwrap()
            .remove(std::time::Duration::from_secs(10))
            .unwrap();
    });
}

/// One that shares namespaces of another shares its users, and has power over what is shared.
#[test]
fn namespaces_are_shared_within_one_user_namespace() {
    inside("namespaces_are_shared_within_one_user_namespace", |bench| {
        bench.with_users();
        let root = bench.rootfs("root");
        let donor = bench.stay(&root, &container(program(&["sleep", "100"])));
        let (mut spec, mut namespaces) = bench.users_of(&container(shell(
            "cat /proc/1/comm; ls /sys/class/net; id -u",
        )));
        for (index, namespace) in [
            &mut spec.namespaces.pid,
            &mut spec.namespaces.net,
            &mut spec.namespaces.ipc,
        ]
        .into_iter()
        .enumerate()
        {
            *namespace = Namespace::Join(index + 1);
            namespaces.push(donor.pidfd.try_clone().unwrap());
        }
        let (stdio, pipes) = common::Pipes::new();
        let fds = ContainerFds {
            stdio,
            rootfs: bench.mount(&bench.rootfs("second")),
            mounts: vec![],
            namespaces,
        };
        let mut prepared = bench.launcher.prepare(&spec, fds).unwrap();
        let output = bench.finish(&mut prepared, pipes).unwrap();
        assert_eq!(words(&output.stdout), "sleep lo 0", "{output:?}");
    });
}

#[test]
fn a_user_beyond_the_map_is_refused() {
    inside("a_user_beyond_the_map_is_refused", |bench| {
        bench.with_users();
        let root = bench.rootfs("root");
        let mut process = program(&["true"]);
        process.user = "65536".into();
        let error = refused(
            bench.run(&root, &container(process)),
            "a user that nobody is",
        );
        assert!(error.text.contains("unmapped user"), "{error:?}");
        // Nobody makes one by the way: it would have no map.
        let mut spec = container(program(&["true"]));
        spec.namespaces.user = Namespace::New;
        let fds = ContainerFds {
            stdio: Stdio::default(),
            rootfs: bench.mount(&root),
            mounts: vec![],
            namespaces: vec![],
        };
        assert!(bench.launcher.prepare(&spec, fds).is_err());
    });
}

/// Ids of a thread that works as the container's root are its own alone.
#[test]
fn only_the_thread_that_works_as_the_containers_root_does() {
    inside(
        "only_the_thread_that_works_as_the_containers_root_does",
        |bench| {
            let users = bench.with_users();
            let folder = bench.directory.path().join("folder");
            fs::create_dir(&folder).unwrap();
            let mount = bench.mount(&folder);
            let make = |name: &str| {
                let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
                rustix::fs::openat(&mount, name, flags, 0o600.into()).map(drop)
            };
            // Root of the machine is nobody there, and so makes nothing.
            assert_eq!(make("mine"), Err(rustix::io::Errno::OVERFLOW));
            let made = lighter_runtime::as_container_root(|| make("theirs"));
            assert_eq!(made, Some(Ok(())));
            assert_eq!(fs::metadata(folder.join("theirs")).unwrap().uid(), 0);
            assert_eq!(make("mine"), Err(rustix::io::Errno::OVERFLOW));
            let _ = users.as_fd();
        },
    );
}
