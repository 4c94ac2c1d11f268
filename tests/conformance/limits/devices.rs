//! The device filter, limits of a process, kernel settings and /dev/shm.

use super::same;

#[test]
fn devices_and_the_rules_for_them() {
    same(
        "devices_and_the_rules_for_them",
        r"
        D --name plain busybox sleep 1000
        exec plain sh -c 'mknod /kmsg c 1 11 && head -c 1 /kmsg | wc -c'
        exec plain sh -c 'mknod /disk b 254 0 && head -c 1 /disk | wc -c'
        exec plain sh -c 'mknod /zero c 1 5 && head -c 1 /zero | wc -c'
        rm -f plain
        D --name ruled --device-cgroup-rule 'c 1:11 r' --device-cgroup-rule 'b 254:* rm' --device /dev/zero:/dev/z:r --device /dev/full:/dev/f:w --device /dev/vda:/dev/disk:r busybox sleep 1000
        exec ruled sh -c 'mknod /kmsg c 1 11; dd if=/kmsg bs=8192 count=1 2>/dev/null | wc -c | grep -vc ^0$'
        exec ruled sh -c 'echo x > /kmsg'
        exec ruled sh -c 'mknod /d b 254 0; head -c 1 /d | wc -c; echo x > /d'
        exec ruled sh -c 'stat -c \'%n %A %t:%T\' /dev/z /dev/f /dev/disk; head -c 1 /dev/z | wc -c; head -c 1 /dev/disk | wc -c; echo > /dev/disk'
        exec ruled sh -c 'echo x > /dev/f; echo x > /dev/z'
        inspect -f '{{json .HostConfig.Devices}} {{json .HostConfig.DeviceCgroupRules}}' ruled
        rm -f ruled
        + R --device-cgroup-rule 'a *:* rwm' busybox sh -c 'mknod /d b 254 0; head -c 1 /d | wc -c'
        R --device-cgroup-rule nonsense busybox true
        R --device-cgroup-rule 'c 1:1 x' busybox true
        R --device-cgroup-rule 'd 1:1 r' busybox true
        R --device /dev/net:/dev/own busybox stat -c '%n %A %t:%T' /dev/own
        R --device /dev/pts:/dev/own busybox true
        + R --device /dev:/dev/all busybox sh -c 'ls /dev/all/vda /dev/all/kmsg /dev/all/net/tun /dev/all/fd'
        R --device /etc/passwd busybox true
        R --device /dev/zero:relative busybox true
        + R --privileged busybox sh -c 'head -c 1 /dev/vda | wc -c; stat -c \'%n %A %t:%T\' /dev/vda /dev/kmsg'
        R --privileged --device /dev/zero:/dev/own busybox stat -c '%n %A %t:%T' /dev/own
        ",
    );
}

#[test]
fn limits_of_a_process() {
    same(
        "limits_of_a_process",
        r"
        R busybox cat /proc/self/limits
        R --ulimit nofile=50:60 --ulimit nproc=100 --ulimit core=-1 --ulimit memlock=1024:2048 --ulimit stack=65536 --ulimit cpu=7 --ulimit fsize=1000000 --ulimit rtprio=3 --ulimit nice=5:6 busybox cat /proc/self/limits
        # The words of another version of runc.
        ~ R --ulimit nofile=-1 busybox true
        ~ R --ulimit nofile=50:-1 busybox true
        R --ulimit data=7:6 busybox true
        + R --privileged --oom-score-adj -500 busybox cat /proc/self/oom_score_adj
        R --init busybox sh -c 'cat /proc/1/comm; cat /proc/self/oom_score_adj'
        R --shm-size 3m busybox sh -c 'df -k /dev/shm | tail -1; grep /dev/shm /proc/mounts'
        ",
    );
}

#[test]
fn settings_of_the_kernel() {
    same(
        "settings_of_the_kernel",
        r"
        R --sysctl net.ipv4.ip_forward=1 --sysctl net.core.somaxconn=77 --sysctl kernel.shmmax=4096 --sysctl kernel.sem='1 2 3 4' --sysctl fs.mqueue.msg_max=20 --sysctl kernel.msgmax=100 --sysctl net.ipv4.ip_unprivileged_port_start=1000 busybox sh -c 'cd /proc/sys; cat net/ipv4/ip_forward net/core/somaxconn kernel/shmmax kernel/sem fs/mqueue/msg_max kernel/msgmax net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range'
        + R --sysctl kernel.domainname=example.org busybox cat /proc/sys/kernel/domainname
        R --sysctl kernel.hostname=own busybox hostname
        R --sysctl vm.swappiness=1 busybox true
        R --sysctl fs.file-max=1 busybox true
        # runc tells how it opened the file.
        ~ R --sysctl net.ipv4.no_such=1 busybox true
        ~ R --sysctl net.ipv4.ip_forward=nonsense busybox true
        + R --sysctl net/ipv4/ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward
        R --sysctl =1 busybox true
        R --ipc host --sysctl kernel.shmmax=4096 busybox true
        + R --uts host --sysctl kernel.domainname=x busybox true
        run --rm --network host --sysctl net.ipv4.ip_forward=1 busybox true
        + R --privileged --sysctl vm.swappiness=1 busybox true
        ",
    );
}
