//! The files of a container's group, and what is refused or warned of on the way there.

use super::{beside, same};

#[test]
fn limits_as_the_container_sees_them() {
    same(
        "limits_as_the_container_sees_them",
        r"
        R busybox LOOK
        R -m 64m busybox LOOK
        R -m 64m --memory-swap 96m --memory-reservation 32m --cpus 0.5 --pids-limit 20 --cpuset-cpus 0 --cpuset-mems 0 --cpu-shares 512 busybox LOOK
        R -m 64m --memory-swap -1 --memory-swappiness 10 --oom-kill-disable --pids-limit -1 --cpu-period 50000 --cpu-quota 25000 --cpu-shares 2 busybox LOOK
        R --memory-reservation 32m --cpu-quota 30000 --cpu-shares 262144 --pids-limit 0 --cpuset-cpus 0-1 busybox LOOK
        + R --cpu-period 20000 --cpu-shares 1 --memory-swappiness 0 busybox LOOK
        R --cpu-shares 1024 --cpus 1.999 --memory-swap -1 busybox LOOK
        + R --cpu-shares 300000 --cpus 0.01 busybox LOOK
        R --device-read-bps /dev/vda:1mb --device-write-bps /dev/vda:2mb --device-read-iops /dev/vda:100 --device-write-iops /dev/vda:200 busybox cat /sys/fs/cgroup/io.max
        + R --privileged --cgroupns host busybox sed s,[0-9a-f]*$,, /proc/self/cgroup
        R --cgroupns host busybox sed s,[0-9a-f]*$,, /proc/self/cgroup
        + R --cgroupns private busybox cat /proc/self/cgroup
        R busybox sh -c 'echo 5 > /sys/fs/cgroup/pids.max; mkdir /sys/fs/cgroup/x; grep cgroup /proc/mounts'
        R --privileged busybox sh -c 'cd /sys/fs/cgroup && mkdir x && cat x/cgroup.controllers && echo 5 > x/pids.max && cat x/pids.max; grep cgroup /proc/mounts'
        ",
    );
}

#[test]
fn limits_that_are_refused_or_warned_of() {
    same(
        "limits_that_are_refused_or_warned_of",
        r"
        C --name ab -m 5m busybox true
        C --name ab -m 64m --memory-swap 32m busybox true
        C --name ab --memory-swap 64m busybox true
        C --name ab -m 64m --memory-reservation 128m busybox true
        C --name ab --memory-reservation 1m busybox true
        C --name ab --memory-swappiness 101 busybox true
        C --name ab --memory-swappiness -2 busybox true
        C --name ab --kernel-memory 64m busybox true
        C --name ab --kernel-memory 1m busybox true
        C --name ab --cpus 3 busybox true
        C --name ab --cpus -1 busybox true
        C --name ab --cpus 0.001 busybox true
        C --name ab --cpus 1 --cpu-quota 1000 busybox true
        C --name ab --cpus 1 --cpu-period 1000 busybox true
        C --name ab --cpu-period 999 busybox true
        C --name ab --cpu-period 1000001 busybox true
        C --name ab --cpu-quota 999 busybox true
        C --name ab --cpu-shares -1 busybox true
        C --name ab --cpu-rt-period 1000 busybox true
        C --name ab --cpu-rt-runtime 1000 busybox true
        C --name ab --cpuset-cpus 9 busybox true
        C --name ab --cpuset-cpus 1-0 busybox true
        C --name ab --cpuset-cpus , busybox true
        C --name ab --cpuset-mems x busybox true
        C --name ab --blkio-weight 9 busybox true
        C --name ab --blkio-weight 1001 busybox true
        C --name ab --blkio-weight-device /dev/vda:5 busybox true
        C --name ab --blkio-weight-device nonsense busybox true
        C --name ab --device-read-bps /dev/vda:0 busybox true
        C --name ab --device-read-bps vda:1mb busybox true
        C --name ab --device-read-iops /dev/vda:x busybox true
        C --name ab --pids-limit -2 busybox true
        inspect -f '{{.HostConfig.PidsLimit}}' ab
        rm ab
        C --name ab --shm-size 0 busybox true
        inspect -f '{{.HostConfig.ShmSize}}' ab
        rm ab
        C --name ab --oom-score-adj 1001 busybox true
        C --name ab --oom-kill-disable busybox true
        inspect -f '{{json .HostConfig.OomKillDisable}} {{json .HostConfig.MemorySwappiness}}' ab
        rm ab
        C --name ab -m 64m --memory-swappiness 60 --oom-kill-disable=false busybox true
        inspect -f '{{json .HostConfig.OomKillDisable}} {{json .HostConfig.MemorySwappiness}} {{.HostConfig.MemorySwap}}' ab
        rm ab
        C --name ab --device-read-bps /dev/none:1mb busybox true
        start ab
        rm ab
        C --name ab --device-read-bps /dev/null:1mb busybox true
        # runc says where it was.
        ~ start ab
        wait ab
        rm ab
        C --name ab -m 64m --cpus 0.5 --cpuset-cpus 0 --pids-limit 9 --device-write-iops /dev/vda:7 --ulimit nofile=5:6 --cgroup-parent /p busybox true
        inspect -f '{{json .HostConfig}}' ab
        rm ab
        info -f '{{.CgroupVersion}} {{.CgroupDriver}} {{.MemoryLimit}} {{.SwapLimit}} {{.CPUCfsPeriod}} {{.CPUCfsQuota}} {{.CPUShares}} {{.CPUSet}} {{.PidsLimit}} {{.OomKillDisable}} {{.KernelMemoryTCP}}'
        info -f '{{json .Warnings}}'
        info -f '{{json .SecurityOptions}} {{.NCPU}} {{.MemTotal}} {{.KernelVersion}}'
        ",
    );
}

#[test]
fn a_parent_of_the_users_own() {
    same(
        "a_parent_of_the_users_own",
        r"
        R --cgroup-parent /users/own --cgroupns host busybox sed -e s,docker/,, -e s,[0-9a-f]*$,, /proc/self/cgroup
        R --cgroup-parent ../../outside --cgroupns host busybox sed -e s,docker/,, -e s,[0-9a-f]*$,, /proc/self/cgroup
        + R --cgroup-parent users --pids-limit 9 busybox cat /sys/fs/cgroup/pids.max
        + R --cgroup-parent a.slice busybox true
        ",
    );
}

/// The machine's kernel has no weights: dockerd finds that out when it starts a container, and its start fails.
#[test]
fn weights_of_disks_are_left_out_and_that_is_said() {
    let Some(beside) = beside("weights_of_disks_are_left_out_and_that_is_said") else {
        return;
    };
    let ours = |words: &[&str]| beside.ours.docker(words).ok();
    let discarded = "or the cgroup is not mounted. Weight discarded.";
    let flags = [
        "--blkio-weight",
        "300",
        "--blkio-weight-device",
        "/dev/vda:200",
    ];
    let run = ["run", "--name", "weighty", "--network", "none"];
    let said = ours(&[&run[..], &flags, &["busybox", "true"]].concat()).err();
    assert!(said.contains(discarded), "{said}");
    assert!(said.contains("Weight-device discarded."), "{said}");
    let format = "{{.HostConfig.BlkioWeight}} {{json .HostConfig.BlkioWeightDevice}}";
    let shown = ours(&["inspect", "-f", format, "weighty"]).out();
    assert_eq!(shown, "0 []\n");
    let said = ours(&["update", "--blkio-weight", "300", "weighty"]);
    assert!(said.out().contains(discarded), "{said:?}");
    ours(&["rm", "weighty"]);
}
