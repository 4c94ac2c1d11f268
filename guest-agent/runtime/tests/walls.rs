//! Each incident that this code could meet, as a test that fails if its wall is taken away.
//!
//! Most of them run twice, without and with a user namespace.
//!
//! `LIGHTER_TEST_ROUNDS` multiplies the rounds of the races (1 as a default).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{
    Bench, bind_mount, container, inside, inside_both, open_descriptors, program, refused, shell,
};
use lighter_runtime::mounts::{Source, bind};
use lighter_runtime::{ContainerFds, ContainerSpec, MountKind, Namespace, Stdio, TerminalSize};

fn rounds(base: u32) -> u32 {
    let factor = std::env::var("LIGHTER_TEST_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    base * factor.unwrap_or(1)
}

/// A tree outside every root, and what it looks like.
struct Canary {
    path: PathBuf,
    before: BTreeMap<PathBuf, (u32, u32, Vec<u8>)>,
    mounts: String,
}

impl Canary {
    fn new(bench: &Bench) -> Self {
        let path = bench.directory.path().join("canary");
        for directory in ["pts", "shm", "mqueue", "sys", "self/fd"] {
            fs::create_dir_all(path.join(directory)).unwrap();
        }
        for file in [
            "hosts",
            "resolv.conf",
            "hostname",
            "console",
            "null",
            "passwd",
            "target",
        ] {
            fs::write(path.join(file), format!("canary {file}\n")).unwrap();
        }
        let (before, mounts) = (Self::look(&path), Self::mounts());
        Self {
            path,
            before,
            mounts,
        }
    }

    fn look(path: &Path) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
        let mut seen = BTreeMap::new();
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let text = if meta.is_file() {
                fs::read(&path).unwrap()
            } else {
                vec![]
            };
            if meta.is_dir() {
                seen.extend(Self::look(&path));
            }
            seen.insert(path, (meta.mode(), meta.uid(), text));
        }
        seen
    }

    fn mounts() -> String {
        fs::read_to_string("/proc/self/mounts").unwrap()
    }

    fn must_be_unchanged(&self, after: &str) {
        assert_eq!(
            Self::look(&self.path),
            self.before,
            "canary changed by {after}"
        );
        assert_eq!(Self::mounts(), self.mounts, "mounts changed by {after}");
    }
}

/// The program that enters containers cannot be written from inside, not even by a privileged
/// process that kept a descriptor of it and waits until nothing executes it any more.
#[test]
fn cve_2019_5736() {
    inside("cve_2019_5736", |bench| {
        let root = bench.rootfs("root");
        // As init the program stays and is /proc/PID/exe; with the machine's PID namespace its
        // child outlives it and still holds the file.
        let script = "exec 5</proc/$PPID/exe; kill -9 $PPID; \
                      for i in 1 2 3 4 5 6 7 8 9 10; do \
                        if dd if=/dev/zero of=/proc/self/fd/5 bs=64 count=1 conv=notrunc 2>/tmp/said; \
                        then echo written; exit; fi; \
                        grep -q 'Text file busy' /tmp/said || break; sleep 0.1; \
                      done; cat /tmp/said; exit";
        let mut spec = container(shell(script));
        spec.make_privileged();
        spec.init = true;
        spec.namespaces.pid = Namespace::Host;
        let output = bench.run(&root, &spec).unwrap();
        assert!(!output.stdout.contains("written"), "{output:?}");
        assert!(
            output.stdout.contains("Operation not permitted"),
            "{output:?}"
        );
        // Entering is not hijacked by an image whose program is the entering program itself.
        let output = bench
            .run(&root, &container(program(&["/proc/self/exe"])))
            .unwrap();
        assert_eq!(output.code, 255);
        let running = bench.stay(&root, &container(program(&["sleep", "100"])));
        assert_eq!(
            running.exec(program(&["/proc/self/exe"])).unwrap().code,
            255
        );
        assert_eq!(running.exec(program(&["true"])).unwrap().code, 0);
    });
}

/// While the entering program is among the container's processes, they cannot look into it: it is
/// not dumpable, and until its last step it has capabilities they lack.
#[test]
fn cve_2016_9962_the_entering_process_is_closed() {
    inside_both("cve_2016_9962_the_entering_process_is_closed", |bench| {
        let root = bench.rootfs("root");
        let running = bench.stay(&root, &container(program(&["sleep", "100"])));
        let mut waiting = running
            .prepare_exec(program(&["true"]), Stdio::default())
            .unwrap();
        waiting.wait_ready().unwrap();
        // It stands at its gate, inside, as number 2.
        let script = "[ -d /proc/2 ] && echo there; for f in /proc/2/exe /proc/2/cwd /proc/2/root \
                      /proc/2/fd/*; do readlink $f && echo seen $f; done; \
                      head -c 1 /proc/2/mem /proc/2/environ && echo read; echo done";
        let output = running.exec(shell(script)).unwrap();
        assert_eq!(output.stdout, "there\ndone\n", "{output:?}");
        waiting.start().unwrap();
        assert_eq!(bench.exit_code(waiting.pid()), 0);
    });
}

/// No descriptor of the engine is a working directory.
#[test]
fn cve_2024_21626() {
    inside_both("cve_2024_21626", |bench| {
        let root = bench.rootfs("root");
        // Leaked descriptors, as a careless library leaves them: without close-on-exec.
        let leaked: Vec<OwnedFd> = (0..8)
            .map(|_| {
                let file = fs::File::open("/").unwrap();
                rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
                file.into()
            })
            .collect();
        let running = bench.stay(&root, &container(program(&["sleep", "100"])));
        for number in 3..=64 {
            for rest in ["", "/../../.."] {
                let cwd = format!("/proc/self/fd/{number}{rest}");
                let mut process = program(&["ls", "-d", "."]);
                process.cwd = cwd.clone();
                refused(running.exec(process.clone()), &format!("exec in {cwd}"));
                refused(
                    bench.run(&root, &container(process)),
                    &format!("run in {cwd}"),
                );
            }
        }
        drop(leaked);
    });
}

/// The container's first process, an exec and the container's init have 0, 1 and 2 open, whatever
/// the engine has.
#[test]
fn no_descriptor_leaks_into_a_container() {
    inside_both("no_descriptor_leaks_into_a_container", |bench| {
        let root = bench.rootfs("root");
        let leaked = fs::File::open("/").unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        for init in [false, true] {
            let mut spec = container(program(&["sleep", "100"]));
            spec.init = init;
            let running = bench.stay(&root, &spec);
            assert_eq!(open_descriptors(running.pid), [0, 1, 2]);
            let mut exec = running
                .prepare_exec(program(&["sleep", "100"]), Stdio::default())
                .unwrap();
            exec.start().unwrap();
            assert_eq!(open_descriptors(exec.pid()), [0, 1, 2]);
        }
        drop(leaked);
    });
}

/// What hides a path is our own null device, whatever the image has under that name and however
/// it is exchanged meanwhile.
#[test]
fn cve_2025_31133() {
    inside_both("cve_2025_31133", |bench| {
        let root = bench.rootfs("root");
        // Settings of the container's own network: where this fails, nobody else's are written.
        symlink("/proc/sys/net/ipv4/ip_default_ttl", root.join("dev/null")).unwrap();
        symlink("/proc/sys/net/ipv4/tcp_fin_timeout", root.join("dev/other")).unwrap();
        let script = "for f in /proc/keys /proc/timer_list; do \
                        stat -c %t:%T $f; cat $f; \
                      done; echo x > /proc/keys; echo end";
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            scope.spawn(|| {
                let (one, other) = (root.join("dev/null"), root.join("dev/other"));
                while !stop.load(Ordering::Relaxed) {
                    exchange(&one, &other);
                }
            });
            for round in 0..rounds(20) {
                let mut spec = container(shell(script));
                if round % 2 == 0 {
                    // An image's own /dev, as with `-v something:/dev`.
                    spec.mounts
                        .retain(|mount| !mount.destination.starts_with("/dev"));
                }
                let stdin = || Some(OwnedFd::from(fs::File::open("/dev/null").unwrap()));
                let (mut stdio, pipes) = common::Pipes::new();
                stdio.stdin = stdin();
                let (spec, namespaces) = bench.users_of(&spec);
                let fds = ContainerFds {
                    stdio,
                    rootfs: bench.mount(&root),
                    mounts: vec![],
                    namespaces,
                };
                let mut prepared = bench.launcher.prepare(&spec, fds).unwrap();
                let output = bench.finish(&mut prepared, pipes).unwrap();
                assert_eq!(output.stdout, "1:3\n1:3\nend\n", "{output:?}");
            }
        });
    });
}

/// The terminal and the console come from the container's devpts, whatever is in its place.
#[test]
fn cve_2025_52565() {
    inside_both("cve_2025_52565", |bench| {
        let root = bench.rootfs("root");
        let canary = Canary::new(bench);
        // An image whose names lead elsewhere: our /dev lies over them.
        symlink("/etc/console", root.join("dev/console")).unwrap();
        symlink("/etc", root.join("dev/pts")).unwrap();
        fs::write(root.join("etc/console"), "image\n").unwrap();
        let mut spec = container(shell("stat -c %t /dev/console; tty; cat /etc/console"));
        spec.process.terminal = Some(TerminalSize::default());
        let said = terminal_output(bench, &root, &spec);
        assert!(said.contains("88\r\n/dev/pts/0\r\nimage\r\n"), "{said}");

        // Without a devpts of ours, a file that only bears the name is refused, not used.
        let root = bench.rootfs("bare");
        fs::create_dir(root.join("dev/pts")).unwrap();
        fs::write(root.join("dev/pts/ptmx"), "file\n").unwrap();
        let mut bare = container(program(&["true"]));
        bare.mounts
            .retain(|mount| !mount.destination.starts_with("/dev"));
        bare.process.terminal = Some(TerminalSize::default());
        let error = refused(bench.run(&root, &bare), "a file as a terminal");
        assert_eq!(error.step, "terminal");
        for target in ["/dev/null", "/proc/self/exe", "/proc/1/fd/0"] {
            fs::remove_file(root.join("dev/pts/ptmx")).unwrap();
            symlink(target, root.join("dev/pts/ptmx")).unwrap();
            refused(bench.run(&root, &bare), target);
        }
        canary.must_be_unchanged("terminals");

        // An exec into a container that put something else under the name.
        bare.process = program(&["sleep", "100"]);
        let with_null: Vec<_> = container(program(&["true"]))
            .mounts
            .into_iter()
            .filter(|mount| mount.kind == MountKind::Dev)
            .collect();
        bare.mounts.extend(with_null);
        let running = bench.stay(&root, &bare);
        running
            .exec(shell("rm -f /dev/ptmx; ln -s /dev/null /dev/ptmx"))
            .unwrap();
        let mut process = program(&["true"]);
        process.terminal = Some(TerminalSize::default());
        refused(running.exec(process), "the null device as a terminal");
        drop(running);
        exec_beside_a_false_devpts(bench);
    });
}

/// A container that may mount shows a multiplexer of its own choice, and files under the names that its
/// terminals would have: the terminal is the multiplexer's, not what bears the name.
fn exec_beside_a_false_devpts(bench: &Bench) {
    let root = bench.rootfs("mounter");
    fs::create_dir(root.join("real")).unwrap();
    let mut spec = container(shell(
        "mount --bind /dev/pts /real && mount -t tmpfs none /dev/pts && ln -s /real/ptmx /dev/pts/ptmx && \
         for n in 0 1 2 3 4 5 6 7; do echo false > /dev/pts/$n; done; echo done > /ready; exec sleep 100",
    ));
    spec.make_privileged();
    let running = bench.stay(&root, &spec);
    while !root.join("ready").exists() {
        std::thread::yield_now();
    }
    let mut process = shell("test -t 0 && echo a terminal; cat /dev/pts/0");
    process.terminal = Some(TerminalSize::default());
    let mut prepared = running.prepare_exec(process, Stdio::default()).unwrap();
    prepared.wait_ready().unwrap();
    let mut master = fs::File::from(prepared.take_pty_master().unwrap());
    prepared.start().unwrap();
    let mut said = vec![];
    // A terminal without a process answers EIO.
    let _ = master.read_to_end(&mut said);
    assert_eq!(String::from_utf8_lossy(&said), "a terminal\r\nfalse\r\n");
    bench.exit_code(prepared.pid());
}

/// A kernel setting reaches the kernel or nothing; `/proc` is the kernel's or the start fails.
#[test]
fn cve_2025_52881() {
    inside_both("cve_2025_52881", |bench| {
        let root = bench.rootfs("root");
        let fake = bench.directory.path().join("fake");
        for base in [root.join("proc"), fake.clone()] {
            fs::create_dir_all(base.join("sys/net/ipv4")).unwrap();
            fs::create_dir_all(base.join("self/attr")).unwrap();
            fs::write(
                base.join("sys/net/ipv4/ip_unprivileged_port_start"),
                "fake\n",
            )
            .unwrap();
            fs::write(base.join("self/oom_score_adj"), "fake\n").unwrap();
        }
        let spec = container(shell(
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/oom_score_adj",
        ));
        let before = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let output = bench.run(&root, &spec).unwrap();
        assert_eq!(output.stdout, "0\n0\n");
        assert_eq!(
            fs::read_to_string("/proc/self/oom_score_adj").unwrap(),
            before
        );
        for base in [root.join("proc"), fake.clone()] {
            for file in [
                "sys/net/ipv4/ip_unprivileged_port_start",
                "self/oom_score_adj",
            ] {
                assert_eq!(fs::read_to_string(base.join(file)).unwrap(), "fake\n");
            }
        }
        // A volume on /proc, on parts of it, or around it through a link.
        let volume = || bind(Source::Path(&fake), true).unwrap();
        symlink("/proc", root.join("around")).unwrap();
        for place in [
            "/proc",
            "/proc/",
            "//proc",
            "/proc/sys",
            "/proc/self",
            "/around/sys",
            "/tmp/../proc",
        ] {
            let mut spec = container(program(&["true"]));
            spec.mounts.push(bind_mount(0, place));
            let error = refused(bench.run_with(&root, &spec, vec![volume()]), place);
            assert!(
                error.text.ends_with("operation not permitted"),
                "{place}: {error}"
            );
        }
        // In the place of ours, before anything is there.
        for place in ["/proc", "/around"] {
            let mut spec = container(program(&["true"]));
            spec.mounts.retain(|mount| mount.kind != MountKind::Proc);
            spec.mounts.insert(0, bind_mount(0, place));
            spec.mounts.push(bind_mount(1, "/proc/cpuinfo"));
            let result = bench.run_with(&root, &spec, vec![volume(), volume()]);
            refused(result, &format!("{place} in our place"));
        }
        // Through a link of the image (CVE-2019-19921): what is mounted elsewhere would leave a place that
        // only looks like it.
        for place in ["proc", "sys"] {
            let root = bench.rootfs(&format!("linked-{place}"));
            fs::remove_dir(root.join(place)).unwrap();
            symlink("/tmp", root.join(place)).unwrap();
            refused(bench.run(&root, &container(program(&["true"]))), place);
        }
        // A file that lxcfs and its like replace.
        let cpuinfo = bench.directory.path().join("cpuinfo");
        fs::write(&cpuinfo, "mine\n").unwrap();
        let mut spec = container(program(&["cat", "/proc/cpuinfo"]));
        spec.mounts.push(bind_mount(0, "/proc/cpuinfo"));
        let mount = bind(Source::Path(&cpuinfo), false).unwrap();
        assert_eq!(
            bench.run_with(&root, &spec, vec![mount]).unwrap().stdout,
            "mine\n"
        );
    });
}

/// No link of an image leads preparation out of its root.
#[test]
fn cve_2026_41579() {
    inside("cve_2026_41579", |bench| {
        let canary = Canary::new(bench);
        let outside = canary.path.to_str().unwrap().to_owned();
        let climbing = format!("../../../../../../../../../../..{outside}");
        let files = bench.directory.path().join("files");
        fs::create_dir(&files).unwrap();
        for name in ["hosts", "resolv.conf", "hostname"] {
            fs::write(files.join(name), format!("ours {name}\n")).unwrap();
        }
        let places = [
            "dev",
            "dev/pts",
            "dev/shm",
            "dev/mqueue",
            "dev/console",
            "dev/null",
            "proc",
            "sys",
            "etc",
            "etc/hosts",
            "etc/resolv.conf",
            "etc/hostname",
            "etc/passwd",
            "run",
            "work",
        ];
        let targets = [
            &*outside,
            &*climbing,
            "dangling/link",
            "/dangling",
            "/",
            "..",
            "/dev/zero",
            "/proc/1/root",
        ];
        for (number, place) in places.iter().enumerate() {
            let root = bench.rootfs(&format!("root{number}"));
            let path = root.join(place);
            for target in targets {
                let _ = fs::remove_dir_all(&path);
                let _ = fs::remove_file(&path);
                symlink(target, &path).unwrap();
                for (own_dev, terminal) in [(true, false), (true, true), (false, false)] {
                    let mut spec = container(program(&["/bin/true"]));
                    spec.process.cwd = "/work".into();
                    spec.process.terminal = terminal.then(TerminalSize::default);
                    if !own_dev {
                        spec.mounts.retain(|mount| mount.destination != "/dev");
                    }
                    let names = ["hosts", "resolv.conf", "hostname"];
                    for (index, name) in names.iter().enumerate() {
                        spec.mounts.push(bind_mount(index, &format!("/etc/{name}")));
                    }
                    spec.mounts.push(bind_mount(3, "/run/volume"));
                    let mounts = names
                        .iter()
                        .map(|name| files.join(name))
                        .chain([files.clone()])
                        .map(|path| bind(Source::Path(&path), true).unwrap())
                        .collect();
                    // It may start or be refused; it may not reach out.
                    let _ = bench.run_with(&root, &spec, mounts);
                    canary.must_be_unchanged(&format!("{place} -> {target}"));
                    for name in names {
                        let text = fs::read_to_string(files.join(name)).unwrap();
                        assert_eq!(text, format!("ours {name}\n"));
                    }
                }
            }
        }
    });
}

/// Links inside the image that images really have go on working.
#[test]
fn absolute_links_inside_an_image_are_followed_inside() {
    inside_both(
        "absolute_links_inside_an_image_are_followed_inside",
        |bench| {
            let root = bench.rootfs("root");
            fs::create_dir(root.join("run")).unwrap();
            symlink("/run", root.join("var/run")).unwrap();
            symlink("/var/state", root.join("state")).unwrap();
            let volume = bench.directory.path().join("volume");
            fs::create_dir(&volume).unwrap();
            fs::write(volume.join("file"), "here\n").unwrap();
            let mut spec = container(shell("cat /run/a/file /var/state/b/file"));
            spec.mounts
                .extend([bind_mount(0, "/var/run/a"), bind_mount(1, "/state/b")]);
            let mount = || bind(Source::Path(&volume), true).unwrap();
            let output = bench
                .run_with(&root, &spec, vec![mount(), mount()])
                .unwrap();
            assert_eq!(output.stdout, "here\nhere\n");
            assert!(root.join("var/state/b").is_dir());
        },
    );
}

/// A mount point that another container exchanges for a link meanwhile.
#[test]
fn cve_2021_30465() {
    inside_both("cve_2021_30465", |bench| {
        let root = bench.rootfs("root");
        fs::write(root.join("marker"), "marker\n").unwrap();
        let canary = Canary::new(bench);
        let volume = bench.directory.path().join("volume");
        fs::create_dir_all(volume.join("place")).unwrap();
        // Followed outside, the mount point would be made there.
        symlink(canary.path.join("pts"), volume.join("other")).unwrap();
        let payload = bench.directory.path().join("payload");
        fs::create_dir(&payload).unwrap();
        fs::write(payload.join("loot"), "loot\n").unwrap();
        while_exchanged(&volume, || {
            for _ in 0..rounds(60) {
                let mut spec = container(shell("cat /marker; ls /"));
                spec.mounts.extend([
                    bind_mount(0, "/volume"),
                    bind_mount(1, "/volume/place/in/new"),
                ]);
                let mounts = vec![bench.mount(&volume), bench.mount(&payload)];
                if let Ok(output) = bench.run_with(&root, &spec, mounts) {
                    assert!(output.stdout.starts_with("marker\n"), "{output:?}");
                }
                canary.must_be_unchanged("an exchanged mount point");
            }
        });
        a_link_to_proc_is_not_mounted_on(bench);
    });
}

/// What is looked at is what is mounted on: a link that takes the place of the directory between the two
/// does not bring the mount to where it is not allowed.
fn a_link_to_proc_is_not_mounted_on(bench: &Bench) {
    let root = bench.rootfs("proc");
    let volume = bench.directory.path().join("exchanged");
    fs::create_dir_all(volume.join("place")).unwrap();
    symlink("/proc/sys", volume.join("other")).unwrap();
    let payload = bench.directory.path().join("settings");
    fs::create_dir_all(payload.join("kernel")).unwrap();
    fs::write(payload.join("kernel/ostype"), "false\n").unwrap();
    while_exchanged(&volume, || {
        for _ in 0..rounds(60) {
            let mut spec = container(shell("cat /proc/sys/kernel/ostype"));
            spec.mounts
                .extend([bind_mount(0, "/volume"), bind_mount(1, "/volume/place")]);
            let mounts = vec![
                bind(Source::Path(&volume), true).unwrap(),
                bind(Source::Path(&payload), true).unwrap(),
            ];
            if let Ok(output) = bench.run_with(&root, &spec, mounts) {
                assert_eq!(output.stdout, "Linux\n", "{output:?}");
            }
        }
    });
}

/// Does something while `place` and `other` in a folder take each other's place all the time.
fn while_exchanged(folder: &Path, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let (one, other) = (folder.join("place"), folder.join("other"));
            while !stop.load(Ordering::Relaxed) {
                exchange(&one, &other);
            }
        });
        work();
    });
}

/// Ends a race when the test body does, however it ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn exchange(one: &Path, other: &Path) {
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        one,
        rustix::fs::CWD,
        other,
        rustix::fs::RenameFlags::EXCHANGE,
    )
    .unwrap();
}

/// Named pipes, devices and endless files in the place of passwd do not stop or fool a start.
#[test]
fn hostile_passwd_files_are_refused_in_bounded_time() {
    inside_both(
        "hostile_passwd_files_are_refused_in_bounded_time",
        |bench| {
            let root = bench.rootfs("root");
            let passwd = root.join("etc/passwd");
            let start = || bench.run(&root, &container(program(&["/bin/true"])));
            fs::remove_file(&passwd).unwrap();
            assert_eq!(start().unwrap().code, 0, "no file is no error");
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &passwd,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o666),
                0,
            )
            .unwrap();
            refused(start(), "a named pipe");
            fs::remove_file(&passwd).unwrap();
            symlink("/dev/zero", &passwd).unwrap();
            refused(start(), "a device");
            fs::remove_file(&passwd).unwrap();
            fs::File::create(&passwd).unwrap().set_len(1 << 40).unwrap();
            refused(start(), "a file of 1 TiB");
            fs::remove_file(&passwd).unwrap();
            symlink("passwd", &passwd).unwrap();
            refused(start(), "a link to itself");
        },
    );
}

fn terminal_output(bench: &Bench, root: &Path, spec: &ContainerSpec) -> String {
    let (spec, namespaces) = bench.users_of(spec);
    let fds = ContainerFds {
        stdio: Stdio::default(),
        rootfs: bench.mount(root),
        mounts: vec![],
        namespaces,
    };
    let mut prepared = bench.launcher.prepare(&spec, fds).unwrap();
    let mut master = fs::File::from(prepared.take_pty_master().unwrap());
    prepared.start().unwrap();
    let mut said = vec![];
    // A terminal without a process answers EIO.
    let _ = master.read_to_end(&mut said);
    bench.exit_code(prepared.pid());
    prepared
        .cgroup()
        .unwrap()
        .remove(Duration::from_secs(5))
        .unwrap();
    String::from_utf8_lossy(&said).into_owned()
}
