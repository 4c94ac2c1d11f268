//! Both engines with user namespaces for every container: what they refuse and what is inside.

use lighter_tests::{Host, Reference, env};

use crate::script::same_of;

#[test]
fn containers_with_user_namespaces_are_as_dockerds() {
    let name = "containers_with_user_namespaces_are_as_dockerds";
    let (Some(host), Some(reference)) = (Host::new(), Reference::with_user_namespaces(name)) else {
        return env::skip(name, "there is nothing to compare");
    };
    host.lighter(&["config", "set", "engine.userns-remap", "true"])
        .ok();
    host.lighter(&["up"]).ok();
    host.docker(&["tag", "lighter/hello", "busybox"]).ok();
    let archive = host.home().join("busybox.tar").display().to_string();
    host.docker(&["save", "-o", &archive, "busybox"]).ok();
    reference.docker(&["load", "-i", &archive]).ok();
    same_of(
        &host,
        &reference,
        r#"
        R --privileged busybox true
        R --privileged --pid host busybox true
        run --rm --network host busybox true
        R --pid host busybox true
        R --pid host --network host --privileged busybox true
        run --rm --userns host --pid host --network host --privileged busybox id -u
        R --userns bogus busybox true
        R --userns private busybox true
        R --userns host busybox cat /proc/self/uid_map
        R busybox cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
        R busybox id
        R --user 1000:7 busybox id
        R --user 65535 busybox id
        R --user 65536 busybox true
        R --user 0:70000 busybox true
        R --group-add 70000 busybox true
        R busybox cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start
        R --sysctl 'net.ipv4.ping_group_range=0 1000' busybox cat /proc/sys/net/ipv4/ping_group_range
        R busybox stat -c '%u:%g %n' / /proc /proc/1 /dev /dev/pts /dev/shm /etc/hosts /etc/resolv.conf
        R busybox grep Cap /proc/self/status
        R busybox sh -c 'mknod /x c 1 3; mknod /dev/x c 1 3; echo x >/dev/null; head -c 1 /dev/zero | wc -c'
        R --cap-add ALL busybox sh -c 'mknod /x c 1 3; mount -t tmpfs none /tmp && umount /tmp; hostname x && hostname'
        R busybox sh -c 'echo 1 >/proc/sys/vm/drop_caches; echo x >/proc/self/oom_score_adj'
        R --tmpfs /t:uid=5,gid=6,mode=700 busybox stat -c '%u:%g %a' /t
        R --read-only busybox touch /x
        R --uts host busybox true
        R -v vol:/etc busybox sh -c 'touch /etc/made; chown 5:6 /etc/made; stat -c %u:%g /etc /etc/made /etc/passwd'
        R -v vol:/v busybox stat -c %u:%g /v /v/made
        volume rm vol
        C --name kept --userns host busybox true
        inspect -f '{{json .HostConfig.UsernsMode}} {{json .HostConfig.SecurityOpt}}' kept
        rm kept
        D --name mapped --ipc shareable busybox sh -c 'echo shared >/dev/shm/file; touch /etc/owned; chown 7:8 /etc/owned; touch /etc/made; exec sleep 1000'
        inspect -f '{{json .HostConfig.UsernsMode}}' mapped
        exec mapped sh -c 'until [ -e /etc/made ]; do :; done'
        exec mapped stat -c %u:%g /etc/owned /etc/made
        exec --privileged mapped sh -c 'id -u; mknod /x c 1 3'
        exec --user 5:6 mapped id
        exec --user 70000 mapped true
        exec -t mapped stat -c %u:%g /dev/pts/0
        # Process ids.
        ~ top mapped -o pid,uid,user,args
        # dockerd tells two files of one folder in any order.
        exec mapped rm /etc/made
        diff mapped
        run --rm --network container:mapped busybox sh -c 'cat /proc/self/uid_map; ls /sys/class/net'
        R --ipc container:mapped busybox sh -c 'cat /proc/self/uid_map /dev/shm/file'
        R --pid container:mapped busybox sh -c 'cat /proc/self/uid_map /proc/1/comm'
        R --userns host --pid container:mapped busybox sh -c 'cat /proc/self/uid_map /proc/1/comm'
        run --rm --userns host --network container:mapped busybox ls /sys/class/net
        commit mapped copy
        R copy stat -c '%u:%g %n' /etc/owned /
        rm -f mapped
        rmi copy
        "#,
    );
    host.lighter(&["down", "--force"]).ok();
}
