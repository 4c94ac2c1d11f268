//! What a container may do: capabilities, devices, masked paths, and what `--privileged` opens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;

use common::{container, inside, program, shell};
use lighter_runtime::{Capabilities, ProcessSpec, caps};

/// Capabilities are dockerd's in each set, for each way in: none is inheritable or ambient unless it was
/// asked for.
#[test]
fn cve_2025_27612() {
    inside("cve_2025_27612", |bench| {
        let root = bench.rootfs("root");
        let script = "grep ^Cap /proc/self/status";
        let default = "00000000a80425fb";
        let none = "0000000000000000";
        let all = format!("{:016x}", caps::all());
        let lines = |[inh, prm, eff, bnd, amb]: [&str; 5]| {
            format!(
                "CapInh:\t{inh}\nCapPrm:\t{prm}\nCapEff:\t{eff}\nCapBnd:\t{bnd}\nCapAmb:\t{amb}\n"
            )
        };
        let process = |user: &str, mask: u64| {
            let mut process = shell(script);
            process.user = user.into();
            process.capabilities = Capabilities::docker(mask);
            process
        };
        let added = format!("{:016x}", caps::DEFAULT | 1 << 12);
        let golden: [(ProcessSpec, String); 6] = [
            (
                process("", caps::DEFAULT),
                lines([none, default, default, default, none]),
            ),
            (
                process("1000", caps::DEFAULT),
                lines([none, none, none, default, none]),
            ),
            (
                process("", caps::all()),
                lines([none, &all, &all, &all, none]),
            ),
            (
                process("app", caps::all()),
                lines([none, none, none, &all, none]),
            ),
            (process("", 0), lines([none, none, none, none, none])),
            (
                process("", caps::DEFAULT | 1 << 12),
                lines([none, &added, &added, &added, none]),
            ),
        ];
        // An engine that itself has inheritable and ambient capabilities hands none on.
        raise_inheritable();
        let running = bench.stay(&root, &container(program(&["sleep", "100"])));
        for (process, expected) in golden {
            assert_eq!(
                bench
                    .run(&root, &container(process.clone()))
                    .unwrap()
                    .stdout,
                expected
            );
            assert_eq!(running.exec(process.clone()).unwrap().stdout, expected);
            let mut spec = container(process);
            spec.init = true;
            assert_eq!(bench.run(&root, &spec).unwrap().stdout, expected);
        }
    });
}

/// Gives this process inheritable and ambient CAP_NET_ADMIN and CAP_CHOWN.
fn raise_inheritable() {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    let both = CapabilitySet::CHOWN | CapabilitySet::NET_ADMIN;
    let now = capabilities(None).unwrap();
    let sets = CapabilitySets {
        inheritable: both,
        ..now
    };
    set_capabilities(None, sets).unwrap();
    for one in [CapabilitySet::CHOWN, CapabilitySet::NET_ADMIN] {
        rustix::thread::configure_capability_in_ambient_set(one, true).unwrap();
    }
}

/// A node for the machine's disk can be made and not opened.
#[test]
fn devices_outside_the_list_do_not_open() {
    inside("devices_outside_the_list_do_not_open", |bench| {
        let root = bench.rootfs("root");
        // Every device of the machine, by its numbers.
        let mut nodes = String::new();
        for line in fs::read_to_string("/proc/partitions")
            .unwrap()
            .lines()
            .skip(2)
        {
            let fields: Vec<_> = line.split_whitespace().collect();
            nodes.push_str(&format!("b {} {}\n", fields[0], fields[1]));
        }
        for (major, minor) in [
            (1, 1),
            (1, 2),
            (1, 4),
            (1, 11),
            (10, 229),
            (4, 64),
            (10, 232),
        ] {
            nodes.push_str(&format!("c {major} {minor}\n"));
        }
        fs::write(root.join("nodes"), &nodes).unwrap();
        let script = "i=0; while read kind major minor; do i=$((i+1)); \
                      mknod /tmp/n$i $kind $major $minor || { echo mknod $kind $major $minor; continue; }; \
                      for how in r w; do \
                        if [ $how = r ]; then timeout 1 dd if=/tmp/n$i of=/dev/null count=1 2>/tmp/e; \
                        else timeout 1 dd if=/dev/zero of=/tmp/n$i count=0 conv=notrunc 2>/tmp/e; fi && \
                        echo opened $kind $major $minor; \
                        grep -q 'Operation not permitted' /tmp/e || cat /tmp/e; \
                      done; done < /nodes; \
                      for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo no $d; done; \
                      head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x >/dev/null && echo end";
        let output = bench.run(&root, &container(shell(script))).unwrap();
        assert_eq!(output.stdout, "4\n4\nend\n", "{output:?}");
        // --device
        let mut spec = container(shell(
            "stat -c %t:%T:%a /dev/deep/zero; head -c 3 /dev/deep/zero | wc -c",
        ));
        spec.devices.push(lighter_runtime::Device {
            path: "/dev/deep/zero".into(),
            kind: lighter_runtime::DeviceKind::Char,
            major: 1,
            minor: 5,
            mode: 0o640,
            uid: 0,
            gid: 0,
        });
        assert_eq!(bench.run(&root, &spec).unwrap().stdout, "1:5:640\n3\n");
        // A rule that takes away writing leaves reading.
        let mut spec = container(shell(
            "head -c 1 /dev/zero | wc -c; echo > /dev/zero || echo refused",
        ));
        spec.device_rules.push(lighter_runtime::DeviceRule {
            allow: false,
            access: lighter_runtime::DeviceAccess::parse("w").unwrap(),
            ..lighter_runtime::DeviceRule::char_device(1, 5)
        });
        assert_eq!(bench.run(&root, &spec).unwrap().stdout, "1\nrefused\n");
    });
}

/// What `--privileged` opens, and only then.
#[test]
fn privileged_containers_have_the_machines_devices_and_no_masks() {
    inside(
        "privileged_containers_have_the_machines_devices_and_no_masks",
        |bench| {
            let root = bench.rootfs("root");
            let script = "mount -t tmpfs none /tmp && echo mounted; [ -n \"$(head -c 1 /proc/timer_list)\" ] && echo list; \
                      grep Seccomp: /proc/self/status | cut -f2; [ -c /dev/kmsg ] && echo kmsg; \
                      grep -c ' /sys/fs/cgroup cgroup2 rw' /proc/mounts; mkdir /sys/fs/cgroup/below && echo cgroup; \
                      rmdir /sys/fs/cgroup/below";
            let mut spec = container(shell(script));
            spec.make_privileged();
            let output = bench.run(&root, &spec).unwrap();
            assert_eq!(
                output.stdout, "mounted\nlist\n0\nkmsg\n1\ncgroup\n",
                "{output:?}"
            );
            let output = bench.run(&root, &container(shell(script))).unwrap();
            assert_eq!(output.stdout, "2\n0\n", "{output:?}");
        },
    );
}

/// Every masked path is empty and every read-only one cannot be written: the ways of CVE-2022-0492 and its
/// like to a program that the kernel starts outside (`core_pattern`, `modprobe`, `uevent_helper`,
/// `release_agent`, `binfmt_misc`).
#[test]
fn cve_2022_0492_masked_and_read_only_paths_hold() {
    inside("cve_2022_0492_masked_and_read_only_paths_hold", |bench| {
        let root = bench.rootfs("root");
        // By their names, not by what the specification says: a path that is missing there is missed here.
        let masked = "/proc/asound /proc/acpi /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats \
                      /proc/timer_list /proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware \
                      /sys/devices/virtual/powercap";
        let spec = container(shell(
            "for p in $MASKED; do [ -e $p ] || continue; [ -d $p ] && ls -A $p || head -c 64 $p 2>/dev/null; \
               grep -q \" $p \" /proc/mounts || echo bare $p; done; \
             for p in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hotplug \
               /proc/sys/fs/binfmt_misc/register /proc/sysrq-trigger /proc/sys/vm/drop_caches \
               /proc/irq/default_smp_affinity /proc/bus/pci/devices /proc/fs/nfsd /sys/kernel/mm/ksm/run \
               /sys/kernel/uevent_helper /sys/power/state /sys/fs/cgroup/cgroup.procs \
               /sys/fs/cgroup/release_agent; do \
               [ -e $p ] && (: >> $p) 2>/dev/null && echo opened $p; done; \
             mount -o remount,rw /proc/sys 2>/dev/null && echo remounted; \
             umount /proc/keys 2>/dev/null && echo unmounted; echo end",
        ));
        let mut spec = spec;
        spec.process.env.push(format!("MASKED={masked}"));
        assert_eq!(bench.run(&root, &spec).unwrap().stdout, "end\n");
    });
}

/// No process comes into a keyring that somebody else has laid out under the name it would have.
#[test]
fn keyrings_are_not_shared_by_name() {
    inside("keyrings_are_not_shared_by_name", |bench| {
        let root = bench.rootfs("root");
        let mut spec = container(program(&["sleep", "100"]));
        let names = ["exec".to_owned(), spec.id.clone()];
        let laid_out = names.map(|name| open_keyring(&format!("_ses.{name}")));
        // /proc/keys shows what the reader may see: these only if it possesses them.
        spec.make_privileged();
        let running = bench.stay(&root, &spec);
        let seen = |process| running.exec(process).unwrap().stdout;
        let mut keys = seen(shell("cat /proc/keys"));
        drop(running);
        spec.process = shell("cat /proc/keys");
        spec.process.seccomp = lighter_runtime::Seccomp::Unconfined;
        keys.push_str(&bench.run(&root, &spec).unwrap().stdout);
        assert!(keys.contains(" _ses: "), "{keys}");
        for keyring in laid_out {
            assert!(!keys.contains(&format!("{keyring:08x}")), "{keys}");
        }
    });
}

/// Makes a keyring that any process of this user finds by its name, and only who has it can see.
fn open_keyring(name: &str) -> i64 {
    const SETPERM: i32 = 5;
    const POSSESSOR_ALL_USER_SEARCH: u32 = 0x3f08_0000;
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: the name is NUL-terminated and lives until the call returns; the second takes integers.
    unsafe {
        let join = libc::KEYCTL_JOIN_SESSION_KEYRING;
        let keyring = libc::syscall(libc::SYS_keyctl, join, name.as_ptr());
        assert!(keyring > 0, "{}", std::io::Error::last_os_error());
        let set = libc::syscall(
            libc::SYS_keyctl,
            SETPERM,
            keyring,
            POSSESSOR_ALL_USER_SEARCH,
        );
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        keyring
    }
}
